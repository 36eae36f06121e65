"""What an elastic run cannot be planned on: see docs/elastic.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import passes
from levanter.compiler import errors
from passes.planner.space import shared_trips, updates_whole
from passes.runner import must_be_whole

if TYPE_CHECKING:
    from ir.graph import Graph

BATCH_AXES = ("replica", "data")
"""Mesh axes that are there for the batch."""


def device_counts(virtual_shards: int) -> list[int]:
    """The numbers of devices that can share out virtual shards: 1, and those that have 2, 4, 8, … of them each."""
    more = [n for n in range(2, virtual_shards // 2 + 1) if _is_shared_out(virtual_shards, n)]
    return [1, *more]


def check_elastic(mesh: Mapping[str, int], virtual_shards: int) -> None:
    """Whether the devices of a mesh can share out virtual shards.

    Raises:
        UserError: the mesh has axes that are not for the batch, or a device would have one virtual shard, or a number
            of them that is no power of two.
    """
    others = {axis: size for axis, size in mesh.items() if size > 1 and axis not in BATCH_AXES}
    if others:
        raise errors.elastic_mesh(others, BATCH_AXES)
    devices = math.prod(mesh.values())
    if devices > 1 and not _is_shared_out(virtual_shards, devices):
        raise errors.elastic_devices(devices, virtual_shards, device_counts(virtual_shards))


def _is_shared_out(virtual_shards: int, devices: int) -> bool:
    each, rest = divmod(virtual_shards, devices)
    return not rest and each >= 2 and not each & (each - 1)


def check_elastic_graph(graph: Graph) -> None:
    """Whether every operation of an elastic step can run on one device's shards: else the whole step is left to the
    compiler's partitioner, which adds up in an order of its own.

    Raises:
        UserError: one cannot, such as a call of the host.
    """
    node = must_be_whole(graph)
    if node is not None:
        raise errors.elastic_operation(f"{node.kind}.{node.fn}".rstrip("."), str(node.source or ""))


def check_elastic_plan(graph: Graph, plan: passes.Plan) -> None:
    """Whether a plan by hand leaves an elastic step its bits.

    Raises:
        UserError: it shards more than virtual shards in use, or it stores in shards what is not updated element by
            element, or it stores over mesh axes outside of others that the batch is sharded over.
    """
    shared, sizes = shared_trips(graph), plan.mesh.as_dict()
    axes = tuple(axis for axis in plan.mesh.axes if sizes[axis] > 1)
    if not axes:
        return
    for name in shared:
        if tuple(axis for axis in plan.compute.get(name, ()) if sizes[axis] > 1) != axes:
            raise errors.elastic_rule(name, plan.compute.get(name, ()), axes)
    for name, over in plan.compute.items():
        if name not in shared and any(sizes[axis] > 1 for axis in over):
            raise errors.elastic_compute(name, over)
    for name, over in plan.storage.items():
        stored = tuple(axis for axis in axes if axis in over)
        if name in shared or not stored:
            continue
        whole = updates_whole(graph)
        if whole is not None:
            raise errors.elastic_storage(name, stored, f"{whole.kind}.{whole.fn}".rstrip("."), str(whole.source or ""))
        if stored != axes[len(axes) - len(stored) :]:
            raise errors.elastic_storage_axes(name, stored, axes)
