"""Activation functions: those of `jax.nn`, lifted to named arrays."""

from __future__ import annotations

from typing import Any, overload

import jax.nn
from jax.typing import ArrayLike

from haliax.axis import AxisSelector, find
from haliax.core.array import NamedArray, wrap
from haliax.ops.elementwise import unary
from haliax.ops.shape import split
from haliax.typing import NamedOrNumeric

celu = unary(jax.nn.celu)
elu = unary(jax.nn.elu)
hard_sigmoid = unary(jax.nn.hard_sigmoid)
hard_silu = hard_swish = unary(jax.nn.hard_silu)
hard_tanh = unary(jax.nn.hard_tanh)
leaky_relu = unary(jax.nn.leaky_relu)
log_sigmoid = unary(jax.nn.log_sigmoid)
relu = unary(jax.nn.relu)
relu6 = unary(jax.nn.relu6)
selu = unary(jax.nn.selu)
sigmoid = unary(jax.nn.sigmoid)
silu = swish = unary(jax.nn.silu)
soft_sign = unary(jax.nn.soft_sign)
softplus = unary(jax.nn.softplus)


@overload
def gelu(a: NamedArray, approximate: bool = True) -> NamedArray: ...


@overload
def gelu(a: ArrayLike, approximate: bool = True) -> jax.Array: ...


def gelu(a: NamedOrNumeric, approximate: bool = True) -> Any:
    """The Gaussian error linear unit: by its tanh approximation, or exactly with `approximate=False`.

    Args:
        a: a NamedArray or plain array.
        approximate: whether to approximate.
    """
    if isinstance(a, NamedArray):
        return wrap(jax.nn.gelu(a.array, approximate), a.axes)
    return jax.nn.gelu(a, approximate)


@overload
def relu_squared(x: NamedArray) -> NamedArray: ...


@overload
def relu_squared(x: ArrayLike) -> jax.Array: ...


def relu_squared(x: NamedOrNumeric) -> Any:
    """The square of `relu`."""
    positive = relu(x)
    return positive * positive


@overload
def quick_gelu(x: NamedArray) -> NamedArray: ...


@overload
def quick_gelu(x: ArrayLike) -> jax.Array: ...


def quick_gelu(x: NamedOrNumeric) -> Any:
    """`x * sigmoid(1.702 x)`, a cheap approximation of `gelu`."""
    return x * sigmoid(x * 1.702)


def glu(x: NamedArray, axis: AxisSelector) -> NamedArray:
    """The first half of the axis times the sigmoid of the second.

    Args:
        x: a NamedArray.
        axis: the axis to halve.

    Raises:
        AxisError: if the array lacks the axis, or its size is odd.

    >>> hax.nn.glu(hax.named([1.0, 2.0, 0.0, 0.0], "embed"), "embed")
    f32[embed=2] [0.5 1. ]
    """
    full = x.axes[find(x.axes, axis, x)]
    half = full.resize(full.size // 2)
    value, gate = split(x, full, (half, half))
    return value * sigmoid(gate)
