"""Initial weights."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray

Axes = Axis | tuple[Axis, ...]


def normal(axes: tuple[Axis, ...], scale: float, key: jax.Array) -> NamedArray:
    """Normal numbers of mean 0 and standard deviation `scale`, float32 with the given axes."""
    return hax.random.normal(key, axes, dtype=jnp.float32) * scale


def linear(In: Axes, Out: Axes, scale: float, key: jax.Array, *, use_bias: bool = True) -> hnn.Linear:
    """A linear layer with weights [In, Out] of standard deviation `scale`, and a bias of 0."""
    inputs, outputs = (axes if isinstance(axes, tuple) else (axes,) for axes in (In, Out))
    bias = hax.zeros(outputs) if use_bias else None
    return hnn.Linear(weight=normal(inputs + outputs, scale, key), bias=bias, In=In, Out=Out)


def branch_scale(initializer_range: float, num_layers: int) -> float:
    """Standard deviation of a branch's last layer: two branches a layer add to the residual stream, and this keeps its
    variance at the end independent of depth (Radford et al., 2019, section 2.3)."""
    return initializer_range / math.sqrt(2 * num_layers)
