"""A broadcast that repeats one place of an axis along that very axis: `x - x[:1]`, or a batch of one beside a batch.

JAX repeats a dim of size 1 without a word. Where the dim has the name that it is repeated along, or was cut out of it,
each place gets what belongs to another: mostly an index too many.
"""

from collections.abc import Iterator

from ir.graph import Node, Value
from ir.ops import op_of
from passes import errors
from passes.checks.finding import Finding, finding
from passes.checks.program import Program

CODE = "repeat"


def check(program: Program) -> Iterator[Finding]:
    """Each place where what is one place of an axis is repeated along it, once for each line."""
    single: dict[int, dict[str, Value]] = {}
    seen: set[object] = set()
    for value in program.graph.inputs:
        _note(single, value, {})
    for node in program.nodes:
        if node.phase != "forward" or node.bodies:
            continue
        coming = {
            name: cut
            for operand in node.value_inputs
            for name, cut in single.get(operand.id, {}).items()
            if op_of(node).repeats_places
        }
        wide = {dim.name for value in node.outputs for dim in value.type.dims if dim.size > 1}
        for name, cut in coming.items():
            if name in wide and (node.source, name) not in seen:
                seen.add((node.source, name))
                yield _worded(program, node, name, cut)
        for result in node.outputs:
            _note(single, result, {name: cut for name, cut in coming.items() if name not in wide})


def _note(single: dict[int, dict[str, Value]], value: Value, coming: dict[str, Value]) -> None:
    """Remembers the names of which a value is one place only, each with the value where that began."""
    own = {dim.name: coming.get(dim.name, value) for dim in value.type.dims if dim.name is not None and dim.size == 1}
    if own or coming:
        single[value.id] = {**coming, **own}


def _worded(program: Program, node: Node, name: str, cut: Value) -> Finding:
    size = max(value.type.size_of(name) for value in node.outputs if name in value.type.names)
    what, fix = errors.repeats(name, size)
    operands = dict.fromkeys([cut, *node.inputs])
    return finding(program, CODE, node, what, fix, list(operands), [(name, cut)], "warning")
