"""Small helpers around JAX: what counts as an array, random keys that may be absent, checkpointing, several hosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.core import Tracer
from jax.experimental import multihost_utils

from haliax import errors
from haliax.axis import axes_of
from haliax.core.array import NamedArray
from haliax.core.dslice import is_pallas_dslice as is_pallas_dslice


class Static(eqx.Module):
    """A value that is structure, not data, in a pytree."""

    value: Any = eqx.field(static=True)


def is_named(value: Any) -> bool:
    """Whether the value is a NamedArray: a leaf, where trees of named arrays are mapped."""
    return isinstance(value, NamedArray)


def is_jax_array_like(x: Any) -> bool:
    """Whether the value has a shape and a dtype: an array, named or not, a tracer, or `jax.ShapeDtypeStruct`."""
    return isinstance(x, NamedArray) or (hasattr(x, "shape") and hasattr(x, "dtype"))


is_jax_or_hax_array_like = is_jax_array_like


def is_scalarish(x: Any) -> bool:
    """Whether the value is a number, or an array without dimensions."""
    return jnp.isscalar(x) or getattr(x, "shape", None) in ((), {})


def ensure_scalar(x: Any, *, name: str = "value") -> Any:
    """The value itself, or the array of a NamedArray without axes.

    Args:
        x: anything.
        name: what the error calls it.

    Raises:
        NamedTypeError: for a NamedArray with axes.
    """
    if not isinstance(x, NamedArray):
        return x
    if x.axes:
        raise errors.argument_not_scalar(name, x)
    return x.array


def is_in_jit() -> bool:
    """Whether this runs under a JAX transformation that stages, such as `jax.jit`."""
    return isinstance(jnp.zeros(()) + 0, Tracer)


def is_on_mac_metal() -> bool:
    """Whether the default device is Apple's Metal."""
    return jax.default_backend().lower() == "metal"


def maybe_rng_split(key: jax.Array | None, num: int = 2) -> Any:
    """`num` keys of one, or the key itself if that is one; `num` times None if there is no key."""
    if key is None:
        return [None] * num
    return jnp.expand_dims(key, 0) if num == 1 else jax.random.split(key, num)


def shaped_rng_split(key: jax.Array, split_shape: int | Sequence[int] = 2) -> jax.Array:
    """Keys of one, in an array of the given shape; the key itself if that is ()."""
    shape = (split_shape,) if isinstance(split_shape, int) else tuple(split_shape)
    return jax.random.split(key, shape) if shape else key


def is_single_key(value: Any) -> bool:
    """Whether the value is one random key, of the new style or the old (two `uint32`s)."""
    if isinstance(value, NamedArray) or not hasattr(value, "dtype"):
        return False
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value.ndim == 0
    return value.dtype == np.uint32 and value.shape == (2,)


def filter_checkpoint(fun: Callable[..., Any], *, prevent_cse: bool = True, policy: Any = None) -> Any:
    """`jax.checkpoint` for functions whose arguments and results have leaves that are not arrays.

    Args:
        fun: the function.
        prevent_cse: whether the compiler is kept from merging the second computation with the first.
        policy: what is kept, from `jax.checkpoint_policies`; nothing by default.
    """

    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        dynamic, static = eqx.partition((args, kwargs), eqx.is_array)
        structure: list[Any] = []

        def inner(dynamic: Any) -> Any:
            positional, named = eqx.combine(dynamic, static)
            arrays, rest = eqx.partition(fun(*positional, **named), eqx.is_array)
            structure.append(rest)
            return arrays

        arrays = jax.checkpoint(inner, prevent_cse=prevent_cse, policy=policy)(dynamic)
        return eqx.combine(arrays, structure[-1])

    return checkpointed


filter_eval_shape = eqx.filter_eval_shape


def multilevel_scan(
    f: Callable[..., Any],
    carry: Any,
    xs: Any,
    outer_size: int,
    length: int,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    checkpoint: Callable[..., Any] = jax.checkpoint,
) -> tuple[Any, Any]:
    """`jax.lax.scan` in `outer_size` blocks, of which only the carries between them are kept for the backward pass.

    With about `sqrt(length)` blocks that takes memory for so many carries, and each step is computed once more.

    Args:
        f: from the carry and a slice of `xs` to the next carry and an output.
        carry: the first carry.
        xs: the inputs, with `length` in front.
        outer_size: how many blocks.
        length: how many steps in all.
        reverse: whether to go from the last to the first.
        unroll: how many steps make one iteration of the compiled inner loop.
        checkpoint: what makes a block forget its intermediates.

    Raises:
        AxisError: if the number of blocks does not divide the length.
    """
    if length % outer_size:
        raise errors.not_divisible("a nested loop", length, outer_size)
    inner = length // outer_size
    cut = jax.tree.map(lambda x: jnp.reshape(x, (outer_size, inner, *x.shape[1:])), xs)
    block = checkpoint(lambda c, x: jax.lax.scan(f, c, x, length=inner, reverse=reverse, unroll=unroll))
    carry, outputs = jax.lax.scan(block, carry, cut, length=outer_size, reverse=reverse)
    return carry, jax.tree.map(lambda y: jnp.reshape(y, (length, *y.shape[2:])), outputs)


def broadcast_one_to_all(in_tree: Any, is_source: bool | None = None) -> Any:
    """The tree of arrays of one host, on all hosts: of the one that says `is_source`, by default the first."""
    return multihost_utils.broadcast_one_to_all(in_tree, is_source=is_source)


def assert_equal(in_tree: Any, fail_message: str = "") -> None:
    """Raises AssertionError with the message if the hosts do not have the same tree of arrays."""
    multihost_utils.assert_equal(in_tree, fail_message=fail_message)


def sync_global_devices(name: str) -> None:
    """Waits until all hosts are here; `name` has to be the same on all of them."""
    multihost_utils.sync_global_devices(name)


def to_jax_shape(shape: Any) -> tuple[int, ...]:
    """The sizes of one axis or several, as a tuple."""
    return tuple(axis.size for axis in axes_of(shape))


def tree_checkpoint_name(x: Any, name: str) -> Any:
    """The tree with every array called `name`, for checkpoint policies that save by name.

    Args:
        x: any tree.
        name: what a `ScanCheckpointPolicy` calls the arrays by.
    """
    return jax.tree.map(lambda leaf: checkpoint_name(leaf, name) if is_jax_array_like(leaf) else leaf, x)


def broadcast_prefix(prefix_tree: Any, full_tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """A tree like `full_tree` whose leaves are those of `prefix_tree`, each standing for its whole subtree.

    Args:
        prefix_tree: a tree whose leaves stand where `full_tree` has subtrees or leaves.
        full_tree: the tree whose structure the result has.
        is_leaf: what is a leaf of both, besides what JAX takes for one.

    Raises:
        ValueError: if `prefix_tree` is not a prefix of `full_tree`.
    """
    leaves: list[Any] = []

    def spread(value: Any, subtree: Any) -> None:
        leaves.extend([value] * jax.tree.structure(subtree, is_leaf=is_leaf).num_leaves)

    jax.tree.map(spread, prefix_tree, full_tree, is_leaf=is_leaf)
    return jax.tree.unflatten(jax.tree.structure(full_tree, is_leaf=is_leaf), leaves)


def named_call(f: Callable[..., Any] | None = None, name: str | None = None) -> Any:
    """`jax.named_call`, as a decorator with or without arguments: the name shows in profiles and in the program."""
    if f is None:
        return lambda g: named_call(g, name)
    return jax.named_call(f, name=name or getattr(f, "__qualname__", type(f).__name__))
