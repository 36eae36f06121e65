"""Meshes whose axes are Explicit: the sharding is part of an array's type, and an operation says that of its result.

`jax.make_mesh` makes such meshes. Under one JAX derives the sharding of each result from those of the operands, and
raises where that is ambiguous: a product of two operands sharded over the same mesh axis, a lookup in a sharded table,
an element of a sharded axis. Names decide it. The operation then runs as under an Auto mesh, where XLA partitions it,
and its result is sharded axis by axis: as the axis mapping in force says, else as an operand has the axis of that name.
A mesh axis is used once in a result; what the mapping says goes first.

Where JAX derives the sharding itself nothing is done here, and nothing is asked either: an operation is run again only
when it raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from math import prod
from typing import Any, ParamSpec, TypeVar

import jax
from jax.sharding import PartitionSpec

from haliax._compat import SHARDING_ERRORS as SHARDING_ERRORS
from haliax.axis import Axis
from haliax.core.array import NamedArray, unchecked

P = ParamSpec("P")
R = TypeVar("R")

MAPPINGS: list[Callable[[], Mapping[str, Any] | None]] = []
"""Who says the axis mapping in force: `haliax.partitioning.mapping` puts itself here."""


def explicit_mesh() -> Any:
    """The mesh in force if it has Explicit axes here (inside of `jax.sharding.auto_axes` it has none), else None."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if not mesh.empty and mesh.explicit_axes else None


def on_any_mesh(function: Callable[P, R]) -> Callable[P, R]:
    """The function of NamedArrays, which names its result's sharding where JAX cannot derive it."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (*SHARDING_ERRORS, ValueError, NotImplementedError) as error:
            return retried(error, function, *args, **kwargs)

    return call


def retried(error: Exception, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the function gives with XLA as its partitioner, if the error is one of shardings; else raises the error."""
    if not (isinstance(error, SHARDING_ERRORS) or any(word in str(error) for word in ("shard", "mesh", "replicated"))):
        raise error
    mesh = explicit_mesh()
    if mesh is None:
        raise error
    lifted: list[Any] = []
    _with_arrays((args, kwargs), lifted.append)

    def inside(arrays: list[Any]) -> Any:
        rest = iter(arrays)
        positional, named = _with_arrays((args, kwargs), lambda _: next(rest))
        return function(*positional, **named)

    try:
        shapes = jax.eval_shape(jax.sharding.auto_axes(inside, out_sharding=PartitionSpec()), lifted)
    except Exception:  # what depends on the numbers cannot be traced, and runs where every device has them all
        replicated = jax.tree.map(lambda x: jax.sharding.reshard(x, PartitionSpec()), lifted)
        return inside(replicated)
    specs = jax.tree.map(lambda leaf: _spec_of_result(leaf, lifted, mesh), shapes, is_leaf=_is_named)
    return jax.sharding.auto_axes(inside, out_sharding=specs)(lifted)


def _with_arrays(tree: Any, replaced: Callable[[Any], Any]) -> Any:
    """The tree with each array in it replaced. Unlike those of pytrees, entries of a dict keep their order."""
    if type(tree) is dict:
        return {key: _with_arrays(value, replaced) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)([_with_arrays(value, replaced) for value in tree])
    return jax.tree.map(lambda leaf: replaced(leaf) if _is_array(leaf) else leaf, tree, is_leaf=_is_named)


def _is_named(leaf: Any) -> bool:
    return isinstance(leaf, NamedArray)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf.array if isinstance(leaf, NamedArray) else leaf, jax.Array)


def _spec_of_result(leaf: Any, operands: Sequence[Any], mesh: Any) -> Any:
    if not isinstance(leaf, NamedArray):
        return PartitionSpec()
    named = [operand for operand in operands if isinstance(operand, NamedArray)]
    return unchecked(spec_for(leaf.axes, named, mesh), leaf.axes)


