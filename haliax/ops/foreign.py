"""What NamedArrays answer to `jnp`, numpy and Python where these go by number: an error that says what goes by name.

`numpy.asarray(x)` and `jnp.asarray(x)` give the numbers. numpy's elementwise functions and reductions are those of
haliax. Any other function would silently drop the names, or take dimensions by number, so it is refused.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import jax
import numpy as np

from haliax import _compat, errors
from haliax.core.array import NamedArray
from haliax.ops import elementwise, reduce

# Functions of numpy whose result has no place for names, or whose user has said where the numbers go.
_WITHOUT_NAMES = frozenset(
    (
        *("allclose", "array_equal", "array_equiv", "array2string", "array_repr", "array_str", "can_cast"),
        *("common_type", "copyto", "iscomplexobj", "isrealobj", "may_share_memory", "min_scalar_type", "ndim"),
        *("result_type", "save", "savetxt", "savez", "savez_compressed", "shares_memory", "size"),
    )
)
_BY_NAME = frozenset(
    (
        *("all", "amax", "amin", "angle", "any", "argmax", "argmin", "around", "clip", "imag", "isclose", "max"),
        *("mean", "min", "nanargmax", "nanargmin", "nanmax", "nanmean", "nanmin", "nanprod", "nanstd", "nansum"),
        *("nanvar", "prod", "ptp", "real", "round", "std", "sum", "var", "where"),
    )
)
_ABOUT_ARRAYS = frozenset(
    "jnp." + name for name in ("isscalar", "iscomplexobj", "isrealobj", "ndim", "size", "result_type")
)
_JAX = os.path.dirname(jax.__file__) + os.sep
# Where the functions that people call live in JAX, and how people call them.
_CALLED = {
    "numpy": "jnp",
    "nn": "jax.nn",
    "lax": "jax.lax",
    "scipy": "jax.scipy",
    "random": "jax.random",
    "random.py": "jax.random",
    "image": "jax.image",
    "ops": "jax.ops",
}
_UNNAMED = ("rewriting_take", "wrapped", "wrapper")


def numpy_function(array: NamedArray, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
    """What `numpy.mean(x)` does: the function of haliax of this name, if it means the same."""
    name = function.__name__
    if name in _BY_NAME and function is getattr(np, name, None):
        same = getattr(elementwise, name, None) or getattr(reduce, name)
        return same(*args, **{key: value for key, value in kwargs.items() if value is not np._NoValue})
    if name == "shape" and not _is_jax(sys._getframe(1)):
        return array.shape
    if name == "shape":
        raise errors.given_to_another_library(_called(sys._getframe(1)), array)
    if name in _WITHOUT_NAMES:
        return function(*_unnamed(args), **_unnamed(kwargs))
    module = function.__module__.replace("numpy", "np", 1)
    raise errors.given_to_another_library(f"{module}.{name}", array)


def _unnamed(tree: Any) -> Any:
    def raw(leaf: Any) -> Any:
        return leaf.array if isinstance(leaf, NamedArray) else leaf

    return jax.tree.map(raw, tree, is_leaf=lambda leaf: isinstance(leaf, NamedArray))


def jax_array(array: NamedArray) -> Callable[[], Any]:
    """The method by which JAX gets the array, which it looks for wherever one of its functions is given `array`.

    Only `jnp.asarray(x)` and `jnp.array(x)` get it. Others than JAX find no such method: to equinox, a NamedArray is a
    tree and no array.
    """
    caller = sys._getframe(1)
    if not _is_jax(caller):
        raise AttributeError("a NamedArray has no attribute `__jax_array__`", name="__jax_array__", obj=array)
    if _compat.is_scalar_check(caller):
        raise errors.named_loss(array)
    asking = caller.f_code.co_name
    if asking.startswith("_operator") or asking == "deferring_binary_op":
        return lambda: array  # the operator of a plain array then leaves it to that of the NamedArray
    return lambda: _converted(array)


def refuse_in_primitive(array: NamedArray) -> Any:
    """Refused: an operation of `jax.lax` was given the array."""
    raise errors.given_to_a_primitive(_called(sys._getframe(1)), array)


def _converted(array: NamedArray) -> Any:
    caller = sys._getframe(2)
    function = _called(caller)
    if function in _ABOUT_ARRAYS:
        return array.array
    if function in ("jnp.array", "jnp.asarray") and (not array.axes or caller.f_locals.get("object") is array):
        return array.array
    raise errors.given_to_another_library(function, array)


def _is_jax(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_JAX)


def _called(frame: FrameType | None) -> str:
    """The function of JAX that the innermost code outside of JAX has called."""
    name = "a function of JAX"
    while frame is not None and (_is_jax(frame) or "<" in frame.f_code.co_filename):
        name = _public_name(frame) or name
        frame = frame.f_back
    return name


def _public_name(frame: FrameType) -> str | None:
    """`jnp.linalg.norm` for the frame of a function that people call; None for any other."""
    folder, *rest = frame.f_code.co_filename.removeprefix(_JAX).removeprefix(f"_src{os.sep}").split(os.sep)
    room = _CALLED.get(folder)
    own = frame.f_code.co_name
    if own == "__call__":  # a `jnp.ufunc`
        own = getattr(frame.f_locals.get("self"), "__name__", "_")
    if room is None or own.startswith(("_", "<")):
        return None
    if own in _UNNAMED:
        return "a function of JAX"
    part = rest[-1].removesuffix(".py") if rest else ""
    if folder == "numpy" and part == "array_methods":
        return f"jax.Array.at[…].{own}"
    return f"{room}.{part}.{own}" if part in ("linalg", "fft", "special", "stats") else f"{room}.{own}"


def length(array: NamedArray) -> int:
    """Refused: no axis is the first."""
    raise errors.no_length(array)


def iterate(array: NamedArray) -> Iterator[Any]:
    """Refused: no axis is the first."""
    raise errors.not_iterable(array)


def contains(array: NamedArray, value: Any) -> bool:
    """Refused: an axis is asked for with `has_axis`."""
    raise errors.no_membership(array, value)
