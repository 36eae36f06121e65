"""Ways to spoil a placed graph, as a hand, a pass, or a framework could: each gives graphs that look whole.

A mutation changes one place. Its graph comes as it is, with the types as they stood, and `retyped`: with the layouts
that follow from the changed place as far as the rules of the ops say, so that nothing but the meaning is wrong.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ir.graph import Constant, Graph, Node, Operand, Value
from ir.ops import entered, op_of
from ir.ops.spread import Misplaced
from ir.types import Dim, TensorType

Path = tuple[tuple[int, int], ...]
"""The way into bodies: (position of the node, number of the body) again and again."""


@dataclass(frozen=True)
class Mutant:
    """A spoiled graph: what was done, and to which node."""

    what: str
    node: str
    graph: Graph

    def __str__(self) -> str:
        return f"{self.what} at {self.node}"


@dataclass
class Place:
    """A node in a graph, and what is needed to make another graph of it."""

    whole: Graph
    path: Path
    position: int
    mesh: dict[str, int]
    fresh: int

    @property
    def scope(self) -> Graph:
        return scope_at(self.whole, self.path)

    @property
    def node(self) -> Node:
        return self.scope.nodes[self.position]

    def with_nodes(self, nodes: Sequence[Node], outputs: Sequence[Operand] | None = None) -> Graph:
        scope = replace(self.scope, nodes=tuple(nodes), outputs=tuple(outputs or self.scope.outputs))
        return put(self.whole, self.path, scope)

    def instead(self, *nodes: Node) -> Graph:
        """The graph with other nodes in place of this one."""
        own = self.scope.nodes
        return self.with_nodes((*own[: self.position], *nodes, *own[self.position + 1 :]))

    def without(self, stand_in: Operand) -> Graph:
        """The graph without this node; its result is another value."""
        gone = self.node.outputs[0].id

        def read(operand: Operand) -> Operand:
            return stand_in if isinstance(operand, Value) and operand.id == gone else operand

        nodes = [
            replace(node, inputs=tuple(map(read, node.inputs)))
            for i, node in enumerate(self.scope.nodes)
            if i != self.position
        ]
        return self.with_nodes(nodes, tuple(map(read, self.scope.outputs)))

    def after(self, make: Callable[[Value], Node]) -> Graph:
        """The graph with a node behind this one, which all readers read instead."""
        result = self.node.outputs[0]
        inner = Value(self.fresh, result.type)
        last = make(inner)
        return self.instead(replace(self.node, outputs=(inner, *self.node.outputs[1:])), last)

    def readers(self) -> list[int]:
        made = {value.id for value in self.node.outputs}
        return [i for i, node in enumerate(self.scope.nodes) if any(value.id in made for value in node.value_inputs)]


def scope_at(graph: Graph, path: Path) -> Graph:
    for position, body in path:
        graph = graph.nodes[position].bodies[body]
    return graph


def put(graph: Graph, path: Path, scope: Graph) -> Graph:
    """The graph with another scope at a path."""
    if not path:
        return scope
    (position, number), rest = path[0], path[1:]
    node = graph.nodes[position]
    bodies = list(node.bodies)
    bodies[number] = put(bodies[number], rest, scope)
    nodes = list(graph.nodes)
    nodes[position] = replace(node, bodies=tuple(bodies))
    return replace(graph, nodes=tuple(nodes))


def places(graph: Graph, mesh: dict[str, int]) -> list[Place]:
    """Every node, bodies included."""
    fresh = 1 + max(value.id for value in graph.values())

    def walk(scope: Graph, path: Path) -> Iterator[Place]:
        for position, node in enumerate(scope.nodes):
            yield Place(graph, path, position, mesh, fresh)
            for number, body in enumerate(entered(node)):
                yield from walk(body, (*path, (position, number)))

    return list(walk(graph, ()))


# --- what is done -----------------------------------------------------------------------------------------------------


def is_move(node: Node) -> bool:
    return op_of(node).moves_data_only


def drop_move(place: Place) -> Iterator[Graph]:
    if is_move(place.node):
        yield place.without(place.node.inputs[0])


def double_move(place: Place) -> Iterator[Graph]:
    if is_move(place.node):
        result = place.node.outputs[0]
        yield place.after(lambda inner: replace(place.node, inputs=(inner,), outputs=(result,)))


def delay_move(place: Place) -> Iterator[Graph]:
    """A move stands behind its reader: of a sum, a bias is added to the parts, or the parts go through a function."""
    readers = place.readers()
    if not is_move(place.node) or not readers or place.node.outputs[0] in place.scope.outputs:
        return
    at = readers[0]
    reader = place.scope.nodes[at]
    if is_move(reader) or reader.bodies or len(reader.outputs) != 1 or len(readers) > 1:
        return
    (before,), (after,) = place.node.inputs, place.node.outputs
    made = reader.outputs[0]
    if len(made.type.dims) != len(before.type.dims):
        return
    axes = tuple(replace(dim, mesh=own.mesh) for dim, own in zip(made.type.dims, before.type.dims, strict=True))
    inner = Value(
        place.fresh, replace(made.type, dims=axes, partial=before.type.partial, reduction=before.type.reduction)
    )
    inputs = tuple(before if operand == after else operand for operand in reader.inputs)
    nodes = [
        each
        for i, node in enumerate(place.scope.nodes)
        for each in (
            []
            if i == place.position
            else [
                replace(reader, inputs=inputs, outputs=(inner,)),
                replace(place.node, inputs=(inner,), outputs=(made,)),
            ]
            if i == at
            else [node]
        )
    ]
    yield place.with_nodes(nodes)


def other_axes(place: Place) -> Iterator[Graph]:
    if not is_move(place.node):
        return
    mesh = place.node.words("mesh")
    for axis in place.mesh:
        other = tuple(each for each in mesh if each != axis) if axis in mesh else (*mesh, axis)
        if other:
            yield place.instead(replace(place.node, attrs={**place.node.attrs, "mesh": other}))
        swapped = (axis,)
        if len(mesh) == 1 and swapped != mesh:
            yield place.instead(replace(place.node, attrs={**place.node.attrs, "mesh": swapped}))


def other_order(place: Place) -> Iterator[Graph]:
    """Shards in another order: over (a, b) instead of (b, a)."""
    if len(place.node.outputs) != 1 or not is_move(place.node):
        return
    result = place.node.outputs[0]
    turned = tuple(replace(dim, mesh=tuple(reversed(dim.mesh))) for dim in result.type.dims)
    if turned != result.type.dims:
        yield retag(place, replace(result.type, dims=turned))


def other_dim(place: Place) -> Iterator[Graph]:
    """Another dim is cut."""
    if not is_move(place.node):
        return
    before, result = place.node.inputs[0].type, place.node.outputs[0]
    gained = [
        (i, tuple(axis for axis in b.mesh if axis not in a.mesh))
        for i, (a, b) in enumerate(zip(before.dims, result.type.dims, strict=True))
    ]
    for at, axes in gained:
        for other, dim in enumerate(result.type.dims):
            count = int(np.prod([place.mesh[axis] for axis in axes]))
            if axes and other != at and dim.size % count == 0 and not dim.mesh:
                dims = list(result.type.dims)
                dims[at] = replace(dims[at], mesh=before.dims[at].mesh)
                dims[other] = replace(dim, mesh=axes)
                yield retag(place, replace(result.type, dims=tuple(dims)))


def extra_sum(place: Place) -> Iterator[Graph]:
    """A sum over an axis over which nothing is pending: a norm that counts n times."""
    if len(place.node.outputs) != 1 or not _is_float(place.node.outputs[0].type) or place.node.outputs[0].type.partial:
        return
    result = place.node.outputs[0]
    for axis in place.mesh:
        attrs: dict[str, Any] = {"axis": ("",), "mesh": (axis,), "bytes": 4, "moving": "activation"}
        yield place.after(
            lambda inner, attrs=attrs: Node("all_reduce", "", (inner,), (result,), attrs, (), place.node.phase)
        )


def scaled(place: Place) -> Iterator[Graph]:
    """A value times the devices of an axis, or by them: a mean over the local count, a loss scaled by tp."""
    if len(place.node.outputs) != 1 or not _is_float(place.node.outputs[0].type):
        return
    result = place.node.outputs[0]
    for fn in ("mul", "div"):
        factor = Constant("2.0", TensorType(result.type.dtype), np.dtype(np.float32).type(2.0))
        origin = _origin(fn)
        yield place.after(
            lambda inner, fn=fn, factor=factor, origin=origin: Node(
                "map", fn, (inner, factor), (result,), phase=place.node.phase, origin=origin
            )
        )


def other_number(place: Place) -> Iterator[Graph]:
    """A constant of another size: the count of a mean."""
    for i, operand in enumerate(place.node.inputs):
        if isinstance(operand, Constant) and _is_float(operand.type) and operand.value not in (None, 0):
            value = np.asarray(operand.value) / 2
            half = Constant(repr(float(value)), operand.type, value.astype(operand.type.dtype))
            inputs = (*place.node.inputs[:i], half, *place.node.inputs[i + 1 :])
            yield place.instead(replace(place.node, inputs=inputs))


def drop_node(place: Place) -> Iterator[Graph]:
    """The result is the operand, as if the node were not there."""
    if is_move(place.node) or len(place.node.outputs) != 1:
        return
    result = place.node.outputs[0].type
    for operand in place.node.value_inputs[:2]:
        if bare(operand.type) == bare(result):
            yield place.without(operand)


def double_node(place: Place) -> Iterator[Graph]:
    """A node is applied to its own result."""
    node = place.node
    if is_move(node) or len(node.outputs) != 1 or node.bodies or not node.value_inputs:
        return
    result = node.outputs[0]
    if isinstance(node.inputs[0], Value) and node.inputs[0].type == result.type:
        yield place.after(lambda inner: replace(node, inputs=(inner, *node.inputs[1:])))


def other_operand(place: Place) -> Iterator[Graph]:
    """A node reads another value of the same type."""
    known = list(place.scope.inputs)
    for node in place.scope.nodes[: place.position]:
        known += node.outputs
    for i, operand in enumerate(place.node.inputs):
        others = [
            each for each in known if isinstance(operand, Value) and each.type == operand.type and each != operand
        ]
        for other in others[-2:]:
            inputs = (*place.node.inputs[:i], other, *place.node.inputs[i + 1 :])
            yield place.instead(replace(place.node, inputs=inputs))


MUTATIONS: tuple[Callable[[Place], Iterator[Graph]], ...] = (
    drop_move,
    double_move,
    delay_move,
    other_axes,
    other_order,
    other_dim,
    extra_sum,
    scaled,
    other_number,
    drop_node,
    double_node,
    other_operand,
)


def mutants(graph: Graph, mesh: dict[str, int], at: Sequence[Place] | None = None) -> Iterator[Mutant]:
    """All of them, each as it is and retyped."""
    for place in at if at is not None else places(graph, mesh):
        for mutation in MUTATIONS:
            for spoiled in mutation(place):
                name = f"{place.node.kind}.{place.node.fn} {place.node.outputs[0] if place.node.outputs else ''}"
                yield Mutant(mutation.__name__, name, spoiled)
                again = retyped(spoiled)
                if again != spoiled:
                    yield Mutant(f"{mutation.__name__} (retyped)", name, again)


# --- types ------------------------------------------------------------------------------------------------------------


def retag(place: Place, type_: TensorType) -> Graph:
    """The graph with another type of a result, where it is made and wherever it is read."""
    old = place.node.outputs[0]
    new = Value(old.id, type_)

    def read(operand: Operand) -> Operand:
        return new if isinstance(operand, Value) and operand.id == old.id else operand

    nodes = [
        replace(
            node,
            inputs=tuple(map(read, node.inputs)),
            outputs=tuple(new if v.id == old.id else v for v in node.outputs),
        )
        for node in place.scope.nodes
    ]
    return place.with_nodes(nodes, tuple(map(read, place.scope.outputs)))


def retyped(graph: Graph) -> Graph:
    """The graph with the layouts that the rules give for what its nodes read now, where they give any."""
    known: dict[int, Value] = {value.id: value for value in graph.inputs}

    def read(operand: Operand) -> Operand:
        return known.get(operand.id, operand) if isinstance(operand, Value) else operand

    nodes: list[Node] = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(map(read, node.inputs)))
        try:
            spread = op_of(node).spread(node)
        except Misplaced:
            spread = None
        outputs = node.outputs
        if spread is not None:
            outputs = tuple(
                replace(
                    value,
                    type=replace(
                        value.type,
                        dims=tuple(
                            replace(dim, mesh=axes) for dim, axes in zip(value.type.dims, each.dims, strict=True)
                        ),
                        partial=each.partial,
                        reduction=each.reduction,
                    ),
                )
                for value, each in zip(outputs, spread, strict=True)
            )
        known |= {value.id: value for value in outputs}
        nodes.append(replace(node, outputs=outputs))
    return replace(graph, nodes=tuple(nodes), outputs=tuple(map(read, graph.outputs)))


def bare(type_: TensorType) -> TensorType:
    return TensorType(type_.dtype, tuple(Dim(dim.name, dim.size) for dim in type_.dims))


def _is_float(type_: TensorType) -> bool:
    return type_.dtype == "float32"


def _origin(fn: str) -> Any:
    import jax

    import ir

    graph = ir.trace(lambda x: x * 2.0 if fn == "mul" else x / 2.0, jax.ShapeDtypeStruct((), np.float32))
    return graph.nodes[0].origin
