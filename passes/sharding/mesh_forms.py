"""Every way in which people write a device mesh, read into mesh axes with sizes, outermost (slowest network) first.

Text is a size for each axis (`4x2`), whose names follow from how many there are, or names with sizes
(`replica=2,data=16,sequence=4,model=4`). Names may be any; where all of them are among `KNOWN_AXES` they are put in
that order, from the slow network to the fast one, and otherwise they stay in the order in which they are written. From
Python a mesh may also be a mapping from name to size, or a `jax.sharding.Mesh`.

No JAX in here: a configuration is read before JAX is imported.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping
from typing import Any

from passes import errors

KNOWN_AXES = ("replica", "data", "sequence", "model")
"""Axes in the order from the slow network (between hosts or slices) to the fast one."""
_BY_COUNT: dict[int, tuple[str, ...]] = {
    1: ("data",),
    2: ("data", "model"),
    3: ("replica", "data", "model"),
    4: KNOWN_AXES,
}
MOST_DEVICES = 1 << 31


def read_mesh(mesh: Any) -> dict[str, int]:
    """The sizes of a mesh by axis, outermost first, from text, a mapping, or a JAX mesh.

    Raises:
        PlanError: it is none of these, has no axis or one twice, or a size is not a whole number of at least 1.
    """
    if isinstance(mesh, str):
        return _checked(mesh, *_parsed(mesh))
    # A JAX mesh is known by what it has, so that JAX need not be imported to ask.
    if hasattr(mesh, "axis_names") and isinstance(getattr(mesh, "shape", None), Mapping):
        return _checked(dict(mesh.shape), *_parts(mesh.shape.items()))
    if isinstance(mesh, Mapping):
        items: Iterable[tuple[Any, Any]] = mesh.items()  # pyright: ignore[reportUnknownVariableType]
        return _checked(dict(items), *_parts(items))
    raise errors.mesh_kind(mesh)


def checked_sizes(shown: object, axes: Iterable[Any], sizes: Iterable[Any]) -> dict[str, int]:
    """Axes and sizes as a mapping, each known to make sense; `shown` is the mesh as messages repeat it."""
    return _checked(shown, list(axes), list(sizes))


def _parts(items: Iterable[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    pairs = list(items)
    return [axis for axis, _ in pairs], [size for _, size in pairs]


def _checked(shown: object, axes: list[Any], sizes: list[Any]) -> dict[str, int]:
    if not axes or len(axes) != len(sizes):
        raise errors.mesh_empty(shown)
    found: dict[str, int] = {}
    for axis, size in zip(axes, sizes, strict=True):
        if not isinstance(axis, str) or not axis:
            raise errors.mesh_axis_name(shown, axis)
        if axis in found:
            raise errors.mesh_axis_twice(shown, axis)
        found[axis] = _size(shown, axis, size)
    if math.prod(found.values()) > MOST_DEVICES:
        raise errors.mesh_too_large(shown, math.prod(found.values()), MOST_DEVICES)
    return found


def _size(shown: object, axis: str, size: Any) -> int:
    try:
        whole = operator.index(size)
    except TypeError:
        raise errors.mesh_size(shown, axis, size) from None
    if isinstance(size, bool) or whole < 1:
        raise errors.mesh_size(shown, axis, size)
    return whole


def _parsed(text: str) -> tuple[list[str], list[int]]:
    names, sizes = _named(text) if "=" in text else _positional(text)
    if set(names) <= set(KNOWN_AXES):
        order = sorted(range(len(names)), key=lambda i: KNOWN_AXES.index(names[i]))
        return [names[i] for i in order], [sizes[i] for i in order]
    return names, sizes


def _positional(text: str) -> tuple[list[str], list[int]]:
    if not re.fullmatch(r"[0-9]+(x[0-9]+)*", text.strip()):
        raise errors.mesh_form(text)
    sizes = [_number(text, size) for size in text.strip().split("x")]
    if len(sizes) not in _BY_COUNT:
        raise errors.mesh_rank(text, len(sizes), max(_BY_COUNT))
    return list(_BY_COUNT[len(sizes)]), sizes


def _named(text: str) -> tuple[list[str], list[int]]:
    names: list[str] = []
    sizes: list[int] = []
    for part in text.split(","):
        axis, equals, size = (piece.strip() for piece in part.partition("="))
        if not equals or not re.fullmatch(r"[0-9]+", size) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", axis):
            raise errors.mesh_form(text)
        names.append(axis)
        sizes.append(_number(text, size))
    return names, sizes


def _number(text: str, digits: str) -> int:
    if len(digits) > len(str(MOST_DEVICES)):  # Python itself refuses to read thousands of digits
        raise errors.mesh_form(text)
    return int(digits)
