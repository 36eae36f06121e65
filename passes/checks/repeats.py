"""A broadcast that repeats one place of an axis along that very axis: `x - x[:1]`, or a batch of one beside a batch.

JAX repeats a dim of size 1 without a word. Where the dim has the name that it is repeated along, or was cut out of it,
each place gets what belongs to another: mostly an index too many.
"""

from collections.abc import Iterator

from ir.graph import Node, Value
from ir.names import is_derived, unprimed, whole
from ir.ops import op_of
from passes.checks import errors
from passes.checks.finding import Finding, finding
from passes.checks.program import Program, spot

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
        if (found := _spread(program, node)) is not None and (spot(node), "") not in seen:
            seen.add((spot(node), ""))
            yield found
        coming = {
            name: cut
            for operand in node.value_inputs
            for name, cut in single.get(operand.id, {}).items()
            if op_of(node).repeats_places
        }
        wide = {dim.name for value in node.outputs for dim in value.type.dims if dim.size > 1}
        for name, cut in coming.items():
            if name in wide and (spot(node), name) not in seen and not _compares(node):
                seen.add((spot(node), name))
                yield _worded(program, node, name, cut)
        for result in node.outputs:
            _note(single, result, {name: cut for name, cut in coming.items() if name not in wide})


def _note(single: dict[int, dict[str, Value]], value: Value, coming: dict[str, Value]) -> None:
    """Remembers the names of which a value is one place only, each with the value where that began."""
    own = {
        name: coming.get(name, value)
        for dim in value.type.dims
        if dim.name is not None and dim.size == 1
        for name in [whole(dim.name)]
    }
    if own or coming:
        single[value.id] = {**coming, **own}


def _compares(node: Node) -> bool:
    """Whether a node compares: each place with one of them, as the first of some times."""
    return op_of(node).is_elementwise and node.outputs[0].type.dtype == "bool"


def _spread(program: Program, node: Node) -> Finding | None:
    """A column minus a row: an axis with one place is repeated along a further occurrence of an axis beside it."""
    if not op_of(node).is_elementwise or len(node.outputs) != 1:
        return None
    for operand in node.value_inputs:
        if len(operand.type.dims) != len(node.outputs[0].type.dims):
            continue
        for dim, made in zip(operand.type.dims, node.outputs[0].type.dims, strict=True):
            given = dim.size == 1 and dim.name is not None and not is_derived(dim.name)
            if given and made.size > 1 and made.name is not None and made.name != unprimed(made.name):
                name = unprimed(made.name)
                if name in operand.type.names:
                    what, fix = errors.spread(str(dim.name), name)
                    explained = [(str(dim.name), operand), (name, operand)]
                    return finding(program, CODE, node, what, fix, node.inputs, explained, "warning")
    return None


def _worded(program: Program, node: Node, name: str, cut: Value) -> Finding:
    size = max(value.type.size_of(name) for value in node.outputs if name in value.type.names)
    what, fix = errors.repeats(name, size)
    operands = dict.fromkeys([cut, *node.inputs])
    return finding(program, CODE, node, what, fix, list(operands), [(name, cut)], "warning")
