"""Layouts by name: which axis of an array is sharded over which axis of the device mesh.

A mapping says it for the names of axes, `{"batch": "data", "mlp": "model"}`; see `haliax.partitioning.mapping` for the
one in force. `shard` lays arrays out by it, and does nothing where no mapping or no mesh is in force, so that models
call it freely.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from haliax import errors
from haliax.axis import Axis, AxisSelection, AxisSelector, ensure_tuple, names_of
from haliax.core.array import NamedArray, unchecked
from haliax.core.explicit import laid_out_by
from haliax.field import map_with_field_names
from haliax.jax_utils import is_named
from haliax.partitioning.mapping import (
    PhysicalAxisSpec,
    ResourceMapping,
    current_thread_local_mapping,
    mesh_in_force,
    note_names,
    warn_of_misspelt,
)
from haliax.util import StringHolderEnum


class ResourceAxis(StringHolderEnum):
    """The usual names of mesh axes: "model", "data" and "replica"."""

    MODEL = "model"
    DATA = "data"
    REPLICA = "replica"


@contextmanager
def set_mesh(mesh: Any) -> Iterator[Any]:
    """Within this context the mesh is in force: a `jax.sharding.Mesh` or `AbstractMesh`."""
    with jax.set_mesh(mesh):
        yield mesh


mesh_context = set_mesh


def physical_axis_name(axis: AxisSelector, mapping: ResourceMapping | None = None) -> PhysicalAxisSpec | None:
    """The mesh axis or axes that the mapping (by default the one in force) gives an axis; None if it gives none.

    Args:
        axis: an axis or its name.
        mapping: from names to mesh axes; by default the one in force.
    """
    mapping = mapping if mapping is not None else current_thread_local_mapping()
    return None if mapping is None else mapping.get(names_of(axis)[0])


def physical_axis_size(axis: AxisSelector, mapping: ResourceMapping | None = None) -> int | None:
    """Over how many devices an axis is spread; None if it is not in the mapping.

    Args:
        axis: an axis or its name.
        mapping: from names to mesh axes; by default the one in force.

    Raises:
        AxisError: if no mesh is in force, or it lacks the mesh axis.
    """
    physical = physical_axis_name(axis, mapping)
    if physical is None:
        return None
    return _device_count(_mesh("physical_axis_size"), ensure_tuple(physical))


def round_axis_for_partitioning(axis: Axis, mapping: ResourceMapping | None = None) -> Axis:
    """The axis, made longer so that its size divides by the number of devices it is spread over.

    Args:
        axis: the axis.
        mapping: from names to mesh axes; by default the one in force.

    Raises:
        AxisError: if the mapping has it and no mesh is in force, or the mesh lacks the mesh axis.

    >>> mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> with hax.set_mesh(mesh):
    ...     hax.partitioning.round_axis_for_partitioning(hax.Axis("vocab", 50257), {"vocab": "data"})
    Axis(name='vocab', size=50264)
    """
    devices = physical_axis_size(axis, mapping)
    return axis if devices is None else axis.resize(-(-axis.size // devices) * devices)


def pspec_for_axis(axis: AxisSelection, mapping: ResourceMapping | None = None) -> PartitionSpec:
    """The `PartitionSpec` of an array with these axes, by the mapping or the one in force.

    A mesh axis is used once in an array: where two names claim it, the first keeps it.

    Args:
        axis: the axes of an array, in order.
        mapping: from names to mesh axes; by default the one in force.

    >>> axes = hax.make_axes(batch=4, position=6)
    >>> hax.partitioning.pspec_for_axis(axes, {"batch": ("replica", "data")})
    P(('replica', 'data'), None)
    """
    names = names_of(axis)
    if mapping is None:
        mapping = current_thread_local_mapping() or {}
        note_names(names)
    taken: set[str] = set()
    entries: list[Any] = []
    for name in names:
        physical = mapping.get(name)
        wanted = () if physical is None else (physical,) if isinstance(physical, str) else tuple(physical)
        free = tuple(mesh_axis for mesh_axis in wanted if mesh_axis not in taken)
        taken.update(free)
        entries.append(free[0] if len(free) == 1 else free or None)
    return PartitionSpec(*entries)


def sharding_for_axis(axis: AxisSelection, mapping: ResourceMapping | None = None, mesh: Any = None) -> NamedSharding:
    """The `NamedSharding` of an array with these axes, by the mapping or the one in force.

    Args:
        axis: the axes of an array, in order.
        mapping: from names to mesh axes; by default the one in force.
        mesh: by default the one in force.

    Raises:
        AxisError: if no mesh is given or in force, the mesh lacks a mesh axis of the mapping, or the size of an axis
            does not divide by the number of devices it is sharded over.
    """
    mesh = mesh if mesh is not None else _mesh("sharding_for_axis")
    spec = pspec_for_axis(axis, mapping)
    for selector, entry in zip(ensure_tuple(axis), spec, strict=True):
        if entry is not None:
            devices = _device_count(mesh, ensure_tuple(entry))
            if isinstance(selector, Axis) and selector.size % devices != 0:
                raise errors.indivisible_axis(selector, ensure_tuple(entry), devices)
    return NamedSharding(mesh, spec)


def pspec_for(
    tree: Any, resource_mapping: ResourceMapping | None = None, preserve_existing_shardings: bool = True
) -> Any:
    """The tree with a `PartitionSpec` for each array.

    That of a NamedArray follows the mapping, and so does that of an unnamed array in a field that names its dimensions,
    `hax.field(axis_names=...)`. Any other array or number is on every device. Other leaves give None.

    Args:
        tree: any tree.
        resource_mapping: from the names of axes to those of mesh axes; by default the one in force.
        preserve_existing_shardings: whether a NamedArray that is on devices already gives None.

    Raises:
        AxisError: if no mapping is given or in force.
    """
    if resource_mapping is None and current_thread_local_mapping() is None:
        raise errors.no_mapping("pspec_for")

    def spec_of(leaf: Any, names: Sequence[str] | None) -> PartitionSpec | None:
        if not isinstance(leaf, NamedArray):
            whole = hasattr(leaf, "ndim") or isinstance(leaf, bool | int | float | complex)
            if whole and names is not None and len(names) == getattr(leaf, "ndim", 0):
                return pspec_for_axis(tuple(names), resource_mapping)
            return PartitionSpec(*[None] * getattr(leaf, "ndim", 0)) if whole else None
        return None if preserve_existing_shardings and _placed(leaf) else pspec_for_axis(leaf.axes, resource_mapping)

    return map_with_field_names(spec_of, tree)


def infer_resource_partitions(
    tree: Any,
    resource_mapping: ResourceMapping | None = None,
    preserve_existing_shardings: bool = True,
    mesh: Any = None,
) -> Any:
    """The tree with a sharding for each array; see `pspec_for`.

    Args:
        tree: any tree.
        resource_mapping: from the names of axes to those of mesh axes; by default the one in force.
        preserve_existing_shardings: whether a NamedArray that is on devices already gives the sharding it has.
        mesh: by default the one in force.

    Raises:
        AxisError: if no mapping or no mesh is given or in force.
    """
    specs = pspec_for(tree, resource_mapping, preserve_existing_shardings=False)
    mesh = mesh if mesh is not None else _mesh("infer_resource_partitions")

    def sharding_of(leaf: Any, spec: PartitionSpec | None) -> Any:
        if spec is None:
            return None
        if not isinstance(leaf, NamedArray):
            return NamedSharding(mesh, spec)
        if preserve_existing_shardings and _placed(leaf):
            return leaf.array.sharding
        return sharding_for_axis(leaf.axes, resource_mapping, mesh)

    return jax.tree.map(sharding_of, tree, specs, is_leaf=is_named)


def _placed(leaf: NamedArray) -> bool:
    return isinstance(leaf.array, jax.Array) and not isinstance(leaf.array, Tracer)


def shard(x: Any, mapping: ResourceMapping | None = None, mesh: Any = None) -> Any:
    """The tree with its NamedArrays laid out by the mapping; unnamed arrays stay as they are.

    Inside of `jax.jit` this is a constraint for the compiler, or under an Explicit mesh a reshard; outside it moves the
    data. Where no mapping or no mesh is
    given or in force, nothing happens.

    Args:
        x: any tree.
        mapping: from the names of axes to those of mesh axes; by default the one in force.
        mesh: by default the one in force.

    Raises:
        AxisError: if the mesh lacks a mesh axis of the mapping, or the size of an axis does not divide by the number of
            devices it goes on.

    Warns:
        AxisWarning: for a name of a given mapping that no array has, where one has almost the same.

    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> x = hax.shard(hax.zeros({"batch": 4, "embed": 2}), {"batch": "data"}, mesh)
    >>> x.array.sharding.spec
    P('data', None)
    """
    if mapping is not None:
        warn_of_misspelt(mapping, axis_names(x))
    return laid_out(x, mapping, mesh)


def laid_out(x: Any, mapping: ResourceMapping | None, mesh: Any = None) -> Any:
    """What `shard` gives, without its warning."""
    if mapping is None and current_thread_local_mapping() is None:
        return x
    mesh = mesh if mesh is not None else mesh_in_force()
    return x if mesh is None else jax.tree.map(lambda leaf: _leaf_laid_out(leaf, mapping, mesh), x, is_leaf=is_named)


def _leaf_laid_out(leaf: Any, mapping: ResourceMapping | None, mesh: Any) -> Any:
    if not isinstance(leaf, NamedArray):
        return leaf
    sharding = sharding_for_axis(leaf.axes, mapping, mesh)
    if isinstance(leaf.array, Tracer):
        return unchecked(laid_out_by(leaf.array, sharding), leaf.axes)
    if isinstance(leaf.array, jax.ShapeDtypeStruct):
        return unchecked(jax.ShapeDtypeStruct(leaf.array.shape, leaf.array.dtype, sharding=sharding), leaf.axes)
    return unchecked(jax.device_put(leaf.array, sharding), leaf.axes)


shard_with_axis_mapping = shard


def auto_sharded(x: Any, mesh: Any = None) -> Any:
    """The tree laid out by the mapping in force; without one, as it is. See `shard`."""
    return x if current_thread_local_mapping() is None else shard(x, mesh=mesh)


def axis_names(tree: Any) -> set[str]:
    """The names of all axes of the NamedArrays of a tree."""
    leaves = jax.tree.leaves(tree, is_leaf=is_named)
    return {axis.name for leaf in leaves if isinstance(leaf, NamedArray) for axis in leaf.axes}


def _device_count(mesh: Any, mesh_axes: tuple[str, ...]) -> int:
    sizes = dict(mesh.shape)
    for name in mesh_axes:
        if name not in sizes:
            raise errors.unknown_mesh_axis(name, list(sizes))
    return prod(sizes[name] for name in mesh_axes)


def _get_mesh() -> Any:
    """The mesh in force, or an empty one: a private name that published code calls."""
    mesh = mesh_in_force()
    return Mesh(np.empty((), dtype=object), ()) if mesh is None else mesh


def _mesh(function: str) -> Any:
    mesh = mesh_in_force()
    if mesh is None:
        raise errors.no_mesh(function)
    return mesh
