"""Permutes that undo one another.

A dim may be sharded over the same mesh axes in one order under one name and in another under the next: what is renamed
there and back, and computed with element by element between, would change places twice. It stays where it was.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from ir.graph import Graph, Node, Operand, Value
from ir.ops import op_of
from ir.rewrite import Rewriter, Scope
from ir.types import TensorType


def without_detours(graph: Graph, rewriter: Rewriter) -> Graph:
    """A placed graph without pairs of permutes of which the second undoes the first, bodies included."""
    reads = Counter(value.id for node in graph.nodes for value in node.value_inputs)
    reads.update(operand.id for operand in graph.outputs if isinstance(operand, Value))
    makers = {value.id: node for node in graph.nodes for value in node.outputs}
    scope = Scope()
    spared: set[int] = set()
    for node in graph.nodes:
        way = _detour(node, makers, reads)
        if not way:
            scope.append(scope.current(node, lambda body: without_detours(body, rewriter)))
            continue
        value = scope.read(way[0].inputs[0])
        for each in way[1:]:
            assert isinstance(value, Value)
            made = rewriter.fresh(Value(0, _placed_as(each.outputs[0].type, value.type)))
            inputs = tuple(value if _is_large(operand) else scope.read(operand) for operand in each.inputs)
            scope.append(replace(each, inputs=inputs, outputs=(made,)))
            value = made
        assert isinstance(value, Value)
        scope.define(node.outputs[0], value)
        spared |= {each.outputs[0].id for each in way}
    return _without_unread(scope.finish(graph), spared)


def _detour(node: Node, makers: Mapping[int, Node], reads: Mapping[int, int]) -> list[Node]:
    """A permute that a later one undoes, and what is computed between; nothing where there is none."""
    found: list[Node] = []
    if not _reorders(node):
        return found
    operand = node.inputs[0]
    while isinstance(operand, Value) and operand.id in makers:
        maker = makers[operand.id]
        found.insert(0, maker)
        if _reorders(maker):
            return found if _order(maker.inputs[0]) == _order(node.outputs[0]) else []
        large = [each for each in maker.inputs if _is_large(each)]
        alone = len(large) == len(maker.outputs) == 1 and reads[operand.id] == 1
        if not alone or not (op_of(maker).renames or op_of(maker).is_elementwise):
            return []
        operand = large[0]
    return []


def _reorders(node: Node) -> bool:
    """Whether a node changes nothing but the order of the mesh axes of its operand's dims."""
    return op_of(node).passes_on and _order(node.inputs[0]) != _order(node.outputs[0])


def _order(operand: Operand) -> list[tuple[str, ...]]:
    return [dim.mesh for dim in operand.type.dims]


def _is_large(operand: Operand) -> bool:
    return isinstance(operand, Value) and bool(operand.type.dims)


def _placed_as(type_: TensorType, other: TensorType) -> TensorType:
    dims = [replace(dim, mesh=there.mesh) for dim, there in zip(type_.dims, other.dims, strict=True)]
    return replace(type_, dims=tuple(dims))


def _without_unread(graph: Graph, candidates: set[int]) -> Graph:
    """Of the nodes that make candidates, those that something reads."""
    read = {operand.id for operand in graph.outputs if isinstance(operand, Value)}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.outputs and node.outputs[0].id in candidates and node.outputs[0].id not in read:
            continue
        read.update(value.id for value in node.value_inputs)
        kept.append(node)
    return replace(graph, nodes=tuple(reversed(kept)))
