"""Shapes in the graph that several checks look for: what a value is, seen through casts and broadcasts."""

from collections.abc import Iterator
from dataclasses import dataclass

from ir.graph import Node, Operand, Value
from ir.ops import op_of
from passes.checks.program import Program, is_inserted

_PLAIN = (
    "convert_element_type",
    "stop_gradient",
    "copy",
    "copy_p",
    "named",
    "optimization_barrier",
    "reduce_precision",
)


def plain(program: Program, operand: Operand) -> Operand:
    """What an operand is before casts, and before it crossed into the body that it is read in."""
    while isinstance(operand, Value):
        node = program.producer.get(operand.id)
        feeds = program.feeds.get(operand.id, [])
        if node is not None and op_of(node).is_elementwise and node.fn in _PLAIN and len(node.inputs) == 1:
            operand = node.inputs[0]
        elif len(feeds) == 1:
            operand = feeds[0]
        else:
            break
    return operand


def narrow(program: Program, operand: Operand) -> Operand:
    """What an operand is before it was repeated or got dims of size 1."""
    operand = plain(program, operand)
    while isinstance(operand, Value):
        node = program.producer.get(operand.id)
        widens = node is not None and op_of(node).widens(node)
        if node is None or not widens:
            break
        operand = plain(program, node.inputs[0])
    return operand


def elementwise(program: Program, operand: Operand, *fns: str) -> Node | None:
    """The node behind an operand, where it is one of these functions of elements."""
    node = _maker(program, operand)
    return node if node is not None and op_of(node).is_elementwise and node.fn in fns else None


def total(program: Program, operand: Operand) -> Node | None:
    """The node behind an operand, where it is a sum."""
    node = _maker(program, operand)
    return node if node is not None and op_of(node).sums(node) else None


def counter(program: Program, operand: Operand) -> Node | None:
    """The node behind an operand, where it is 0, 1, 2, …"""
    node = _maker(program, operand)
    return node if node is not None and op_of(node).counts else None


def columns(program: Program, node: Node) -> list[tuple[str, Operand]]:
    """(name, indices) for each axis that a lookup or an update goes along, with the indices that count it; nothing
    where the indices are not put together from one array for each axis."""
    along = node.dims("along")
    if not op_of(node).picks_by_indices or len(node.inputs) < 2 or not along:
        return []
    indices = plain(program, node.inputs[1])
    parts: list[Operand] = [indices]
    if len(along) > 1:
        joint = _maker(program, indices)
        if joint is None or not op_of(joint).joins(joint) or len(joint.inputs) != len(along):
            return []
        parts = list(joint.inputs)
    return [(dim.name, part) for dim, part in zip(along, parts, strict=True) if dim.name is not None]


def indices_of(program: Program, operand: Operand) -> Operand:
    """The array of indices itself, before negative ones were counted from the end, and others limited."""
    operand = narrow(program, operand)
    maker = _maker(program, operand)
    if maker is not None and op_of(maker).renames and is_inserted(maker):
        return indices_of(program, maker.inputs[0])
    wrapped = elementwise(program, operand, "select_n")
    if wrapped is not None and len(wrapped.inputs) == 3:  # select(i < 0, i, i + size)
        first, moved = narrow(program, wrapped.inputs[1]), elementwise(program, wrapped.inputs[2], "add")
        if moved is not None and narrow(program, moved.inputs[0]) == first:
            return indices_of(program, first)
    limited = elementwise(program, operand, "clamp", "max", "min")
    if limited is not None:
        bounded = [each for each in limited.inputs if each.type.dims]
        if len(bounded) == 1:
            return indices_of(program, bounded[0])
    return operand


def _maker(program: Program, operand: Operand) -> Node | None:
    return program.producer.get(operand.id) if isinstance(operand, Value) else None


def _less(program: Program, operand: Operand) -> tuple[Operand, ...]:
    """An operand, and where it is a difference what it was before something was taken away."""
    operand = plain(program, operand)
    difference = elementwise(program, operand, "sub")
    return (operand,) if difference is None else (operand, plain(program, difference.inputs[0]))


@dataclass(frozen=True)
class Normalized:
    """A value that sums to one (or, as a logarithm, whose exponential does) over some names.

    Attributes:
        at: the value.
        node: what made it; `at` may be the same after a transpose or a cast.
    """

    at: Value
    node: Node
    names: tuple[str, ...]
    logits: Operand


def normalized(program: Program) -> Iterator[Normalized]:
    """Every softmax and log-softmax of the forward pass: `u / sum(u)`, `z - log(sum(exp(z)))`, and the latter as
    `z - logsumexp(z)` writes it, with a maximum taken away inside and given back outside."""
    for node in program.nodes:
        divides = op_of(node).is_elementwise and node.fn in ("div", "sub")
        if not divides or node.phase != "forward" or len(node.inputs) != 2:
            continue
        whole, part = plain(program, node.inputs[0]), narrow(program, node.inputs[1])
        if node.fn == "sub":
            shifted = elementwise(program, part, "add")
            parts = [part] if shifted is None else [narrow(program, each) for each in shifted.inputs]
            logarithm = next((found for each in parts if (found := elementwise(program, each, "log"))), None)
            if logarithm is None:
                continue
            part = narrow(program, logarithm.inputs[0])
            absolute = elementwise(program, part, "abs")  # of a sum with signs
            part = part if absolute is None else narrow(program, absolute.inputs[0])
        normalizer = total(program, part)
        if normalizer is None:
            continue
        summed = plain(program, normalizer.inputs[0])
        exponential = elementwise(program, summed, "exp")
        if node.fn == "sub":
            if exponential is None or whole not in _less(program, exponential.inputs[0]):
                continue
        elif summed != whole or exponential is None:
            continue
        yield Normalized(node.outputs[0], node, normalizer.names("over"), exponential.inputs[0])
