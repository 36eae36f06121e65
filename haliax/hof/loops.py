"""Loops and maps over a named axis: `scan`, `fold`, `map`, `vmap`.

A NamedArray that has the axis is taken apart along it, wherever it stands, and the function sees it without the axis;
one that lacks it is passed whole. An unnamed array is taken apart along its first dimension. Results gain the axis in
front. Everything else (numbers, functions, None) is passed as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from haliax import errors
from haliax.axis import Axis, AxisSelection, AxisSelector, check_distinct, ensure_tuple
from haliax.core import explicit
from haliax.core.array import NamedArray, wrap
from haliax.core.stale import fits, own_axes
from haliax.hof.checkpointing import CARRY_NAME, INPUT_NAME, ScanCheckpointPolicy
from haliax.hof.slices import Caller, Slices
from haliax.jax_utils import (
    is_jax_or_hax_array_like,
    is_named,
    multilevel_scan,
    tree_checkpoint_name,
)
from haliax.ops.shape import transposed

Carry = TypeVar("Carry")
Output = TypeVar("Output")
P = ParamSpec("P")


def scan(
    f: Callable[Concatenate[Carry, P], tuple[Carry, Output]],
    axis: AxisSelector,
    *,
    remat: bool | str | ScanCheckpointPolicy = False,
    reverse: bool = False,
    unroll: int | bool = 1,
    is_scanned: Any = is_jax_or_hax_array_like,
) -> Callable[Concatenate[Carry, P], tuple[Carry, Output]]:
    """A loop that carries a value along the axis: `scan(f, Layers)(init, *inputs)` is `(carry, outputs)`.

    Args:
        f: from the carry and the slices of the inputs to the next carry and the output of this step.
        axis: the axis to loop over. A name is enough if an input has it.
        remat: what to keep for the backward pass; see `ScanCheckpointPolicy`.
        reverse: whether to go from the last element to the first.
        unroll: how many steps make one iteration of the compiled loop; True for all.
        is_scanned: which leaves of the inputs are taken apart: a predicate, a boolean, or a tree of booleans.

    Raises:
        AxisError: if no input has the axis, or an unnamed input has another size in front.
        ValueError: if there is no such policy.
    """
    return looped(Caller("scan", exclude="`is_scanned`"), f, axis, remat, reverse, unroll, is_scanned)


def looped(
    caller: Caller,
    f: Callable[..., tuple[Carry, Output]],
    axis: AxisSelector,
    remat: bool | str | ScanCheckpointPolicy = False,
    reverse: bool = False,
    unroll: int | bool = 1,
    is_scanned: Any = is_jax_or_hax_array_like,
) -> Callable[..., tuple[Carry, Output]]:
    """`scan`, whose errors name the caller."""
    policy = ScanCheckpointPolicy.of(remat)

    @wraps(f, updated=())
    def scanned(init: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        slices = Slices(caller, axis, (args, kwargs), is_scanned, by_predicate=True)
        arrays, statics = _carried(init)
        arrays = jax.tree.map(lambda x: x if is_named(x) else jnp.asarray(x), arrays, is_leaf=is_named)

        def outcome(carry: Any, xs: Any) -> tuple[Any, Any, Any]:
            positional, keywords = slices.joined(xs)
            whole = _whole(carry, statics)
            after, output = carry_and_output(caller, f(whole, *positional, **keywords))
            return whole, _like(after, whole, slices), output

        def step(carry: Any, xs: Any) -> tuple[Any, Any]:
            if not policy.disable:
                carry, xs = _labelled(policy, carry, xs)
            _, after, output = outcome(carry, xs)
            return explicit.like(_carried(after)[0], carry), output

        try:
            carry, outputs = _loop(policy, step, arrays, slices, reverse, unroll)
        except TypeError:
            jax.eval_shape(lambda carry, xs: _check_carry(slices, *outcome(carry, xs)[:2]), arrays, slices.first())
            raise
        return _whole(carry, statics), with_axis(outputs, slices.axis)

    return scanned


def carry_and_output(caller: Caller, result: Any) -> tuple[Any, Any]:
    """The two of what a step of a scan returns; NamedTypeError if it is not two."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise errors.no_carry_and_output(caller.name, result)
    return result[0], result[1]


def fold(
    fn: Callable[Concatenate[Carry, P], Carry],
    axis: AxisSelector,
    *,
    remat: bool | str | ScanCheckpointPolicy = False,
    reverse: bool = False,
    unroll: int | bool = 1,
    is_scanned: Any = is_jax_or_hax_array_like,
) -> Callable[Concatenate[Carry, P], Carry]:
    """A loop that carries a value along the axis: `fold(f, Layers)(init, *inputs)` is the last carry.

    Args and errors are those of `scan`, but `fn` gives the next carry only.
    """
    return folded(Caller("fold", exclude="`is_scanned`"), fn, axis, remat, reverse, unroll, is_scanned)


