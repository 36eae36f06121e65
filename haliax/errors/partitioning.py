"""Errors about layouts on a mesh, and about compiled functions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from haliax.errors.base import (
    AxisError,
    AxisWarning,
    NamedTypeError,
    UnknownMeshAxisError,
    axis_error,
    placed,
    type_error,
    user_frame,
)
from haliax.errors.suggest import nearest


def no_mapping(function: str) -> AxisError:
    return axis_error(f"{function} needs an axis mapping: give one, or call it within `haliax.axis_mapping(...)`")


def no_mesh(function: str) -> AxisError:
    return axis_error(f"{function} needs a mesh: call it within `haliax.partitioning.set_mesh(mesh)`")


def unknown_mesh_axis(name: str, mesh_axes: Sequence[str]) -> UnknownMeshAxisError:
    known = ", ".join(f"`{axis}`" for axis in mesh_axes)
    message = f"the mesh has no axis `{name}` (it has {known}){nearest(name, mesh_axes)}"
    return placed(UnknownMeshAxisError(message))


def indivisible_axis(axis: Any, mesh_axes: Sequence[str], devices: int) -> AxisError:
    fitting = -(-axis.size // devices) * devices
    return axis_error(
        f"axis `{axis.name}` of size {axis.size} cannot be sharded over {_mesh_axes_shown(mesh_axes)}, which has "
        f"{devices} devices: {axis.size} is not divisible by {devices}; round_axis_for_partitioning makes it {fitting}"
    )


def fsdp_without_mapping(missing: str) -> NamedTypeError:
    return type_error(f"fsdp needs {missing}: write fsdp(function, parameter_mapping, compute_mapping)")


def not_for_named_jit(option: str, instead: str) -> NamedTypeError:
    return type_error(f"named_jit does not take {option}: {instead}")


def unhashable_static(leaf: Any) -> NamedTypeError:
    return type_error(
        f"named_jit compiles for the value of each leaf that is not an array, and {type(leaf).__name__} has no hash: "
        f"{leaf!r:.60}"
    )


def warn_of_misspelt_axis(name: str, mesh_axes: Any, near: str) -> None:
    message = (
        f"no array has the axis `{name}`, which the mapping shards over {_mesh_axes_shown(mesh_axes)}, "
        f"so nothing is sharded by it; did you mean `{near}`?"
    )
    _warn(message)


def warn_of_foreign_mapping(mapping: Any) -> None:
    own = "no axis mapping" if mapping is None else f"the axis mapping {dict(mapping)}"
    _warn(
        f"a function of jax.jit is traced under {own}, while JAX remembers it for that of another asyncio task or "
        f"thread, which may get this layout later: compile it with haliax.named_jit, or do not `await` within "
        f"axis_mapping(...)"
    )


def _warn(message: str) -> None:
    frame = user_frame()
    if frame is None:
        warnings.warn(message, AxisWarning, stacklevel=2)
    else:
        registry = frame.f_globals.setdefault("__warningregistry__", {})
        warnings.warn_explicit(message, AxisWarning, frame.f_code.co_filename, frame.f_lineno, registry=registry)


def _mesh_axes_shown(mesh_axes: Any) -> str:
    return " and ".join(f"`{axis}`" for axis in ([mesh_axes] if isinstance(mesh_axes, str) else mesh_axes or ()))
