"""The arguments of a loop or map, taken apart along an axis: which leaves, along which dimension, and who does it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haliax import errors
from haliax.axis import Axis, AxisSelector, names_of
from haliax.core.array import NamedArray, raw_array_or_scalar, unchecked
from haliax.jax_utils import broadcast_prefix, is_jax_or_hax_array_like, is_named


class Caller(NamedTuple):
    """Who loops, for its errors."""

    name: str
    own: int = 0
    """How many positional arguments go before those of its user."""
    exclude: str = ""
    """By which of its options an argument is excluded, if by any."""


class Slices:
    """Arguments that are taken apart along an axis: which leaves, and along which dimension of each.

    Args:
        caller: who takes them apart, for errors.
        axis: the axis.
        tree: the arguments: `(args, kwargs)`.
        choices: for each leaf True, False, None, or a dimension; a predicate, one value, or a tree of these.
        by_predicate: whether the choices are of yes and no, also for NamedArrays; else None keeps unnamed ones whole.
        must_map: whether it is an error that arrays are chosen and none has the axis.
    """

    def __init__(
        self,
        caller: Caller,
        axis: AxisSelector,
        tree: Any,
        choices: Any,
        by_predicate: bool = False,
        must_map: bool = True,
    ):
        self.caller, self.tree = caller, tree
        self.leaves, self.structure = jax.tree.flatten(tree, is_leaf=is_named)
        wanted = _decisions(choices, tree, self.leaves)
        if by_predicate:
            wanted = [bool(choice) for choice in wanted]
        chosen = [(x, choice) for x, choice in zip(self.leaves, wanted, strict=True) if _is_chosen(x, choice)]
        self.axis = _resolved(caller.name, axis, chosen)
        self.dimensions = [self._dimension(at, choice) for at, choice in enumerate(wanted)]
        if must_map and chosen and all(dimension is None for dimension in self.dimensions):
            raise errors.nothing_to_map(caller.name, axis, [x for x, _ in chosen])

    def _dimension(self, at: int, choice: Any) -> int | None:
        leaf = self.leaves[at]
        if not _is_chosen(leaf, choice):
            return None
        if isinstance(leaf, NamedArray):
            names = names_of(leaf.axes)
            if self.axis.name not in names:
                return None
            dimension = names.index(self.axis.name)
            if leaf.axes[dimension].size != self.axis.size:
                raise errors.loop_axis_size(self.caller.name, self.axis, leaf, self._place(at))
            return dimension
        dimension = range(len(leaf.shape))[int(choice) if choice is not True else 0]
        if leaf.shape[dimension] != self.axis.size:
            raise errors.leading_size(self.caller.name, self.axis, leaf, self._place(at), self.caller.exclude)
        return dimension

    def _place(self, at: int) -> str:
        """Where in `(args, kwargs)` the leaf number `at` is: `args[0]['weight']`, as the user of the caller counts."""
        (kind, first, *rest), _ = jax.tree_util.tree_flatten_with_path(self.tree, is_leaf=is_named)[0][at]
        if kind.idx:
            return f"kwargs{jax.tree_util.keystr((first, *rest))}"
        number = first.idx - self.caller.own
        return f"args[{number}]{jax.tree_util.keystr(tuple(rest))}"

    def leading(self) -> list[Any]:
        """The leaves that are taken apart, with the axis in front; a NamedArray does not list it any more."""
        return [_leading(x, d) for x, d in zip(self.leaves, self.dimensions, strict=True) if d is not None]

    def first(self) -> list[Any]:
        """The first slice of each leaf that is taken apart; of one without elements, one of the same shape."""

        def slice_of(leaf: Any, dimension: int) -> Any:
            shape = [size for position, size in enumerate(raw_array_or_scalar(leaf).shape) if position != dimension]
            raw = jax.ShapeDtypeStruct(tuple(shape), leaf.dtype)
            return unchecked(raw, _without(leaf.axes, dimension)) if isinstance(leaf, NamedArray) else raw

        return [slice_of(x, d) for x, d in zip(self.leaves, self.dimensions, strict=True) if d is not None]

    def joined(self, xs: list[Any]) -> Any:
        """The arguments of one step: the given slices, and the other leaves whole."""
        parts = iter(xs)
        leaves = [next(parts) if d is not None else x for x, d in zip(self.leaves, self.dimensions, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)


def _is_chosen(leaf: Any, choice: Any) -> bool:
    """Whether the leaf is an array with dimensions that is to be taken apart, if it has the axis."""
    if isinstance(leaf, NamedArray):
        return choice is not False
    return is_jax_or_hax_array_like(leaf) and bool(leaf.shape) and choice is not None and choice is not False


def _decisions(choices: Any, tree: Any, leaves: list[Any]) -> list[Any]:
    """For each leaf True, False, None, or a dimension, from a predicate, one of these, or a tree of them."""
    if callable(choices):
        return [choices(leaf) for leaf in leaves]
    if choices is None or isinstance(choices, bool | int):
        return [choices] * len(leaves)
    spread = broadcast_prefix(choices, tree, is_leaf=lambda x: x is None or is_named(x))
    flat = jax.tree.leaves(spread, is_leaf=lambda x: x is None)
    if len(flat) != len(leaves):  # leaves that are None in the tree have no place in `leaves`
        flat = [c for c, x in zip(flat, jax.tree.leaves(tree, is_leaf=_none_or_named), strict=True) if x is not None]
    return [choice(leaf) if callable(choice) else choice for choice, leaf in zip(flat, leaves, strict=True)]


def _none_or_named(value: Any) -> bool:
    return value is None or is_named(value)


def _resolved(function: str, axis: AxisSelector, chosen: list[tuple[Any, Any]]) -> Axis:
    """The axis with its size, from the first chosen array that has it; from any, if none has names."""
    if isinstance(axis, Axis):
        return axis
    for leaf, _ in chosen:
        if isinstance(leaf, NamedArray) and leaf.has_axis(axis):
            return leaf.resolve_axis(axis)
    if not chosen or any(isinstance(leaf, NamedArray) for leaf, _ in chosen):
        raise errors.nothing_to_map(function, axis, [leaf for leaf, _ in chosen])
    leaf, choice = chosen[0]
    return Axis(axis, leaf.shape[0 if choice is True else choice])


def _leading(leaf: Any, dimension: int) -> Any:
    if isinstance(leaf, NamedArray):
        raw = leaf.array if dimension == 0 else jnp.moveaxis(leaf.array, dimension, 0)
        return unchecked(raw, _without(leaf.axes, dimension))
    return leaf if dimension == 0 else jnp.moveaxis(leaf, dimension, 0)


def _without(axes: tuple[Axis, ...], dimension: int) -> tuple[Axis, ...]:
    return axes[:dimension] + axes[dimension + 1 :]
