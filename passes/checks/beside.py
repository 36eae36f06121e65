"""Two dims that stand beside each other in one value, and meet in another: `[heads, position, size]` whose heads were
split off a projection, merged without a transpose and added to `[position, embed]`, where as many heads as positions
let a reshape pass.

What was split, cut or joined has no name of its own and takes the one that it meets, except that of a dim beside it:
the two are different axes, whatever they are called.
"""

from collections.abc import Iterator

from ir.graph import Node, Operand, Value
from ir.names import is_derived, is_made, same_axis
from ir.ops import op_of
from passes.checks import errors
from passes.checks.finding import Finding, finding
from passes.checks.program import Program, spot

CODE = "beside"


def check(program: Program) -> Iterator[Finding]:
    """Each element by element operation on two dims that one value has, once for each line."""
    seen: set[object] = set()
    for node in program.nodes:
        if node.phase != "forward" or not op_of(node).is_elementwise or len(node.inputs) < 2:
            continue
        for (derived, operand), (given, other) in _meetings(node):
            both = _with_both(program, derived, given)
            if both is not None and spot(node) not in seen:
                seen.add(spot(node))
                what, fix = errors.beside(derived, given, program.source_of(both))
                names = [(given, other), (derived, both)]
                yield finding(program, CODE, node, what, fix, [operand, other, both], names, "warning")


def _meetings(node: Node) -> Iterator[tuple[tuple[str, Operand], tuple[str, Operand]]]:
    """What has a derived name and what has a given one at the same place, each with its operand."""
    rank = len(node.outputs[0].type.dims)
    operands = [operand for operand in node.inputs if len(operand.type.dims) == rank]
    for place in range(rank):
        here = [(dim.name, operand) for operand in operands for dim in [operand.type.dims[place]] if dim.size > 1]
        named = [(name, operand) for name, operand in here if name is not None and not is_made(name)]
        given = next((each for each in named if not is_derived(each[0])), None)
        derived = next((each for each in named if is_derived(each[0])), None)
        if given is not None and derived is not None and not same_axis(given[0], derived[0]):
            yield derived, given


def _with_both(program: Program, first: str, second: str) -> Value | None:
    """The first value that has both dims."""
    for node in program.nodes:
        for value in node.outputs:
            if first in value.type.names and second in value.type.names:
                return value
    return None
