"""Errors about what arrays of other libraries have or are given to, and a NamedArray is not: with the named equivalent.

`x.T`, `x.shape[0]`, `len(x)`, `jnp.sin(x)`, `np.concatenate([x, x])`.
"""

from __future__ import annotations

import sys
from typing import Any

from haliax.errors.base import (
    AxisError,
    AxisKeyError,
    NamedTypeError,
    axis_error,
    names_in,
    placed,
    shown,
    type_error,
)
from haliax.errors.suggest import nearest

_REORDER = "dimensions go by name, so there is seldom a need to reorder; `x.rearrange((..., {last}))` does"
_RESHAPE = "`x.flatten_axes(({last}, …), new)` merges axes and `x.unflatten_axis({last}, axes)` splits one"
_SQUEEZE = "`x[{last}, 0]` drops an axis of size 1"
_EXPAND = "`x.broadcast_axis(axis)` adds an axis; elementwise functions broadcast by name without"
_CONVERT = "`x.astype(dtype)` converts the numbers"
_DEVICE = "`jax.device_put(x, …)` moves it, and `haliax.shard(x, mapping)` shards it"
_PRODUCT = "`haliax.dot(x, y, axis={last})` sums a product over an axis"
_NUMPY = "`numpy.asarray(x)` gives the numbers"

_HINTS: dict[str, str] = {
    **dict.fromkeys(
        ["T", "mT", "H", "mH", "t", "transpose", "swapaxes", "moveaxis", "permute", "permute_dims"], _REORDER
    ),
    **dict.fromkeys(["reshape", "view", "resize", "unflatten", "contiguous"], _RESHAPE),
    **dict.fromkeys(["squeeze"], _SQUEEZE),
    **dict.fromkeys(["expand_dims", "unsqueeze", "expand", "broadcast", "newaxis"], _EXPAND),
    **dict.fromkeys(["float", "double", "half", "bfloat16", "int", "long", "type", "to_dtype"], _CONVERT),
    **dict.fromkeys(["to", "cpu", "cuda", "device", "devices"], _DEVICE),
    **dict.fromkeys(["matmul", "mm", "bmm", "einsum"], _PRODUCT),
    **dict.fromkeys(["numpy"], _NUMPY),
    "dim": "`x.ndim` is the number of axes",
    "names": "`x.axes` are the axes, and `x.shape` their sizes by name",
    "numel": "`x.size` is the number of elements",
    "unique": "`haliax.unique(x, axis)`",
}
_ROOMS = ("haliax", "haliax.nn", "haliax.random")


def no_attribute(array: Any, field: str) -> AttributeError:
    """Only a hint is worth the user's line: whether there is an attribute is asked often, and caught."""
    message = f"a NamedArray has no attribute `{field}`"
    if field.startswith("_"):
        return AttributeError(message, name=field, obj=array)
    hint = _HINTS.get(field)
    same = same_name(field)
    if hint is None and same is None:
        return AttributeError(message, name=field, obj=array)
    names = names_in(array)
    hint = f"use `{same}(x, …)`" if hint is None else hint.replace("{last}", f'"{names[-1]}"' if names else "axis")
    return placed(AttributeError(f"{message} ({shown(array)}): {hint}", name=field, obj=array))


def names_with_a_hint() -> set[str]:
    """What may be asked of an array, and has an equivalent: what other libraries' arrays have, functions of haliax."""
    functions = {name for room in _ROOMS for name in vars(sys.modules[room]) if not name.startswith("_")}
    return {*_HINTS, *(name for name in functions if same_name(name) is not None)}


def same_name(function: str) -> str | None:
    """The function of haliax that has this name, `haliax.sin` or `haliax.nn.relu`; None if there is none."""
    for room in _ROOMS:
        found = getattr(sys.modules.get(room), function, None)
        if callable(found) and not isinstance(found, type):
            return f"{room}.{function}"
    return None


def given_to_another_library(function: str, array: Any) -> NamedTypeError:
    return type_error(_knows_no_names(function, array))


def given_to_a_primitive(function: str, array: Any) -> AxisError:
    """Not a TypeError: JAX would catch that, and say it in its own words."""
    return axis_error(_knows_no_names(function, array))


def names_dropped(function: str, array: Any) -> NamedTypeError:
    return type_error(
        f"{function} would drop the names of {shown(array)}: stack a list of arrays with `haliax.stack`, "
        f"or pass `x.array`"
    )


def _knows_no_names(function: str, array: Any) -> str:
    same = same_name(function.rpartition(".")[2])
    fix = "pass `x.array`, and name the result with `haliax.named`"
    if same is not None:
        fix = f"use `{same}`, which goes by name, or pass `x.array`"
    return f"{function} does not know axis names, and was given {shown(array)}: {fix}"


def no_length(array: Any) -> NamedTypeError:
    return type_error(
        f"{shown(array)} has no length, since no axis comes first: x.axis_size({_first(array)}) is the size of an "
        f"axis, x.ndim the number of axes, and x.size the number of elements"
    )


def not_iterable(array: Any) -> NamedTypeError:
    return type_error(
        f"{shown(array)} cannot be iterated over, since no axis comes first: x.unbind({_first(array)}) gives the "
        f"slices along an axis, and haliax.scan, fold and map loop over one"
    )


def no_membership(array: Any, value: Any) -> NamedTypeError:
    if isinstance(value, str):
        return type_error(f'"{value}" in {shown(array)} says nothing: x.has_axis("{value}") asks for an axis')
    return type_error(f"{shown(array)} is not searched by `in`: write (x == value).any()")


def no_such_size(shape: Any, key: Any) -> AxisError:
    if isinstance(key, str):
        return placed(AxisKeyError(f"there is no axis `{key}` in the shape {dict(shape)}{nearest(key, shape)}"))
    first = f'"{next(iter(shape))}"' if shape else "name"
    return placed(
        AxisKeyError(
            f"the shape {dict(shape)} goes by name, not by {key!r}: write x.shape[{first}], "
            f"or x.array.shape for the sizes in order"
        )
    )


def _first(array: Any) -> str:
    names = names_in(array)
    return f'"{names[0]}"' if names else "axis"
