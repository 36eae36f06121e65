"""Layouts by name: which axis of an array goes on which axis of the device mesh.

A mapping says it for logical names, `{"batch": "data", "mlp": "model"}`. Within `axis_mapping(...)` it is in force,
also for threads that are started there. `shard` lays arrays out by it, and does nothing where no mapping or no mesh is
in force, so that models call it freely.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from haliax import errors
from haliax._compat import current_mesh
from haliax.array import NamedArray, unchecked
from haliax.axis import Axis, AxisSelector, AxisSpec, axes_of, names_of
from haliax.jax_utils import is_named
from haliax.util import StringHolderEnum

PhysicalAxisSpec = str | Sequence[str]
ResourceMapping = Mapping[str, PhysicalAxisSpec]


class ResourceAxis(StringHolderEnum):
    """The usual names of mesh axes."""

    MODEL = "model"
    DATA = "data"
    REPLICA = "replica"


_own: ContextVar[ResourceMapping | None] = ContextVar("haliax_axis_mapping", default=None)
_entered: list[ResourceMapping] = []
_entered_lock = threading.Lock()


def current_thread_local_mapping() -> ResourceMapping | None:
    """The mapping in force: the innermost one of this thread, else the innermost one that any thread has entered."""
    own = _own.get()
    if own is not None:
        return own
    return _entered[-1] if _entered else None


@contextmanager
def axis_mapping(mapping: ResourceMapping, *, merge: bool = False, **names: PhysicalAxisSpec) -> Iterator[None]:
    """Within this context the mapping is in force.

    Args:
        mapping: from logical to mesh axes.
        merge: whether the entries of the mapping in force outside stay, unless given anew.
        names: further entries.
    """
    outer = dict(current_thread_local_mapping() or {}) if merge else {}
    inner = {**outer, **mapping, **names}
    token = _own.set(inner)
    with _entered_lock:
        _entered.append(inner)
    try:
        yield
    finally:
        _own.reset(token)
        with _entered_lock:
            del _entered[next(i for i in reversed(range(len(_entered))) if _entered[i] is inner)]


@contextmanager
def set_mesh(mesh: Mesh) -> Iterator[Mesh]:
    """Within this context the mesh is in force."""
    with jax.set_mesh(mesh):
        yield mesh


mesh_context = set_mesh


def physical_axis_name(axis: AxisSelector, mapping: ResourceMapping | None = None) -> PhysicalAxisSpec | None:
    """The mesh axis or axes that the mapping (by default the one in force) gives an axis; None if it gives none."""
    mapping = mapping if mapping is not None else current_thread_local_mapping()
    return None if mapping is None else mapping.get(names_of(axis)[0])


def physical_axis_size(axis: AxisSelector, mapping: ResourceMapping | None = None) -> int | None:
    """Over how many devices an axis is spread; None if it is not in the mapping.

    Raises:
        AxisError: if no mesh is in force, or it lacks the mesh axis.
    """
    physical = physical_axis_name(axis, mapping)
    if physical is None:
        return None
    sizes = dict(_mesh("physical_axis_size").shape)
    names = (physical,) if isinstance(physical, str) else physical
    for name in names:
        if name not in sizes:
            raise errors.unknown_mesh_axis(name, list(sizes))
    return prod(sizes[name] for name in names)


def round_axis_for_partitioning(axis: Axis, mapping: ResourceMapping | None = None) -> Axis:
    """The axis, made longer so that its size divides by the number of devices it is spread over."""
    devices = physical_axis_size(axis, mapping)
    return axis if devices is None else axis.resize(-(-axis.size // devices) * devices)


def pspec_for_axis(axis: AxisSpec, mapping: ResourceMapping | None = None) -> PartitionSpec:
    """The `PartitionSpec` of an array with these axes.

    A mesh axis is used once in an array: where two names claim it, the first keeps it.
    """
    taken: set[str] = set()
    entries: list[Any] = []
    for name in names_of(axis):
        physical = physical_axis_name(name, mapping)
        wanted = () if physical is None else (physical,) if isinstance(physical, str) else tuple(physical)
        free = tuple(mesh_axis for mesh_axis in wanted if mesh_axis not in taken)
        taken.update(free)
        entries.append(free[0] if len(free) == 1 else free or None)
    return PartitionSpec(*entries)


def sharding_for_axis(axis: AxisSpec, mapping: ResourceMapping | None = None, mesh: Any = None) -> NamedSharding:
    """The `NamedSharding` of an array with these axes.

    Raises:
        AxisError: if no mesh is given or in force.
    """
    return NamedSharding(mesh or _mesh("sharding_for_axis"), pspec_for_axis(axis, mapping))


def pspec_for(tree: Any, mapping: ResourceMapping | None = None) -> Any:
    """The tree with a `PartitionSpec` for each NamedArray, and an empty one for each other array."""
    return jax.tree.map(lambda leaf: pspec_for_axis(_axes(leaf), mapping), tree, is_leaf=is_named)


def infer_resource_partitions(tree: Any, mapping: ResourceMapping | None = None, mesh: Any = None) -> Any:
    """The tree with a `NamedSharding` for each NamedArray, and the replicated one for each other array."""
    return jax.tree.map(lambda leaf: sharding_for_axis(_axes(leaf), mapping, mesh), tree, is_leaf=is_named)


def shard(tree: Any, mapping: ResourceMapping | None = None, mesh: Any = None) -> Any:
    """The tree with its NamedArrays laid out by the mapping; unnamed arrays stay as they are.

    Inside of `jax.jit` this is a constraint for the compiler, outside it moves the data. Where no mapping or no mesh is
    given or in force, nothing happens.

    Args:
        tree: any tree.
        mapping: from logical to mesh axes; by default the one in force.
        mesh: by default the one in force.
    """
    mapping = mapping if mapping is not None else current_thread_local_mapping()
    if mapping is None:
        return tree
    mesh = mesh if mesh is not None else current_mesh()
    if mesh is None:
        return tree
    return jax.tree.map(lambda leaf: _laid_out(leaf, mapping, mesh), tree, is_leaf=is_named)


def _laid_out(leaf: Any, mapping: ResourceMapping, mesh: Any) -> Any:
    if not isinstance(leaf, NamedArray):
        return leaf
    sharding = NamedSharding(mesh, pspec_for_axis(leaf.axes, mapping))
    if isinstance(leaf.array, Tracer):
        return unchecked(jax.lax.with_sharding_constraint(leaf.array, sharding), leaf.axes)
    return unchecked(jax.device_put(leaf.array, sharding), leaf.axes)


shard_with_axis_mapping = shard


def auto_sharded(tree: Any) -> Any:
    """The tree laid out by the mapping in force; without one, as it is."""
    return tree if current_thread_local_mapping() is None else shard(tree)


def _axes(leaf: Any) -> tuple[Axis, ...]:
    return axes_of(leaf.axes) if isinstance(leaf, NamedArray) else ()


def _mesh(function: str) -> Any:
    mesh = current_mesh()
    if mesh is None:
        raise errors.no_mesh(function)
    return mesh
