"""Activation functions: those of `jax.nn`, lifted to named arrays."""

from __future__ import annotations

from typing import Any

import jax.nn

from haliax.array import NamedArray
from haliax.axis import AxisSelector, find
from haliax.elementwise import unary
from haliax.shape import split
from haliax.typing import NamedOrNumeric

celu = unary(jax.nn.celu)
elu = unary(jax.nn.elu)
gelu = unary(jax.nn.gelu, "The Gaussian error linear unit; `approximate=False` for the exact one.")
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


def relu_squared(array: NamedOrNumeric) -> Any:
    """The square of `relu`."""
    positive = relu(array)
    return positive * positive


def quick_gelu(array: NamedOrNumeric) -> Any:
    """`x * sigmoid(1.702 x)`, a cheap approximation of `gelu`."""
    return array * sigmoid(array * 1.702)


def glu(array: NamedArray, axis: AxisSelector) -> NamedArray:
    """The first half of the axis times the sigmoid of the second.

    Raises:
        AxisError: if the array lacks the axis, or its size is odd.
    """
    full = array.axes[find(array.axes, axis, array)]
    half = full.resize(full.size // 2)
    value, gate = split(array, full, (half, half))
    return value * sigmoid(gate)
