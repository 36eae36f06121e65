"""Shapes in the graph that several checks look for: what a value is, seen through casts and broadcasts."""

from collections.abc import Iterator
from dataclasses import dataclass

from ir.graph import Node, Operand, Value
from ir.ops import op_of
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


def _maker(program: Program, operand: Operand) -> Node | None:
    return program.producer.get(operand.id) if isinstance(operand, Value) else None


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
        divides = op_of(node).is_elementwise and node.fn in ("div", "sub")
        if not divides or node.phase != "forward" or len(node.inputs) != 2:
            continue
        whole, part = plain(program, node.inputs[0]), narrow(program, node.inputs[1])
        if node.fn == "sub":
            logarithm = elementwise(program, part, "log")
            if logarithm is None:
                continue
            part = narrow(program, logarithm.inputs[0])
        normalizer = total(program, part)
        if normalizer is None:
            continue
        summed = plain(program, normalizer.inputs[0])
        exponential = elementwise(program, summed, "exp")
        if node.fn == "sub":
            if exponential is None or plain(program, exponential.inputs[0]) != whole:
                continue
        elif summed != whole or exponential is None:
            continue
        yield Normalized(node.outputs[0], node, normalizer.names("over"), exponential.inputs[0])