def folded(caller: Caller, fn: Callable[..., Carry], *options: Any, **more: Any) -> Callable[..., Carry]:
    """`fold`, whose errors name the caller; the options are those of `looped`."""
    loop = looped(caller, lambda carry, *args, **kwargs: (fn(carry, *args, **kwargs), None), *options, **more)
    return lambda init, *args, **kwargs: loop(init, *args, **kwargs)[0]


def map(
    fn: Callable[P, Output],
    axis: AxisSelector,
    *,
    remat: bool | str | ScanCheckpointPolicy = False,
    reverse: bool = False,
    unroll: int | bool = 1,
    is_mapped: Any = is_jax_or_hax_array_like,
) -> Callable[P, Output]:
    """`fn` of each slice along the axis, one after the other; the results gain the axis. `vmap` does all at once.

    Args and errors are those of `scan`; `is_mapped` is its `is_scanned`.
    """
    caller, options = Caller("map", exclude="`is_mapped`"), (axis, remat, reverse, unroll, is_mapped)
    loop = looped(caller, lambda _, *args, **kwargs: (None, fn(*args, **kwargs)), *options)
    return lambda *args, **kwargs: loop(None, *args, **kwargs)[1]


def vmap(
    fn: Callable[P, Output],
    axis: AxisSelection,
    *,
    default: Any = is_jax_or_hax_array_like,
    args: Any = (),
    kwargs: Any = None,
) -> Callable[P, Output]:
    """`fn` of each slice along the axis, all at once; the arrays of the results gain the axis.

    Args:
        fn: any function of trees.
        axis: the axis to map over, or several: the first is then the first of the results. A name is enough if an
            argument has it.
        default: along which dimension unnamed arrays are taken apart: an integer, None for not at all, a function from
            a leaf to these, or a tree of these. True is the first dimension. A NamedArray that has the axis is taken
            apart along it; False keeps it whole too.
        args: the same for the positional arguments, in order, instead of `default`.
        kwargs: the same for the keyword arguments, by name.

    Raises:
        AxisError: if no argument has the axis, or an unnamed one has another size there.
    """
    if not isinstance(axis, str | Axis):
        for inner_axis in reversed(ensure_tuple(axis)):
            fn = vmap(fn, inner_axis, default=default, args=args, kwargs=kwargs)
        return fn
    return mapped_at_once(Caller("vmap", exclude="`default` or `args`"), fn, axis, default, args, kwargs)


def mapped_at_once(
    caller: Caller,
    fn: Callable[..., Output],
    axis: AxisSelector,
    default: Any = is_jax_or_hax_array_like,
    args: Any = (),
    kwargs: Any = None,
) -> Callable[..., Output]:
    """`vmap` over one axis, whose errors name the caller."""

    @wraps(fn, updated=())
    def mapped(*positional: Any, **keywords: Any) -> Any:
        choices = (
            (*args[: len(positional)], *[default] * (len(positional) - len(args))),
            {name: (kwargs or {}).get(name, default) for name in keywords},
        )
        slices = Slices(caller, axis, (positional, keywords), choices)
        rest: list[Any] = []

        def inner(xs: Any) -> Any:
            inner_args, inner_kwargs = slices.joined(xs)
            arrays, statics = _partition(fn(*inner_args, **inner_kwargs), is_jax_or_hax_array_like)
            rest.append(statics)
            return arrays

        results = jax.vmap(inner, axis_size=slices.axis.size)(slices.leading())
        return _joined(with_axis(results, slices.axis), rest[-1])

    return mapped


def with_axis(tree: Any, axis: Axis) -> Any:
    """The tree whose NamedArrays have arrays with one dimension more in front than they have axes: `axis`.

    Raises:
        AxisError: for one that has an axis of this name already, or whose axes were stale without that dimension.
    """

    def grown(leaf: Any) -> Any:
        if not is_named(leaf):
            return leaf
        own = own_axes(leaf.axes)
        axes = (axis, *own)
        check_distinct(axes)
        shape = getattr(leaf.array, "shape", None)
        if isinstance(shape, tuple) and not fits(axes, shape):
            raise errors.stale_axes(own, shape[1:])  # the function gave it so
        return wrap(leaf.array, axes)

    return jax.tree.map(grown, tree, is_leaf=is_named)


def pieces(caller: Caller, axis: Axis, tree: Any) -> list[Any]:
    """The tree taken apart along the axis as in a loop: one tree for each element; leaves without the axis whole."""
    if not jax.tree.leaves(tree):
        return [tree] * axis.size
    slices = Slices(caller, axis, tree, is_jax_or_hax_array_like, must_map=False)
    leading = slices.leading()
    return [slices.joined(jax.tree.map(lambda x, at=at: x[at], leading)) for at in range(axis.size)]


