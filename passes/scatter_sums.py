"""A sum of which each device keeps only its part is a reduce-scatter.

Partitioning decides value by value; where the only reader of an all-reduce (transposes in between aside) slices the
result over the same mesh axes, the two are one collective of half the cost. Compilers see the same thing.
"""

from collections import Counter
from dataclasses import dataclass, replace

from ir.graph import Graph, Node, Value
from ir.types import TensorType
from passes.stage import GraphPass


@dataclass(frozen=True)
class ScatterSums(GraphPass):
    """Pass: merges an all-reduce with the slice that is its only reader."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph with such pairs merged, bodies included."""
        makers = {value.id: node for node in graph.nodes for value in node.outputs}
        readers = _readers(graph)
        replaced: dict[int, Node] = {}
        dropped: set[int] = set()
        for node in graph.nodes:
            chain = _sum_behind(node, makers, readers)
            if not chain:
                continue
            dropped.add(node.outputs[0].id)
            for link in chain:
                last = link is chain[0]
                replaced[link.outputs[0].id] = _sliced(link, node, last)
        nodes = [
            replaced.get(node.outputs[0].id, node) if node.outputs else node
            for node in graph.nodes
            if not (node.outputs and node.outputs[0].id in dropped)
        ]
        return graph.with_nodes(tuple(replace(n, bodies=tuple(self(body) for body in n.bodies)) for n in nodes))


def scatter_sums(graph: Graph) -> Graph:
    """The graph with every sliced sum as one reduce-scatter."""
    return ScatterSums()(graph)


def _sum_behind(node: Node, makers: dict[int, Node], readers: Counter[int]) -> list[Node]:
    """From the operand of a slice back to the all-reduce that makes it, last first; empty where it is no such pair."""
    if node.kind != "reshard":
        return []
    chain: list[Node] = []
    value = node.value_inputs[0]
    while value.id in makers and readers[value.id] == 1 and not value.type.partial:
        maker = makers[value.id]
        chain.append(maker)
        if maker.kind == "all_reduce":
            return chain if maker.attrs["mesh"] == node.attrs["mesh"] else []
        if (maker.kind, maker.fn) != ("reshape", "transpose"):
            return []
        value = maker.value_inputs[0]
    return []


def _sliced(link: Node, slice_: Node, last: bool) -> Node:
    """One node of the chain, working on the shard; the last one makes what the slice made."""
    made = link.outputs[0]
    result = slice_.outputs[0] if last else replace(made, type=_placed_like(made.type, slice_.outputs[0].type))
    operands = link.inputs
    if link.kind != "all_reduce":
        (operand,) = link.value_inputs
        operands = (replace(operand, type=_placed_like(operand.type, slice_.outputs[0].type)),)
        return replace(link, inputs=operands, outputs=(result,))
    return replace(
        link, kind="reduce_scatter", outputs=(result,), attrs={**link.attrs, "moving": slice_.attrs["moving"]}
    )


def _placed_like(type_: TensorType, other: TensorType) -> TensorType:
    places = {dim.name: dim.mesh for dim in other.dims}
    return replace(type_, dims=tuple(replace(dim, mesh=places[dim.name]) for dim in type_.dims))


def _readers(graph: Graph) -> Counter[int]:
    count: Counter[int] = Counter()
    for node in graph.nodes:
        count.update(value.id for value in node.value_inputs)
    count.update(operand.id for operand in graph.outputs if isinstance(operand, Value))
    return count
