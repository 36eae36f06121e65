"""One name twice in one value: attention without a rename, a pairwise difference, a column minus a row.

Only the forward pass is looked at: the backward pass repeats it, and optimizers multiply a gradient by itself on
purpose.
"""

from collections.abc import Iterator

from ir.graph import Node, Value
from ir.ops import op_of
from passes import errors
from passes.checks.finding import Finding, finding
from passes.checks.program import Program
from passes.checks.provenance import chain


def check(program: Program) -> Iterator[Finding]:
    """Each place where a name becomes two dims, once for each line."""
    seen: set[tuple[object, str]] = set()
    for node in program.nodes:
        if not op_of(node).doubles_names or node.phase != "forward":
            continue
        for name in _doubled(node):
            if "/" in name:  # two halves of two things may be called alike by `ir.staging.unify`
                continue
            bringing = [value for value in node.value_inputs if name in value.type.names]
            # Names that were only inferred (an identity matrix added to a square one) are nobody's mistake.
            if not bringing or (node.source, name) in seen or not all(chain(program, v, name).flows for v in bringing):
                continue
            seen.add((node.source, name))
            what, fix = errors.twice(name, node.outputs[0].type, op_of(node).multiplies)
            yield finding(program, "twice", node, what, fix, node.inputs, [(name, value) for value in bringing])


def _doubled(node: Node) -> list[str]:
    """Names that the result has twice and no operand has."""
    names = node.outputs[0].type.names
    return [
        name
        for name in dict.fromkeys(names)
        if names.count(name) > 1 and not any(_count(operand, name) > 1 for operand in node.inputs)
    ]


def _count(operand: object, name: str) -> int:
    return operand.type.names.count(name) if isinstance(operand, Value) else 0
