"""How people write a device mesh, and what it means.

A mesh is an ordered mapping from mesh axis to size. Its axes are known by position, from the slow network to the
fast one: `replica` (between hosts), `data`, `model`. One number is `data` alone, two are `data` and `model`, three
are all of them; naming them (`data=4,model=2`) leaves any out.
"""

from __future__ import annotations

import math
import re

from levanter.config import errors

MESH_AXES = ("replica", "data", "model")
_BY_COUNT = {1: ("data",), 2: ("data", "model"), 3: MESH_AXES}


def parse_mesh(text: str) -> dict[str, int]:
    """The mesh that `text` describes, its axes in the order of `MESH_AXES`.

    `8` is data=8; `4x2` is data=4, model=2; `2x4x2` is replica=2, data=4, model=2; `data=4,model=2` is itself.

    Raises:
        UserError: `text` is none of these forms, or a size is not a positive whole number.
    """
    text = text.strip()
    sizes = _named(text) if "=" in text else _positional(text)
    for axis, size in sizes.items():
        if size < 1:
            raise errors.mesh_size(text, axis, size)
    return {axis: sizes[axis] for axis in MESH_AXES if axis in sizes}


def mesh_text(mesh: dict[str, int]) -> str:
    """The mesh as `parse_mesh` reads it back: `data=4,model=2`."""
    return ",".join(f"{axis}={size}" for axis, size in mesh.items())


def device_count(mesh: dict[str, int]) -> int:
    """How many devices the mesh has."""
    return math.prod(mesh.values())


def _positional(text: str) -> dict[str, int]:
    if not re.fullmatch(r"[0-9]+(x[0-9]+)*", text):
        raise errors.mesh_form(text)
    sizes = [int(size) for size in text.split("x")]
    if len(sizes) not in _BY_COUNT:
        raise errors.mesh_rank(text, len(sizes))
    return dict(zip(_BY_COUNT[len(sizes)], sizes, strict=True))


def _named(text: str) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, equals, size = (piece.strip() for piece in part.partition("="))
        if not equals or not re.fullmatch(r"[0-9]+", size):
            raise errors.mesh_form(text)
        if axis not in MESH_AXES:
            raise errors.mesh_axis(text, axis, MESH_AXES)
        if axis in sizes:
            raise errors.mesh_axis_twice(text, axis)
        sizes[axis] = int(size)
    return sizes
