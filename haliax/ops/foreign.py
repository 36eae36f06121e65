"""What NamedArrays answer to `jnp`, numpy and Python where these go by number: an error that says what goes by name.

`numpy.asarray(x)` and `jnp.asarray(x)` give the numbers. numpy's elementwise functions and reductions are those of
haliax. Any other function would silently drop the names, or take dimensions by number, so it is refused; so is one that
finds NamedArrays in a list. Only `numpy.array([x, y])` gives the numbers of both, because numpy asks each for its
numbers in the same way as `numpy.asarray(x)` does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
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


def numpy_function(array: NamedArray, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
    """What `numpy.mean(x)` does: the function of haliax of this name, if it means the same."""
    name = function.__name__
    if name in _BY_NAME and function is getattr(np, name, None):
        same = getattr(elementwise, name, None) or getattr(reduce, name)
        return same(*args, **{key: value for key, value in kwargs.items() if value is not np._NoValue})
    if name == "shape":
        caller = sys._getframe(1)
        if not _compat.is_of_jax(caller):
            return array.shape
        raise errors.given_to_another_library(_compat.called_of_jax(caller), array)
    if name in _WITHOUT_NAMES:
        return function(*_unnamed(args), **_unnamed(kwargs))
    module = function.__module__.replace("numpy", "np", 1)
    raise errors.given_to_another_library(f"{module}.{name}", array)


def numbers(array: NamedArray, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """What `numpy.asarray(x)` gets.

    Raises:
        NamedTypeError: if a function of numpy asks that was given a list which holds the array, or knows no protocol.
    """
    function = _compat.called_of_numpy(sys._getframe(1))
    if function is not None and array.axes:
        raise errors.names_dropped(function, array)
    found = np.asarray(array.array)
    return found.astype(dtype) if dtype is not None and found.dtype != dtype else found


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
    if not _compat.is_of_jax(caller):
        raise AttributeError("a NamedArray has no attribute `__jax_array__`", name="__jax_array__", obj=array)
    if _compat.is_scalar_check(caller):
        raise errors.named_loss(array)
    if _compat.is_array_operator(caller):
        return lambda: array  # the operator of a plain array then leaves it to that of the NamedArray
    return lambda: _converted(array)


def refuse_in_primitive(array: NamedArray) -> Any:
    """Refused: an operation of `jax.lax` was given the array."""
    raise errors.given_to_a_primitive(_compat.called_of_jax(sys._getframe(1)), array)


def _converted(array: NamedArray) -> Any:
    caller = sys._getframe(2)
    function = _compat.called_of_jax(caller)
    if function in _ABOUT_ARRAYS:
        return array.array
    if function in ("jnp.array", "jnp.asarray") and (not array.axes or _compat.is_given_itself(caller, array)):
        return array.array
    raise errors.given_to_another_library(function, array)


def length(array: NamedArray) -> int:
    """Refused: no axis is the first."""
    raise errors.no_length(array)


def iterate(array: NamedArray) -> Iterator[Any]:
    """Refused: no axis is the first."""
    raise errors.not_iterable(array)


def contains(array: NamedArray, value: Any) -> bool:
    """Refused: an axis is asked for with `has_axis`."""
    raise errors.no_membership(array, value)