def spec_for(axes: Sequence[Axis], operands: Sequence[NamedArray], mesh: Any) -> PartitionSpec:
    """The sharding of a result with these axes, over the Explicit axes of the mesh.

    By the mapping in force; an axis that it lacks keeps the sharding of the first operand that has it sharded.
    """
    mapping = mapping_in_force() or {}
    inherited: dict[str, Any] = {}
    for operand in operands:
        for axis, entry in _entries(operand):
            inherited.setdefault(axis.name, entry)
    taken: set[str] = set()
    chosen: dict[str, tuple[str, ...]] = {}
    for source in (mapping, inherited):
        for axis in axes:
            entry = source.get(axis.name)
            if entry is not None and axis.name not in chosen:
                chosen[axis.name] = _free(axis, entry, taken, mesh)
                taken.update(chosen[axis.name])
    return PartitionSpec(*[_entry(chosen.get(axis.name, ())) for axis in axes])


def _free(axis: Axis, entry: Any, taken: set[str], mesh: Any) -> tuple[str, ...]:
    wanted = (entry,) if isinstance(entry, str) else tuple(entry)
    free = tuple(name for name in wanted if name in mesh.explicit_axes and name not in taken)
    return free if axis.size % prod([mesh.shape[name] for name in free]) == 0 else ()


def _entry(names: tuple[str, ...]) -> Any:
    return names[0] if len(names) == 1 else names or None


def _entries(array: NamedArray) -> Iterator[tuple[Axis, Any]]:
    """The axes of the array that are sharded, each with the mesh axes."""
    sharding = getattr(jax.typeof(array.array), "sharding", None)
    for axis, entry in zip(array.axes, sharding.spec if sharding is not None else (), strict=False):
        if entry is not None:
            yield axis, entry


def mapping_in_force() -> Mapping[str, Any] | None:
    """The axis mapping in force; None without one."""
    return next((mapping for of in MAPPINGS if (mapping := of()) is not None), None)


def made(array: NamedArray) -> NamedArray:
    """A new array, which has no operands to take a sharding from, as the axis mapping in force says."""
    if mapping_in_force() is None or (mesh := explicit_mesh()) is None:
        return array
    return unchecked(jax.sharding.reshard(array.array, spec_for(array.axes, (), mesh)), array.axes)


def laid_out_by(array: Any, sharding: Any) -> Any:
    """The traced array with this sharding: resharded over Explicit mesh axes, constrained over Auto ones."""
    mesh = explicit_mesh()
    if mesh is None:
        return jax.lax.with_sharding_constraint(array, sharding)
    array = jax.sharding.reshard(array, _part(sharding.spec, mesh.explicit_axes))
    if mesh.auto_axes:
        array = jax.lax.with_sharding_constraint(array, _part(sharding.spec, mesh.auto_axes))
    return array


def _part(spec: PartitionSpec, mesh_axes: Sequence[str]) -> PartitionSpec:
    """The spec with only these of its mesh axes."""
    entries = [() if entry is None else (entry,) if isinstance(entry, str) else entry for entry in spec]
    return PartitionSpec(*[_entry(tuple(name for name in entry if name in mesh_axes)) for entry in entries])


def loop_inputs(xs: Any) -> Any:
    """The inputs of a loop, each with its first dimension, along which it is taken apart, on every device."""
    if explicit_mesh() is None:
        return xs

    def gathered(x: Any) -> Any:
        spec = jax.typeof(x).sharding.spec
        return jax.sharding.reshard(x, PartitionSpec(None, *spec[1:])) if spec and spec[0] is not None else x

    return jax.tree.map(gathered, xs)


def first_carry(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> Any:
    """The first carry of a loop, sharded as the step gives the next one."""
    if explicit_mesh() is None or not jax.tree.leaves(xs):
        return carry
    after, _ = jax.eval_shape(lambda c, x: step(c, jax.tree.map(lambda leaf: leaf[0], x)), carry, xs)
    return like(carry, after)


def like(tree: Any, other: Any) -> Any:
    """The tree with its arrays sharded as those of a tree of the same structure; any other tree as it is."""
    if explicit_mesh() is None or jax.tree.structure(tree) != jax.tree.structure(other):
        return tree

    def sharded(x: Any, y: Any) -> Any:
        now, wanted = getattr(jax.typeof(x), "sharding", None), getattr(jax.typeof(y), "sharding", None)
        if now is None or wanted is None or now.spec == wanted.spec or x.shape != y.shape:
            return x
        return jax.sharding.reshard(x, wanted.spec)

    return jax.tree.map(sharded, tree, other)
