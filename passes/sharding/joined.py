"""Sums over devices that a program adds up: they could be added first and reduced once.

Found forwards through one scope: a sum that nothing else reads stays one through what is linear (sums, products with
what is no sum, transposes, reshapes of the same size); where two of one way meet, they join. `joined_sums` finds them
before there are collectives, for the price of a plan; `passes.join_sums` after.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ir.analysis.uses import Uses
from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from ir.types import SUM
from passes.sharding.pending import linear_in

_Way = TypeVar("_Way", bound=Hashable)


@dataclass(frozen=True)
class Late(Generic[_Way]):
    """A value that could be reduced later than what it is made of.

    Attributes:
        way: sums that go one way can be added before they are reduced.
        size: its bytes, on all devices.
        sums: what is reduced.
        moved: by the number of its result, the operand of each collective on the way.
        made: what is made of the sums, this value last.
    """

    way: _Way
    size: int
    sums: tuple[Value, ...]
    moved: Mapping[int, Value] = field(default_factory=dict[int, Value])
    made: tuple[Value, ...] = ()


Found = Callable[[Node, Mapping[int, Late[_Way]]], Late[_Way] | None]
"""What a node itself makes a late value of: the beginning of a way; given the values so far that nothing else reads."""


def joined(graph: Graph, found: Found[_Way]) -> Iterator[tuple[Node, Late[_Way]]]:
    """The nodes of a scope at which sums meet, the last first, each with all that meets there."""
    reads = Uses.of_scope(graph).reads
    late: dict[int, Late[_Way]] = {}
    meeting: list[tuple[Node, Late[_Way]]] = []
    for node in graph.nodes:
        if len(node.outputs) != 1 or entered(node):
            continue
        (result,) = node.outputs
        alone = {value.id: late[value.id] for value in node.value_inputs if value.id in late and reads[value.id] == 1}
        here = found(node, alone)
        if here is None and alone and not op_of(node).moves_data_only:
            here = _through(node, alone)
            if here is not None and len(alone) > 1:
                meeting.append((node, here))
        if here is not None:
            late[result.id] = here
    yield from reversed(meeting)


def _through(node: Node, alone: Mapping[int, Late[_Way]]) -> Late[_Way] | None:
    """What is linear in late values of one way, and as large as they are."""
    (result,) = node.outputs
    positions = [i for i, each in enumerate(node.inputs) if isinstance(each, Value) and each.id in alone]
    operands = [alone[value.id] for value in node.value_inputs if value.id in alone]
    ways = {(each.way, each.size) for each in operands}
    if ways != {(operands[0].way, result.type.bytes)} or op_of(node).reduced(node):
        return None
    if not linear_in(node, positions):
        return None
    return Late(
        operands[0].way,
        operands[0].size,
        tuple([value for each in operands for value in each.sums]),
        {number: value for each in operands for number, value in each.moved.items()},
        (*[value for each in operands for value in each.made], result),
    )


def joined_sums(graph: Graph) -> dict[int, Node]:
    """Of a graph before it is placed, the sums over names, by number, that may be added to others before they are
    reduced, with the node of the one that is reduced for all: where a plan has the two pending over the same mesh axes.
    """
    first: dict[int, Node] = {}
    makers = {value.id: node for node in graph.nodes for value in node.outputs}
    taken: set[int] = set()
    for _, late in joined(graph, _sum_over_names):
        sums = [value.id for value in late.sums]
        if taken.isdisjoint(sums):
            taken.update(sums)
            first |= dict.fromkeys(sums[1:], makers[sums[0]])
    for node in graph.nodes:
        for body in entered(node):
            first |= joined_sums(body)
    return first


def _sum_over_names(node: Node, alone: Mapping[int, Late[tuple[str, ...]]]) -> Late[tuple[str, ...]] | None:
    """A sum over names: those over the same ones are pending over the same mesh axes, if the plan computes them alike.
    Others may be too; that a plan gains more than it was priced for is no harm."""
    op, (result,) = op_of(node), node.outputs
    names = op.reduced(node)
    if not names or op.reduction(node) != SUM:
        return None
    return Late(tuple(sorted(names)), result.type.bytes, (result,))
