"""Errors about loops, state dicts and quantized layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from haliax.errors.base import (
    AxisError,
    AxisSizeError,
    CarryError,
    ContradictionError,
    NamedTypeError,
    all_shown,
    axis_error,
    names_in,
    placed,
    shown,
    type_error,
)
from haliax.errors.suggest import nearest


def nothing_to_map(function: str, axis: Any, operands: Sequence[Any]) -> AxisError:
    name = axis if isinstance(axis, str) else axis.name
    known = [known_name for operand in operands for known_name in names_in(operand)]
    shown = all_shown(operands[:6]) if operands else "no arrays at all"
    return axis_error(f"{function} over `{name}`, which no argument has: it was given {shown}{nearest(name, known)}")


def leading_size(function: str, axis: Any, array: Any, where: str, exclude: str) -> AxisError:
    """`exclude` says which option excludes an argument, if one does."""
    return axis_error(
        f"{function} over `{axis.name}` of size {axis.size} maps the first dimension of an unnamed array, "
        f"but {shown(array)} at {where} has another size there: name its axes"
        f"{exclude and f', or exclude it with {exclude}'}"
    )


def layer_needs_named(layer: str, argument: str, value: Any) -> NamedTypeError:
    return type_error(
        f"{layer}: `{argument}` must be a NamedArray, not {type(value).__name__} ({shown(value)}): "
        f"name it with `haliax.named`"
    )


def not_indices(layer: str, argument: str, value: Any) -> NamedTypeError:
    return type_error(
        f"{layer}: `{argument}` must be integer indices, not {shown(value)}: convert them with `astype(int)`"
    )


def layer_lacks_axis(layer: str, argument: str, name: str, array: Any) -> AxisError:
    return axis_error(f"{layer}: axis `{name}` is not in `{argument}`, {shown(array)}{nearest(name, names_in(array))}")


def layer_axis_size(layer: str, argument: str, axis: Any, array: Any) -> AxisSizeError:
    return placed(
        AxisSizeError(
            f"{layer} needs axis `{axis.name}` of size {axis.size}, but `{argument}`, {shown(array)}, has it with "
            f"another size: slice it, or build the layer for that size"
        )
    )


def other_size_beside(function: str, argument: str, axis: Any, value: Any, other: str, array: Any) -> AxisSizeError:
    """`other` says what the array is that the argument is lined up with: `the scores`."""
    size = next(own.size for own in array.axes if own.name == axis.name)
    return placed(
        AxisSizeError(
            f"{function}: axis `{axis.name}` has size {axis.size} in `{argument}`, {shown(value)}, and size {size} in "
            f"{other}, {shown(array)}: slice or rename one of them"
        )
    )


def axis_not_beside(function: str, argument: str, name: str, value: Any, other: str, array: Any) -> AxisError:
    return axis_error(
        f"{function}: `{argument}`, {shown(value)}, has axis `{name}`, which is not in {other}, {shown(array)}"
        f"{nearest(name, names_in(array)) or ': index, reduce or rename it'}"
    )


def where_not_boolean(function: str, where: Any) -> NamedTypeError:
    return type_error(f"{function}: `where` must be boolean, not {shown(where)}: compare it, as in `where > 0`")


def not_a_reduction(function: str, reduction: Any) -> NamedTypeError:
    return type_error(
        f"{function}: `reduction` must be a function such as haliax.mean, or None, not {type(reduction).__name__} "
        f"({reduction!r})"
    )


def loop_axis_size(function: str, axis: Any, array: Any, where: str) -> AxisSizeError:
    return placed(
        AxisSizeError(
            f"{function} over `{axis.name}` of size {axis.size}, but {shown(array)} at {where} has it with another "
            f"size: slice or rename it there"
        )
    )


def no_carry_and_output(function: str, result: Any) -> NamedTypeError:
    return type_error(
        f"{function} needs a function that returns (carry, output), not {type(result).__name__}: "
        f"without an output, use `fold`"
    )


def carry_changes(function: str, axis: Any, path: str, before: Any, after: Any) -> CarryError:
    """`path` leads to the leaf; it is None before or after if it is missing there."""
    old = "missing" if before is None else shown(before)
    new = "missing" if after is None else shown(after)
    return placed(
        CarryError(
            f"{function} over `{axis.name}`: `carry{path}` is {old} before a step and {new} after it: "
            f"return what the step was given, with the same axes and dtype, or start with what it returns"
        )
    )


def carry_structure(function: str, axis: Any, before: Any, after: Any) -> CarryError:
    return placed(
        CarryError(
            f"{function} over `{axis.name}`: the carry has one structure before a step and another after it "
            f"({type(before).__name__}, {type(after).__name__}): return the same kinds of containers"
        )
    )


def outputs_differ(function: str, axis: Any, path: str, number: int, first: Any, other: Any) -> AxisError:
    """`path` leads to the leaf of the outputs; it is None in the one or the other if it is missing there."""
    one, two = ("missing" if leaf is None else shown(leaf) for leaf in (first, other))
    return axis_error(
        f"{function} over `{axis.name}`: `output{path}` is {one} of layer 0 and {two} of layer {number}: "
        f"return the same axes from every layer, so that they can be stacked"
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
