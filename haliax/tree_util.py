"""Trees of named arrays: the functions of `jax.tree`, to which a NamedArray is one leaf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from haliax import random, shape
from haliax.array import NamedArray
from haliax.axis import Axis, AxisSelector, names_of
from haliax.create import zeros
from haliax.indexing import slice as slice_axis
from haliax.jax_utils import is_named

IsLeaf = Callable[[Any], bool] | None


def _leaf(is_leaf: IsLeaf) -> Callable[[Any], bool]:
    return is_named if is_leaf is None else lambda x: is_named(x) or is_leaf(x)


def tree_map(fn: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf = None) -> Any:
    """`jax.tree.map` with whole NamedArrays as leaves."""
    return jax.tree.map(fn, tree, *rest, is_leaf=_leaf(is_leaf))


def tree_leaves(tree: Any, is_leaf: IsLeaf = None) -> list[Any]:
    """`jax.tree.leaves` with whole NamedArrays as leaves."""
    return jax.tree.leaves(tree, is_leaf=_leaf(is_leaf))


def tree_flatten(tree: Any, is_leaf: IsLeaf = None) -> tuple[list[Any], Any]:
    """`jax.tree.flatten` with whole NamedArrays as leaves."""
    return jax.tree.flatten(tree, is_leaf=_leaf(is_leaf))


def tree_structure(tree: Any, is_leaf: IsLeaf = None) -> Any:
    """`jax.tree.structure` with whole NamedArrays as leaves."""
    return jax.tree.structure(tree, is_leaf=_leaf(is_leaf))


def tree_unflatten(structure: Any, leaves: Any) -> Any:
    """`jax.tree.unflatten`."""
    return jax.tree.unflatten(structure, leaves)


def hashable_partition(tree: Any, filter_spec: Any) -> tuple[list[Any], tuple[Any, tuple[Any, ...]]]:
    """The chosen leaves of a tree as a list, and the rest with the structure as one hashable value."""
    dynamic, static = eqx.partition(tree, filter_spec)
    leaves, structure = jax.tree.flatten(dynamic)
    static_leaves, static_structure = jax.tree.flatten(static)
    return leaves, (structure, (tuple(static_leaves), static_structure))


def hashable_combine(leaves: Any, static: Any) -> Any:
    """The tree that `hashable_partition` took apart."""
    structure, (static_leaves, static_structure) = static
    return eqx.combine(jax.tree.unflatten(structure, leaves), jax.tree.unflatten(static_structure, static_leaves))


def resize_axis(tree: Any, old_axis: AxisSelector, new_size: int | Axis, key: jax.Array | None = None) -> Any:
    """The tree with the axis at another size in every NamedArray: cut, or continued.

    Args:
        tree: any tree.
        old_axis: the axis to resize, where it is there.
        new_size: its size, or the axis.
        key: a random key: new elements are then normal numbers with the mean and deviation of the array, else zeros.
    """
    name = names_of(old_axis)[0]
    size = new_size.size if isinstance(new_size, Axis) else new_size
    leaves, structure = tree_flatten(tree)
    keys = [None] * len(leaves) if key is None else jax.random.split(key, max(1, len(leaves)))

    def resized(leaf: Any, leaf_key: Any) -> Any:
        if not isinstance(leaf, NamedArray) or not leaf.has_axis(name):
            return leaf
        old = leaf.resolve_axis(name)
        if size <= old.size:
            return leaf if size == old.size else slice_axis(leaf, name, old.resize(size))
        axes = tuple(axis.resize(size - old.size) if axis == old else axis for axis in leaf.axes)
        if leaf_key is None:
            more = zeros(axes, leaf.dtype)
        else:
            more = random.normal(leaf_key, axes) * leaf.array.std() + leaf.array.mean()
        return shape.concatenate(name, [leaf, more.astype(leaf.dtype)])

    return jax.tree.unflatten(structure, [resized(leaf, k) for leaf, k in zip(leaves, keys, strict=True)])
