"""The shadow of a step: the same graph, computed in the ring Z/2³² (see `ir.ring`).

There sums do not depend on their order, so that one device and any layout of many must give the same bits. Where they
differ, a collective, or what the compiler made of the layout, is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from jax.sharding import Mesh

from ir._compat import equation_context
from ir.graph import Constant, Graph, Node, Value
from ir.ops import op_of
from ir.ring import in_ring, literal, ring_dtype, ring_type
from ir.shards import Shards
from passes import errors, require
from passes.canonicalize import canonicalize
from passes.lower import Partitioner, jitted, program
from passes.pipeline import place
from passes.planner.plan import Plan
from passes.retype import whole
from passes.runner import LocalRunner, Runner, WholeRunner
from passes.sharding.jax_mesh import device_mesh


class _Ring(Runner):
    """What a runner does otherwise with numbers of the ring."""

    def constant(self, operand: Constant) -> Any:
        return literal(operand.value) if in_ring(operand.type.dtype) else operand.value

    def dtype(self, value: Value, aval: Any) -> Any:
        return ring_dtype(value.type.dtype) if in_ring(value.type.dtype) else aval.dtype

    def weak(self, value: Value, aval: Any) -> bool:
        return not in_ring(value.type.dtype) and super().weak(value, aval)

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """What a node gives in the ring."""
        op, origin = op_of(node), node.origin
        context, info = (origin.context, origin.source_info) if origin is not None else (None, None)
        with equation_context(context, info):
            if op.sealed:
                return op.sealed_shadow(node, arrays, type(self)._bodies().graph)
            return op.shadow(node, arrays, shards)

    def primitive(self, node: Node, arrays: Sequence[Any], params: dict[str, Any]) -> Sequence[Any]:
        assert node.origin is not None
        bound = replace(node, origin=replace(node.origin, params=params))
        return self.shadow(bound, arrays, self.own_shards())

    def own_shards(self) -> Shards:
        """The mesh that arrays are the shards of."""
        return Shards({})

    @staticmethod
    def _bodies() -> Runner:
        """What runs the body of a `shard_map`, whose arrays are what its user says they are."""
        return _WholeRing(None)


class _LocalRing(_Ring, LocalRunner):
    """On one device's shards."""

    def own_shards(self) -> Shards:
        return self.shards

    def bind(self, node: Node, arrays: list[Any]) -> Sequence[Any]:
        if op_of(node).rounds(node, self.shards.sizes):
            return op_of(node).shadow_in_rounds(node, arrays, self.shards, self.passing(node))
        return self.shadow(node, arrays, self.shards)


class _WholeRing(_Ring, WholeRunner):
    """On whole arrays."""

    def bind(self, node: Node, arrays: list[Any]) -> Sequence[Any]:
        op = op_of(node)
        if op.moves_data_only or op.relabels(node):
            return super().bind(node, arrays)
        return self.shadow(_whole(node), arrays, self.own_shards())


class _Alone(_WholeRing):
    """On one device, whatever mesh the step itself speaks of."""

    def node(self, node: Node, arrays: list[Any]) -> Sequence[Any]:
        op = op_of(node)
        if op.sealed:
            try:
                return op.sealed_alone(node, arrays, self.graph)
            except (NotImplementedError, TypeError) as error:
                raise errors.not_on_one_device(node, error) from error
        if op.runs_once:
            return self.graph(node.bodies[0], arrays)
        return arrays if op.places(node) else super().node(node, arrays)


def _whole(node: Node) -> Node:
    """The node as it was before its values were placed."""
    inputs = tuple([replace(each, type=whole(each.type)) for each in node.inputs])
    return replace(node, inputs=inputs, outputs=tuple([replace(each, type=whole(each.type)) for each in node.outputs]))


def shadow(
    graph: Graph, plan: Plan, devices: Sequence[Any] | Mesh | None = None, *, partitioner: Partitioner = "explicit"
) -> Callable[..., Any]:
    """The shadow of a traced step, jitted for the layout that a plan gives it.

    It takes and gives what the step does, in the same structure, with a `uint32` for every real or complex number;
    integers, booleans and keys are what they are in the step. On one device and on any mesh it gives the same bits.

    Args:
        partitioner: as in `passes.lower`.

    Raises:
        PlanError: the graph was parsed from text, or the devices do not fit the plan's mesh.
    """
    if require.graph(graph, "shadow").trees is None:
        raise errors.no_origin(graph.name)
    placed = place(canonicalize(graph), require.plan(plan, "shadow"))
    return shadow_placed(placed, plan, devices, partitioner=partitioner)


def shadow_placed(
    placed: Graph, plan: Plan, devices: Sequence[Any] | Mesh | None = None, *, partitioner: Partitioner = "explicit"
) -> Callable[..., Any]:
    """The same for a step that all passes have run on already, as in the `placed` of `passes.run`."""
    if require.graph(placed, "shadow_placed").trees is None:
        raise errors.no_origin(placed.name)
    mesh = device_mesh(require.plan(plan, "shadow_placed"), devices)
    run = program(placed, mesh, require.partitioner(partitioner, "shadow"), _LocalRing, _WholeRing)
    return jitted(_in_ring(placed), mesh, run)


def alone(graph: Graph) -> Callable[..., Any]:
    """The shadow of a traced step, jitted, on one device: what every layout of it must give.

    Shardings and the mesh of a `shard_map` that the step itself asks for say where arrays are and not what they are;
    the devices of such a mesh are computed one beside the other.
    """
    mesh = device_mesh(Plan.by_hand({"data": 1}, {}))
    return jitted(_in_ring(graph), mesh, lambda *leaves: _Alone(None).graph(graph, leaves))


def unplaced(graph: Graph) -> Callable[..., Any]:
    """The shadow of a traced step, jitted, on the devices that its arguments, and the step itself, say."""
    mesh = device_mesh(Plan.by_hand({"data": 1}, {}))
    return jitted(_in_ring(graph), mesh, lambda *leaves: _WholeRing(None).graph(graph, leaves))


def _in_ring(graph: Graph) -> Graph:
    """The graph, whose inputs are numbers of the ring: what arguments are held against."""
    return replace(graph, inputs=tuple([replace(value, type=ring_type(value.type)) for value in graph.inputs]))


def not_covered(graph: Graph) -> list[tuple[str, str | None]]:
    """What has no meaning of its own in the ring, as (name, line): it is taken for some function of the whole of its
    operands, of which nothing else is checked."""
    found: dict[tuple[str, str | None], None] = {}
    for node in graph.walk():
        if not op_of(node).covered(node):
            name = f"{node.kind}.{node.fn}" if node.fn else node.kind
            found[name, str(node.source) if node.source is not None else None] = None
    return list(found)