def stacked_trees(caller: Caller, axis: Axis, trees: list[Any]) -> Any:
    """The trees as one, whose arrays have the axis in front.

    Raises:
        AxisError: if an array has other axes or another shape in one of them.
    """
    for number, tree in enumerate(trees[1:], start=1):
        path, first, other = _first_change(trees[0], tree, _stacks_with)
        if path is not None:
            raise errors.outputs_differ(caller.name, axis, path, number, first, other)
    return with_axis(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees), axis)


def _is_dynamic(leaf: Any) -> bool:
    return isinstance(leaf, NamedArray | bool | int | float | complex) or is_jax_or_hax_array_like(leaf)


def _partition(tree: Any, is_dynamic: Callable[[Any], bool]) -> tuple[Any, tuple[Any, list[Any]]]:
    """The arrays of a tree, and all that is needed to put the tree together again."""
    leaves, structure = jax.tree.flatten(tree, is_leaf=is_named)
    return [x for x in leaves if is_dynamic(x)], (structure, [None if is_dynamic(x) else (x,) for x in leaves])


def _joined(arrays: list[Any], statics: tuple[Any, list[Any]]) -> Any:
    structure, places = statics
    parts = iter(arrays)
    return jax.tree.unflatten(structure, [next(parts) if place is None else place[0] for place in places])


def _carried(tree: Any) -> tuple[Any, Any]:
    """The arrays and numbers of a carry, and all else, each in the structure of the carry: so errors say the path."""
    return eqx.partition(tree, _is_dynamic, is_leaf=is_named)


def _whole(arrays: Any, statics: Any) -> Any:
    return eqx.combine(arrays, statics, is_leaf=is_named)


def _like(after: Any, before: Any, slices: Slices) -> Any:
    """The new carry, with the axes of each NamedArray in the order of the old one.

    Raises:
        CarryError: if it has another structure.
    """

    def ordered(new: Any, old: Any) -> Any:
        if is_named(new) and is_named(old) and new.axes != old.axes and set(new.axes) == set(old.axes):
            return transposed(new, old.axes)
        return new

    if jax.tree.structure(after, is_leaf=is_named) != jax.tree.structure(before, is_leaf=is_named):
        path, old, new = _first_change(before, after)
        who = slices.caller.name, slices.axis
        raise (
            errors.carry_structure(*who, before, after) if path is None else errors.carry_changes(*who, path, old, new)
        )
    return jax.tree.map(ordered, after, before, is_leaf=is_named)


def _check_carry(slices: Slices, before: Any, after: Any) -> None:
    """Raises CarryError for the first leaf of the carry whose type a step has changed."""
    path, old, new = _first_change(before, after)
    if path is not None:
        raise errors.carry_changes(slices.caller.name, slices.axis, path, old, new)


def _first_change(before: Any, after: Any, kind: Callable[[Any], Any] | None = None) -> tuple[str | None, Any, Any]:
    """Path, old and new value of the first leaf that differs, None where it is missing; no path if none differs."""
    kind = kind or _kind
    old, new = ({jax.tree_util.keystr(path): leaf for path, leaf in _with_paths(tree)} for tree in (before, after))
    for path in dict.fromkeys([*old, *new]):
        if path not in old or path not in new or kind(old[path]) != kind(new[path]):
            return path, old.get(path), new.get(path)
    return None, None, None


def _with_paths(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_named)[0]


def _kind(leaf: Any) -> Any:
    """What must stay the same of a leaf of the carry."""
    if isinstance(leaf, NamedArray):
        return NamedArray, leaf.axes, jnp.dtype(leaf.dtype)
    return (jnp.shape(leaf), jnp.result_type(leaf)) if _is_dynamic(leaf) else ()


def _stacks_with(leaf: Any) -> Any:
    """What must be the same of leaves that are stacked."""
    return leaf.axes if isinstance(leaf, NamedArray) else jnp.shape(leaf)


def _labelled(policy: ScanCheckpointPolicy, carry: Any, xs: Any) -> tuple[Any, Any]:
    """Names for what the policy treats by name; without need, no name is put."""
    if policy.save_carries == "offload":
        carry = tree_checkpoint_name(carry, CARRY_NAME)
    if policy.save_inputs:
        xs = tree_checkpoint_name(xs, INPUT_NAME)
    return carry, xs


def _loop(
    policy: ScanCheckpointPolicy, step: Callable[..., Any], init: Any, slices: Slices, reverse: bool, unroll: int | bool
) -> tuple[Any, Any]:
    """`lax.scan` under the policy: plain, or in blocks that are checkpointed themselves."""
    body, xs, trips = policy.checkpointed(step), explicit.loop_inputs(slices.leading()), slices.axis.size
    init = explicit.first_carry(body, init, xs)
    blocks = policy.blocks(trips)
    if blocks is None:
        return lax.scan(body, init, xs, length=trips, reverse=reverse, unroll=unroll)
    return multilevel_scan(body, init, xs, blocks, trips, reverse, unroll, checkpoint=policy.checkpointed)
