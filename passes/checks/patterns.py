"""Shapes in the graph that several checks look for: what a value is, seen through casts and broadcasts."""

from collections.abc import Iterator
from dataclasses import dataclass

from ir.graph import Node, Operand, Value
from passes.checks.program import Program

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
        if node is not None and node.kind == "map" and node.fn in _PLAIN and len(node.inputs) == 1:
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
        widens = node is not None and (
            node.kind == "broadcast" or (node.kind == "reshape" and _same_elements(node) and node.fn != "transpose")
        )
        if node is None or not widens:
            break
        operand = plain(program, node.inputs[0])
    return operand


def _same_elements(node: Node) -> bool:
    before, after = ([dim for dim in v.type.dims if dim.size != 1] for v in (node.inputs[0], node.outputs[0]))
    return [dim.size for dim in before] == [dim.size for dim in after]


def maker(program: Program, operand: Operand, kind: str, *fns: str) -> Node | None:
    """The node behind an operand, where it is of this kind and function."""
    node = program.producer.get(operand.id) if isinstance(operand, Value) else None
    return node if node is not None and node.kind == kind and (not fns or node.fn in fns) else None


@dataclass(frozen=True)
class Normalized:
    """A value that sums to one (or, as a logarithm, whose exponential does) over some names."""

    value: Value
    node: Node
    names: tuple[str, ...]
    logits: Operand


def normalized(program: Program) -> Iterator[Normalized]:
    """Every softmax and log-softmax of the forward pass: `u / sum(u)`, `z - log(sum(exp(z)))`."""
    for node in program.nodes:
        if node.kind != "map" or node.fn not in ("div", "sub") or node.phase != "forward" or len(node.inputs) != 2:
            continue
        whole, part = plain(program, node.inputs[0]), narrow(program, node.inputs[1])
        if node.fn == "sub":
            logarithm = maker(program, part, "map", "log")
            if logarithm is None:
                continue
            part = narrow(program, logarithm.inputs[0])
        total = maker(program, part, "reduce", "sum")
        if total is None:
            continue
        summed = plain(program, total.inputs[0])
        exponential = maker(program, summed, "map", "exp")
        if node.fn == "sub":
            if exponential is None or plain(program, exponential.inputs[0]) != whole:
                continue
        elif summed != whole or exponential is None:
            continue
        yield Normalized(node.outputs[0], node, total.names("over"), exponential.inputs[0])
