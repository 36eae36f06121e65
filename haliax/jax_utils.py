"""Small helpers around JAX: what counts as an array, random keys that may be absent, checkpointing of modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.core import Tracer

from haliax.array import NamedArray
from haliax.axis import to_jax_shape as to_jax_shape


class Static(eqx.Module):
    """A value that is structure, not data, in a pytree."""

    value: Any = eqx.field(static=True)


def is_named(value: Any) -> bool:
    """Whether the value is a NamedArray: a leaf, where trees of named arrays are mapped."""
    return isinstance(value, NamedArray)


def is_jax_array_like(value: Any) -> bool:
    """Whether the value has a shape and a dtype: an array, tracer, or `jax.ShapeDtypeStruct`."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, NamedArray)


def is_jax_or_hax_array_like(value: Any) -> bool:
    """Whether the value is an array of any kind, named or not."""
    return isinstance(value, NamedArray) or is_jax_array_like(value)


def is_scalarish(value: Any) -> bool:
    """Whether the value is a number, or an array without dimensions."""
    return jnp.isscalar(value) or getattr(value, "shape", None) in ((), {})


def ensure_scalar(value: Any, *, name: str = "value") -> Any:
    """The value itself, or the array of a NamedArray without axes.

    Raises:
        AxisError: for a NamedArray with axes.
    """
    return value.scalar() if isinstance(value, NamedArray) else value


def is_in_jit() -> bool:
    """Whether this runs under a JAX transformation that stages, such as `jax.jit`."""
    return isinstance(jnp.zeros(()) + 0, Tracer)


def is_on_mac_metal() -> bool:
    """Whether the default device is Apple's Metal."""
    return jax.default_backend().lower() == "metal"


def maybe_rng_split(key: jax.Array | None, num: int = 2) -> Any:
    """`num` keys of one; `num` times None if there is no key."""
    return [None] * num if key is None else jax.random.split(key, num)


def shaped_rng_split(key: jax.Array, split_shape: int | Sequence[int] = 2) -> jax.Array:
    """Keys of one, in an array of the given shape."""
    return jax.random.split(key, split_shape if isinstance(split_shape, int) else tuple(split_shape))


def is_single_key(value: Any) -> bool:
    """Whether the value is one random key, of the new style or the old (two `uint32`s)."""
    if isinstance(value, NamedArray) or not hasattr(value, "dtype"):
        return False
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value.ndim == 0
    return value.dtype == np.uint32 and value.shape == (2,)


def filter_checkpoint(function: Callable[..., Any], *, prevent_cse: bool = True, policy: Any = None) -> Any:
    """`jax.checkpoint` for functions whose arguments and results have leaves that are not arrays."""

    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        dynamic, static = eqx.partition((args, kwargs), eqx.is_array)
        structure: list[Any] = []

        def inner(dynamic: Any) -> Any:
            positional, named = eqx.combine(dynamic, static)
            arrays, rest = eqx.partition(function(*positional, **named), eqx.is_array)
            structure.append(rest)
            return arrays

        arrays = jax.checkpoint(inner, prevent_cse=prevent_cse, policy=policy)(dynamic)
        return eqx.combine(arrays, structure[-1])

    return checkpointed


def tree_checkpoint_name(tree: Any, name: str) -> Any:
    """The tree with every array called `name`, for checkpoint policies that save by name."""
    return jax.tree.map(lambda leaf: checkpoint_name(leaf, name) if is_jax_array_like(leaf) else leaf, tree)


def broadcast_prefix(prefix: Any, tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """A tree with the structure of `tree` whose leaves are those of `prefix`, each standing for its whole subtree."""
    leaves: list[Any] = []

    def spread(value: Any, subtree: Any) -> None:
        leaves.extend([value] * jax.tree.structure(subtree, is_leaf=is_leaf).num_leaves)

    jax.tree.map(spread, prefix, tree, is_leaf=is_leaf)
    return jax.tree.unflatten(jax.tree.structure(tree, is_leaf=is_leaf), leaves)


def named_call(function: Callable[..., Any] | None = None, name: str | None = None) -> Any:
    """`jax.named_call`, as a decorator with or without arguments: the name shows in profiles and in the program."""
    if function is None:
        return lambda f: named_call(f, name)
    return jax.named_call(function, name=name or function.__qualname__)
