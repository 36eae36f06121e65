"""Errors about loops, state dicts and quantized layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from haliax.errors.base import AxisError, ContradictionError, all_shown, axis_error, names_in, placed, shown
from haliax.errors.suggest import nearest


def nothing_to_map(function: str, axis: Any, operands: Sequence[Any]) -> AxisError:
    name = axis if isinstance(axis, str) else axis.name
    known = [known_name for operand in operands for known_name in names_in(operand)]
    shown = all_shown(operands[:6]) if operands else "no arrays at all"
    return axis_error(f"{function} over `{name}`, which no argument has: it was given {shown}{nearest(name, known)}")


def leading_size(function: str, axis: Any, array: Any) -> AxisError:
    return axis_error(
        f"{function} over `{axis.name}` of size {axis.size} maps the first dimension of an unnamed array, "
        f"but {shown(array)} has another size there: name its axes, or exclude it (is_scanned, default, args)"
    )


def unknown_checkpoint_policy(name: str, known: Sequence[str]) -> ValueError:
    return placed(
        ValueError(
            f"there is no checkpoint policy `{name}`: give True, False, a ScanCheckpointPolicy or one of "
            f"{', '.join(known)}{nearest(name, known)}"
        )
    )


def array_without_name() -> ValueError:
    return placed(ValueError("an array by itself has no name in a state dict: give a prefix"))


def missing_entry(name: str, names: Sequence[str]) -> KeyError:
    return placed(KeyError(f"the state dict has no `{name}`{nearest(name, names)}"))


def entry_shape(name: str, shape: Sequence[int], expected: Sequence[int]) -> AxisError:
    return axis_error(f"`{name}` of the state dict has shape {tuple(shape)}, where {tuple(expected)} is expected")


def safetensors_missing() -> ImportError:
    return placed(ImportError("state dict files need the package `safetensors`: pip install safetensors"))


def two_quantizations() -> ContradictionError:
    return placed(
        ContradictionError("a layer computes in fp8 or in int8, not in both: give one of fp8=True, int8=True")
    )
