"""The shadow of a step: the same graph, computed in the ring Z/2³² (see `ir.ring`).

There sums do not depend on their order, so that one device and any layout of many must give the same bits. Where they
differ, a collective, or what the compiler made of the layout, is wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from ir.graph import Constant, Graph, Node
from ir.ops import op_of
from ir.ring import in_ring, literal, ring_type
from ir.types import TensorType
from passes import errors, require
from passes.canonicalize import canonicalize
from passes.lower import Meaning, lowered
from passes.pipeline import place
from passes.planner.plan import Plan
from passes.sharding.jax_mesh import device_mesh


class _Ring(Meaning):
    """What a node does with numbers of the ring."""

    def type(self, type_: TensorType) -> TensorType:
        return ring_type(type_)

    def constant(self, operand: Constant) -> Any:
        return literal(operand.value) if in_ring(operand.type.dtype) else operand.value

    def act(self, node: Node, arrays: Sequence[Any], shards: Mapping[str, int], run: Callable[..., Any]) -> Any:
        op = op_of(node)
        if op.sealed:
            return op.sealed_shadow(node, arrays, run)
        return op.shadow(node, arrays, shards)


class _Alone(_Ring):
    """The same on one device, whatever mesh the step itself speaks of."""

    def act(self, node: Node, arrays: Sequence[Any], shards: Mapping[str, int], run: Callable[..., Any]) -> Any:
        op = op_of(node)
        if op.sealed:
            return op.sealed_alone(node, arrays, run)
        if op.runs_once:
            return run(node.bodies[0], arrays)
        if op.places(node):
            return arrays
        return op.shadow(node, arrays, shards)


def shadow(graph: Graph, plan: Plan, devices: Sequence[Any] | Mesh | None = None) -> Callable[..., Any]:
    """The shadow of a traced step, jitted for the layout that a plan gives it.

    It takes and gives what the step does, in the same structure, with a `uint32` for every real or complex number;
    integers, booleans and keys are what they are in the step. On one device and on any mesh it gives the same bits.

    Raises:
        PlanError: the graph was parsed from text, or the devices do not fit the plan's mesh.
    """
    if require.graph(graph, "shadow").trees is None:
        raise errors.no_origin(graph.name)
    return shadow_placed(place(canonicalize(graph), require.plan(plan, "shadow")), plan, devices)


def shadow_placed(placed: Graph, plan: Plan, devices: Sequence[Any] | Mesh | None = None) -> Callable[..., Any]:
    """The same for a step that all passes have run on already, as in the `placed` of `passes.run`."""
    if require.graph(placed, "shadow_placed").trees is None:
        raise errors.no_origin(placed.name)
    return lowered(placed, device_mesh(require.plan(plan, "shadow_placed"), devices), _Ring())


def alone(graph: Graph) -> Callable[..., Any]:
    """The shadow of a traced step, jitted, on one device: what every layout of it must give.

    Shardings and the mesh of a `shard_map` that the step itself asks for say where arrays are and not what they are;
    the devices of such a mesh are computed one beside the other.
    """
    return lowered(graph, device_mesh(Plan.by_hand({"data": 1}, {})), _Alone())


def not_covered(graph: Graph) -> list[tuple[str, str | None]]:
    """What has no meaning of its own in the ring, as (name, line): it is taken for some function of the whole of its
    operands, of which nothing else is checked."""
    found: dict[tuple[str, str | None], None] = {}
    for node in graph.walk():
        if not op_of(node).covered(node):
            name = f"{node.kind}.{node.fn}" if node.fn else node.kind
            found[name, str(node.source) if node.source is not None else None] = None
    return list(found)
