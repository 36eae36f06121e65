"""How named things are written: `f32[batch=4, embed=8]`, the same in errors, reprs and the IR.

Everything here only reads `dtype`, `shape` and `axes`, so it works for concrete arrays, tracers and
`jax.ShapeDtypeStruct`s, and never looks at the numbers of an array that is large or lives elsewhere.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jax.core import Tracer

_SHORT = {"float": "f", "bfloat": "bf", "int": "i", "uint": "u", "complex": "c"}
_PREVIEW_ELEMENTS = 8


def dtype_text(dtype: Any) -> str:
    """The short name of a dtype: `f32`, `bf16`, `i32`, `bool`; empty for None."""
    if dtype is None:
        return ""
    name = getattr(dtype, "name", None) or np.dtype(dtype).name
    letters = name.rstrip("0123456789")
    return _SHORT[letters] + name[len(letters) :] if letters in _SHORT else name


def axes_text(axes: Iterable[Any]) -> str:
    """`batch=4, embed=8` for axes; a bare name for an axis given without a size."""
    return ", ".join(axis if isinstance(axis, str) else f"{axis.name}={axis.size}" for axis in axes)


def shape_text(value: Any) -> str:
    """The named shape of anything: `f32[batch=4]`, `f32[_=4]` for an unnamed array, the repr of a scalar."""
    axes = getattr(value, "axes", None)
    if axes is not None:
        dtype = dtype_text(getattr(value, "dtype", None))
        if hasattr(axes, "array_shape"):  # `haliax.core.stale.StaleAxes`, which refuse to be listed
            return f"{dtype}[{axes_text(axes.own)}] of shape {axes.array_shape}"
        return f"{dtype}[{axes_text(axes)}]"
    shape = getattr(value, "shape", None)
    if shape is None or not hasattr(value, "dtype"):
        return repr(value)
    return f"{dtype_text(value.dtype)}[{', '.join(f'_={size}' for size in shape)}]"


def array_text(value: Any) -> str:
    """The named shape of a NamedArray and, where the numbers are at hand, a preview: `f32[a=2] [1. 2.]`."""
    head = shape_text(value)
    preview = "" if hasattr(value.axes, "array_shape") else _preview(value.array)
    return f"{head} {preview}" if preview else head


def _preview(array: Any) -> str:
    if not _is_at_hand(array):
        return ""
    if array.size <= _PREVIEW_ELEMENTS:
        text = np.array2string(np.asarray(array), precision=4, separator=" ")
        return " ".join(text.split())
    first = np.asarray(array[(0,) * (array.ndim - 1)][:_PREVIEW_ELEMENTS])
    return np.array2string(first, precision=4, separator=" ").rstrip("]").replace("\n", "") + " …]"


def _is_at_hand(array: Any) -> bool:
    if isinstance(array, np.ndarray):
        return array.dtype != object
    if isinstance(array, Tracer):
        return False
    is_deleted = getattr(array, "is_deleted", None)
    return (
        hasattr(array, "addressable_shards")
        and getattr(array, "is_fully_addressable", False)
        and not (is_deleted is not None and is_deleted())
        and not _is_key(array)
    )


def _is_key(array: Any) -> bool:
    return str(array.dtype).startswith("key<")
