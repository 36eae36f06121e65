"""Trees of named arrays: the functions of `jax.tree`, to which a NamedArray is one leaf."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from haliax import random
from haliax.axis import AxisSelector, names_of
from haliax.core.array import NamedArray
from haliax.hof.loops import vmap
from haliax.jax_utils import is_named, maybe_rng_split
from haliax.nn.scan import Stacked
from haliax.ops import shape
from haliax.ops.align import broadcast_to
from haliax.ops.indexing import slice as slice_axis

IsLeaf = Callable[[Any], bool] | None
"""What else is a leaf of a tree, besides NamedArrays; None for nothing."""


def _leaf(is_leaf: IsLeaf) -> Callable[[Any], bool]:
    return is_named if is_leaf is None else lambda x: is_named(x) or is_leaf(x)


def tree_map(fn: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf = None) -> Any:
    """`jax.tree.map` with whole NamedArrays as leaves.

    >>> hax.tree_util.tree_map(lambda x: x.axes, {"weight": hax.zeros({"embed": 2})})
    {'weight': (Axis(name='embed', size=2),)}
    """
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


def tree_unflatten(treedef: Any, leaves: Any) -> Any:
    """`jax.tree.unflatten`."""
    return jax.tree.unflatten(treedef, leaves)


def scan_aware_tree_map(fn: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf = None) -> Any:
    """`tree_map` that sees the layers of a `Stacked` one by one: in each, `fn` is mapped over the axis of the layers.

    Args:
        fn: from a leaf (and those of `rest` at its place) to a leaf. Of a `Stacked` it gets arrays of one layer.
        tree: any tree.
        rest: trees of the same structure.
        is_leaf: what else is a leaf.
    """

    def is_whole(node: Any) -> bool:
        return isinstance(node, Stacked) or (is_leaf is not None and is_leaf(node))

    def mapped(node: Any, *others: Any) -> Any:
        if not isinstance(node, Stacked) or (is_leaf is not None and is_leaf(node)):
            return fn(node, *others)

        def mapped_layer(*layer: Any) -> Any:
            return scan_aware_tree_map(fn, *layer, is_leaf=is_leaf)

        stacked = vmap(mapped_layer, node.Block)(node.stacked, *[other.stacked for other in others])
        return dataclasses.replace(node, stacked=stacked)

    return tree_map(mapped, tree, *rest, is_leaf=is_whole)


def hashable_partition(pytree: Any, filter_spec: Any) -> tuple[Any, tuple[Any, tuple[Any, ...]]]:
    """The tree with its chosen leaves only, and the rest with the structure as one hashable value."""
    dynamic, static = eqx.partition(pytree, filter_spec)
    leaves, structure = jax.tree.flatten(static)
    return dynamic, (structure, tuple(leaves))


def hashable_combine(dynamic: Any, static: Any) -> Any:
    """The tree that `hashable_partition` took apart."""
    structure, leaves = static
    return eqx.combine(dynamic, jax.tree.unflatten(structure, leaves))


def resize_axis(tree: Any, old_axis: AxisSelector, new_size: int, key: jax.Array | None = None) -> Any:
    """The tree with the axis at another size in every NamedArray: cut, or continued.

    Args:
        tree: any tree.
        old_axis: the axis to resize, where it is there.
        new_size: its size.
        key: a random key: new elements are then drawn from a normal distribution, truncated at two deviations, with the
            mean and deviation along the axis of those that are there. Without it they are the mean.

    Raises:
        AxisError: if an array has the axis with another size than `old_axis`.
    """
    leaves, structure = tree_flatten(tree)
    keys = maybe_rng_split(key, max(1, len(leaves)))
    return jax.tree.unflatten(
        structure, [_resized(x, old_axis, new_size, k) for x, k in zip(leaves, keys, strict=True)]
    )


def _resized(leaf: Any, old_axis: AxisSelector, size: int, key: Any) -> Any:
    name = names_of(old_axis)[0]
    if not isinstance(leaf, NamedArray) or not leaf.has_axis(name):
        return leaf
    old = leaf.resolve_axis(old_axis)
    if size <= old.size:
        return leaf if size == old.size else slice_axis(leaf, name, old.resize(size))
    axes = tuple(axis.resize(size - old.size) if axis == old else axis for axis in leaf.axes)
    more = broadcast_to(leaf.mean(name), axes)
    if key is not None:
        more = more + random.truncated_normal(key, axes, lower=-2, upper=2) * leaf.std(name)
    return shape.concatenate(name, [leaf, more])
