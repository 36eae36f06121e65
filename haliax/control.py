"""Loops and maps over a named axis: `scan`, `fold`, `map`, `vmap`.

A NamedArray that has the axis is taken apart along it, wherever it stands, and the function sees it without the axis;
one that lacks it is passed whole. An unnamed array is taken apart along its first dimension. Results gain the axis in
front. Everything else (numbers, functions, None) is passed as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from haliax import errors
from haliax.array import NamedArray, unchecked, wrap
from haliax.axis import Axis, AxisSelector, names_of
from haliax.checkpointing import CARRY_NAME, INPUT_NAME, ScanCheckpointPolicy
from haliax.jax_utils import broadcast_prefix, is_jax_or_hax_array_like, is_named, tree_checkpoint_name
from haliax.shape import transposed


def scan(
    f: Callable[..., tuple[Any, Any]],
    axis: AxisSelector,
    *,
    reverse: bool = False,
    unroll: int = 1,
    is_scanned: Any = is_jax_or_hax_array_like,
    checkpoint: bool | str | ScanCheckpointPolicy = False,
) -> Callable[..., tuple[Any, Any]]:
    """A loop that carries a value along the axis: `scan(f, Layers)(init, *inputs)` is `(carry, outputs)`.

    Args:
        f: from the carry and the slices of the inputs to the next carry and the output of this step.
        axis: the axis to loop over. A name is enough if an input has it.
        reverse: whether to go from the last element to the first.
        unroll: how many steps make one iteration of the compiled loop.
        is_scanned: which leaves of the inputs are taken apart: a predicate, a boolean, or a tree of booleans.
        checkpoint: what to keep for the backward pass; see `ScanCheckpointPolicy`.

    Raises:
        AxisError: if no input has the axis, or an unnamed input has another size in front.
    """
    policy = ScanCheckpointPolicy.of(checkpoint)

    @wraps(f, updated=())
    def scanned(init: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        slices = Slices("scan", axis, (args, kwargs), is_scanned)
        arrays, statics = _partition(init)

        def step(carry: Any, xs: Any) -> tuple[Any, Any]:
            if not policy.disable:
                carry, xs = _labelled(policy, carry, xs)
            positional, keywords = slices.joined(xs)
            whole = _joined(carry, statics)
            after, output = f(whole, *positional, **keywords)
            return _partition(_like(after, whole))[0], output

        carry, outputs = _loop(policy, step, arrays, slices, reverse, unroll)
        return _joined(carry, statics), with_axis(outputs, slices.axis)

    return scanned


def fold(
    fn: Callable[..., Any],
    axis: AxisSelector,
    *,
    reverse: bool = False,
    unroll: int = 1,
    is_scanned: Any = is_jax_or_hax_array_like,
    checkpoint: bool | str | ScanCheckpointPolicy = False,
) -> Callable[..., Any]:
    """A loop that carries a value along the axis: `fold(f, Layers)(init, *inputs)` is the last carry.

    Args and errors are those of `scan`, but `fn` gives the next carry only.
    """
    looped = scan(
        lambda carry, *args, **kwargs: (fn(carry, *args, **kwargs), None),
        axis,
        reverse=reverse,
        unroll=unroll,
        is_scanned=is_scanned,
        checkpoint=checkpoint,
    )
    return lambda init, *args, **kwargs: looped(init, *args, **kwargs)[0]


def map(
    fn: Callable[..., Any],
    axis: AxisSelector,
    *,
    reverse: bool = False,
    unroll: int = 1,
    is_mapped: Any = is_jax_or_hax_array_like,
) -> Callable[..., Any]:
    """`fn` of each slice along the axis, one after the other; the results gain the axis. `vmap` does all at once."""
    looped = scan(
        lambda _, *args, **kwargs: (None, fn(*args, **kwargs)),
        axis,
        reverse=reverse,
        unroll=unroll,
        is_scanned=is_mapped,
    )
    return lambda *args, **kwargs: looped(None, *args, **kwargs)[1]


def vmap(
    fn: Callable[..., Any],
    axis: AxisSelector,
    *,
    default: Any = is_jax_or_hax_array_like,
    args: Any = (),
    kwargs: Any = None,
) -> Callable[..., Any]:
    """`fn` of each slice along the axis, all at once; the results gain the axis.

    Args:
        fn: any function of trees.
        axis: the axis to map over. A name is enough if an argument has it.
        default: which leaves are taken apart: a predicate, a boolean, or a tree of these.
        args: the same for the positional arguments, in order; None or a missing one means `default`. An integer maps an
            unnamed array along that dimension.
        kwargs: the same for the keyword arguments, by name.

    Raises:
        AxisError: if no argument has the axis, or an unnamed one has another size there.
    """

    @wraps(fn, updated=())
    def mapped(*positional: Any, **keywords: Any) -> Any:
        choices = (
            tuple(_choice(args, position, default) for position in range(len(positional))),
            {name: (kwargs or {}).get(name, default) for name in keywords},
        )
        slices = Slices("vmap", axis, (positional, keywords), choices)
        rest: list[Any] = []

        def inner(xs: Any) -> Any:
            inner_args, inner_kwargs = slices.joined(xs)
            arrays, statics = _partition(fn(*inner_args, **inner_kwargs))
            rest.append(statics)
            return arrays

        results = jax.vmap(inner, axis_size=slices.axis.size)(slices.leading())
        return with_axis(_joined(results, rest[-1]), slices.axis)

    return mapped


def _choice(choices: Any, position: int, default: Any) -> Any:
    if position < len(choices) and choices[position] is not None:
        return choices[position]
    return default


class Slices:
    """Arguments that are taken apart along an axis: which leaves, and along which dimension of each."""

    def __init__(self, function: str, axis: AxisSelector, tree: Any, choices: Any, must_map: bool = True):
        self.leaves, self.structure = jax.tree.flatten(tree, is_leaf=is_named)
        wanted = _decisions(choices, tree, self.leaves)
        self.axis = _resolved(function, axis, self.leaves, wanted)
        self.dimensions = [
            self._dimension(function, leaf, choice) for leaf, choice in zip(self.leaves, wanted, strict=True)
        ]
        if must_map and all(dimension is None for dimension in self.dimensions):
            raise errors.nothing_to_map(function, axis, [x for x in self.leaves if is_jax_or_hax_array_like(x)])

    def _dimension(self, function: str, leaf: Any, choice: Any) -> int | None:
        if choice is False or choice is None or not is_jax_or_hax_array_like(leaf):
            return None
        if isinstance(leaf, NamedArray):
            names = names_of(leaf.axes)
            if self.axis.name not in names:
                return None
            dimension = names.index(self.axis.name)
            if leaf.axes[dimension].size != self.axis.size:
                raise errors.wrong_axis_size(self.axis, leaf)
            return dimension
        dimension = 0 if choice is True else choice
        if not leaf.shape:
            return None
        if leaf.shape[dimension] != self.axis.size:
            raise errors.leading_size(function, self.axis, leaf)
        return dimension

    def leading(self) -> list[Any]:
        """The leaves that are taken apart, with the axis in front; a NamedArray does not list it any more."""
        return [_leading(x, d) for x, d in zip(self.leaves, self.dimensions, strict=True) if d is not None]

    def joined(self, xs: list[Any]) -> Any:
        """The arguments of one step: the given slices, and the other leaves whole."""
        parts = iter(xs)
        leaves = [next(parts) if d is not None else x for x, d in zip(self.leaves, self.dimensions, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)


def _decisions(choices: Any, tree: Any, leaves: list[Any]) -> list[Any]:
    """For each leaf True, False, or a dimension, from a predicate, a boolean, or a tree of these."""
    if callable(choices):
        return [bool(choices(leaf)) for leaf in leaves]
    if isinstance(choices, bool | int):
        return [choices] * len(leaves)
    spread = broadcast_prefix(choices, tree, is_leaf=lambda x: x is None or is_named(x))
    flat = jax.tree.leaves(spread, is_leaf=lambda x: x is None)
    if len(flat) != len(leaves):  # leaves that are None in the tree have no place in `leaves`
        flat = [c for c, x in zip(flat, jax.tree.leaves(tree, is_leaf=_none_or_named), strict=True) if x is not None]
    return [bool(choice(leaf)) if callable(choice) else choice for choice, leaf in zip(flat, leaves, strict=True)]


def _none_or_named(value: Any) -> bool:
    return value is None or is_named(value)


def _resolved(function: str, axis: AxisSelector, leaves: list[Any], wanted: list[Any]) -> Axis:
    if isinstance(axis, Axis):
        return axis
    for leaf, choice in zip(leaves, wanted, strict=True):
        if choice is not False and isinstance(leaf, NamedArray):
            for own in leaf.axes:
                if own.name == axis:
                    return own
    raise errors.nothing_to_map(function, axis, [x for x in leaves if is_jax_or_hax_array_like(x)])


def _leading(leaf: Any, dimension: int) -> Any:
    if isinstance(leaf, NamedArray):
        raw = leaf.array if dimension == 0 else jnp.moveaxis(leaf.array, dimension, 0)
        return unchecked(raw, leaf.axes[:dimension] + leaf.axes[dimension + 1 :])
    return leaf if dimension == 0 else jnp.moveaxis(leaf, dimension, 0)


def with_axis(tree: Any, axis: Axis) -> Any:
    """The tree whose NamedArrays have arrays with one dimension more in front than they have axes: `axis`."""
    return jax.tree.map(lambda x: wrap(x.array, (axis, *x.axes)) if is_named(x) else x, tree, is_leaf=is_named)


def pieces(axis: Axis, tree: Any) -> list[Any]:
    """The tree taken apart along the axis as in a loop: one tree for each element; leaves without the axis whole."""
    if not jax.tree.leaves(tree):
        return [tree] * axis.size
    slices = Slices("a loop", axis, tree, is_jax_or_hax_array_like, must_map=False)
    leading = slices.leading()
    return [slices.joined(jax.tree.map(lambda x, at=at: x[at], leading)) for at in range(axis.size)]


def stacked_trees(axis: Axis, trees: list[Any]) -> Any:
    """The trees as one, whose arrays have the axis in front."""
    return with_axis(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees), axis)


def _is_dynamic(leaf: Any) -> bool:
    return isinstance(leaf, NamedArray | bool | int | float | complex) or is_jax_or_hax_array_like(leaf)


def _partition(tree: Any) -> tuple[Any, tuple[Any, list[Any]]]:
    """The numbers and arrays of a tree, and all that is needed to put the tree together again."""
    leaves, structure = jax.tree.flatten(tree, is_leaf=is_named)
    return [x for x in leaves if _is_dynamic(x)], (structure, [None if _is_dynamic(x) else (x,) for x in leaves])


def _joined(arrays: list[Any], statics: tuple[Any, list[Any]]) -> Any:
    structure, places = statics
    parts = iter(arrays)
    return jax.tree.unflatten(structure, [next(parts) if place is None else place[0] for place in places])


def _like(after: Any, before: Any) -> Any:
    """The new carry, with the axes of each NamedArray in the order of the old one."""

    def ordered(new: Any, old: Any) -> Any:
        if is_named(new) and is_named(old) and new.axes != old.axes and set(new.axes) == set(old.axes):
            return transposed(new, old.axes)
        return new

    if jax.tree.structure(after, is_leaf=is_named) != jax.tree.structure(before, is_leaf=is_named):
        return after  # lax.scan says what differs
    return jax.tree.map(ordered, after, before, is_leaf=is_named)


def _labelled(policy: ScanCheckpointPolicy, carry: Any, xs: Any) -> tuple[Any, Any]:
    """Names for what the policy treats by name; without need, no name is put."""
    if policy.save_carries == "offload":
        carry = tree_checkpoint_name(carry, CARRY_NAME)
    if policy.save_inputs:
        xs = tree_checkpoint_name(xs, INPUT_NAME)
    return carry, xs


def _loop(
    policy: ScanCheckpointPolicy, step: Callable[..., Any], init: Any, slices: Slices, reverse: bool, unroll: int
) -> tuple[Any, Any]:
    """`lax.scan` under the policy: plain, or in blocks that are checkpointed themselves."""
    body, xs, trips = policy.checkpointed(step), slices.leading(), slices.axis.size
    blocks = policy.blocks(trips)
    if blocks is None:
        return lax.scan(body, init, xs, length=trips, reverse=reverse, unroll=unroll)
    cut = jax.tree.map(lambda x: jnp.reshape(x, (blocks, trips // blocks, *x.shape[1:])), xs)
    outer = policy.checkpointed(lambda c, x: lax.scan(body, c, x, reverse=reverse, unroll=unroll))
    carry, outputs = lax.scan(outer, init, cut, reverse=reverse)
    return carry, jax.tree.map(lambda y: jnp.reshape(y, (trips, *y.shape[2:])), outputs)
