"""A sum of which each device keeps only its part is a reduce-scatter.

Partitioning decides value by value; where the only reader of an all-reduce (transposes in between aside) slices the
result over the same mesh axes, the two are one collective of half the cost. Compilers see the same thing.
"""

from dataclasses import dataclass, replace

from ir.analysis.uses import Uses
from ir.graph import Graph, Node
from ir.ops import op_of
from ir.rewrite import Scope
from ir.types import SUM, TensorType
from passes.stage import GraphPass


@dataclass(frozen=True)
class ScatterSums(GraphPass):
    """Pass: merges an all-reduce with the slice that is its only reader."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph with such pairs merged, bodies included."""
        uses = Uses.of_scope(graph)
        replaced: dict[int, Node] = {}
        dropped: set[int] = set()
        for node in graph.nodes:
            chain = _sum_behind(node, uses)
            if not chain:
                continue
            dropped.add(node.outputs[0].id)
            for link in chain:
                last = link is chain[0]
                replaced[link.outputs[0].id] = _sliced(link, node, last)
        scope = Scope()
        for node in graph.nodes:
            made = node.outputs[0].id if node.outputs else None
            if made not in dropped:
                scope.append(scope.current(replaced.get(made, node) if made is not None else node, self))
        return scope.finish(graph)


def scatter_sums(graph: Graph) -> Graph:
    """The graph with every sliced sum as one reduce-scatter."""
    return ScatterSums()(graph)


def _sum_behind(node: Node, uses: Uses) -> list[Node]:
    """From the operand of a slice back to the all-reduce that makes it, last first; empty where it is no such pair."""
    if not op_of(node).slices_shards:
        return []
    chain: list[Node] = []
    value = node.value_inputs[0]
    while value.id in uses.producer and uses.reads[value.id] == 1 and not value.type.partial:
        maker = uses.producer[value.id]
        chain.append(maker)
        if op_of(maker).scattered:
            sums = maker.value_inputs[0].type.reduction == SUM
            return chain if sums and maker.attrs["mesh"] == node.attrs["mesh"] else []
        if not op_of(maker).transposes(maker):
            return []
        value = maker.value_inputs[0]
    return []


def _sliced(link: Node, slice_: Node, last: bool) -> Node:
    """One node of the chain, working on the shard; the last one makes what the slice made."""
    made = link.outputs[0]
    result = slice_.outputs[0] if last else replace(made, type=_placed_like(made.type, slice_.outputs[0].type))
    operands = link.inputs
    if not (scattered := op_of(link).scattered):
        (operand,) = link.value_inputs
        operands = (replace(operand, type=_placed_like(operand.type, slice_.outputs[0].type)),)
        return replace(link, inputs=operands, outputs=(result,))
    return replace(link, kind=scattered, outputs=(result,), attrs={**link.attrs, "moving": slice_.attrs["moving"]})


def _placed_like(type_: TensorType, other: TensorType) -> TensorType:
    places = {dim.name: dim.mesh for dim in other.dims}
    return replace(type_, dims=tuple(replace(dim, mesh=places[dim.name]) for dim in type_.dims))
