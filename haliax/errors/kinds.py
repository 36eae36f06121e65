"""Errors about values of the wrong kind: what is not named, not a scalar, not of the right dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from haliax.errors.base import (
    AxisError,
    AxisTypeError,
    NamedTypeError,
    all_shown,
    axis_error,
    names_in,
    placed,
    shown,
    type_error,
)


def not_named(function: str, value: Any) -> NamedTypeError:
    return type_error(
        f"{function} needs a NamedArray, not {type(value).__name__} ({shown(value)}): name it with `haliax.named`"
    )


def axis_of_unnamed(function: str, value: Any) -> AxisError:
    return axis_error(f"{function} was given an axis by name, but {shown(value)} has none: use `haliax.named` first")


def not_an_axis(value: Any) -> NamedTypeError:
    return type_error(f"an axis is an Axis or a name, not {type(value).__name__} ({shown(value)}): give its name")


def not_scalar(array: Any) -> AxisTypeError:
    return placed(AxisTypeError(f"{shown(array)} is not a scalar: reduce its axes first"))


def loss_with_axes(loss: Any) -> NamedTypeError:
    names = ", ".join(f"`{name}`" for name in names_in(loss))
    return type_error(
        f"a gradient needs a loss without axes, not {shown(loss)}: reduce {names} first, with `.mean()` or `.sum()`"
    )


def named_loss(loss: Any) -> AxisError:
    names = ", ".join(f"`{name}`" for name in names_in(loss))
    reduced = f"reduce {names} first, and " if names else ""
    return axis_error(
        f"jax.grad takes an array for a loss, not the NamedArray {shown(loss)}: {reduced}return `loss.scalar()`, "
        f"or call haliax.grad or haliax.value_and_grad instead"
    )


def argument_not_scalar(name: str, value: Any) -> NamedTypeError:
    return type_error(f"{name} must be a scalar, not {shown(value)}: reduce its axes first")


def only_one_axis(function: str, axes: Sequence[Any]) -> AxisError:
    names = ", ".join(f"`{name}`" for name in names_in(list(axes)))
    return axis_error(f"{function} only supports a single axis, not {names}: call it once for each")


def where_not_supported(function: str) -> NamedTypeError:
    return type_error(f"{function} takes no `where`: fill the elements that do not count, with `haliax.where`")


def module_problems(reused: Sequence[tuple[str, Sequence[str]]], static: Sequence[str]) -> str:
    lines = [
        f"{shown} appears more than once, and each copy would be trained by itself: {', '.join(p)}"
        for shown, p in reused
    ]
    lines += [f"a static field holds an array, which is not trained and makes jit recompile: {p}" for p in static]
    return "\n".join(lines)


def no_keepdims(function: str, array: Any) -> NamedTypeError:
    return type_error(
        f"{function} has no keepdims, since {shown(array)} is broadcast by name: leave it out, or use `broadcast_axis`"
    )


def not_a_vector(function: str, array: Any) -> AxisError:
    return axis_error(f"{function} needs an array with one axis, not {shown(array)}: flatten it first")


def immutable(field: str) -> AttributeError:
    return placed(AttributeError(f"a NamedArray is immutable: `{field}` cannot be set; build a new one"))


def no_operands(function: str) -> NamedTypeError:
    return type_error(f"{function} needs at least one NamedArray")


def dot_without_axis(arrays: Sequence[Any]) -> ValueError:
    return placed(
        ValueError(
            f"dot of {all_shown(arrays)} does not say which axes to sum over: "
            f"give axis=..., or axis=None for all of them"
        )
    )


def matmul(first: Any, second: Any) -> NamedTypeError:
    return type_error(
        f"@ does not say which axis of {all_shown([first, second])} to sum over: write haliax.dot(a, b, axis=...)"
    )


def wrong_parameters(function: str, names: Sequence[str]) -> NamedTypeError:
    return type_error(f"random.{function} takes {', '.join(['key', 'shape', *names, 'dtype'])}")


def targets_without_label(name: str, logits: Any, targets: Any) -> NamedTypeError:
    return type_error(
        f"the targets {shown(targets)} of logits {shown(logits)} lack the axis `{name}`, so they must be integers: "
        f"give classes as integers, or probabilities with the axis `{name}`"
    )


def not_floating(function: str, array: Any) -> NamedTypeError:
    return type_error(f"{function} needs floating point numbers, not {shown(array)}: convert it with `astype`")


def dropout_without_key() -> RuntimeError:
    return placed(RuntimeError("dropout needs a random key: pass key=..., or inference=True to drop nothing"))


def axis_names_of_static_field(names: Sequence[str]) -> ValueError:
    return placed(
        ValueError(f"a static field holds no array, so it has no axis_names {tuple(names)}: drop one of the two")
    )
