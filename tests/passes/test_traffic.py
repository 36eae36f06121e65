"""What the kernels of a step move to and from memory: each reads what it needs once, whatever it computes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import ir
import passes
from passes.planner.traffic import traffic

ARRAY = jax.ShapeDtypeStruct((64, 64), jnp.float32)


def arrays_moved(step: Callable[..., Any], operands: int) -> list[int]:
    """How many arrays of 64 × 64 each kernel of a step moves."""
    graph = passes.canonicalize(ir.trace(step, *[ARRAY] * operands))
    moved = [sum(access.value.type.elements == 64 * 64 for access in each) for each in traffic(graph).moved]
    return [count for count in moved if count]


def adam(weight: jax.Array, mean: jax.Array, square: jax.Array, gradient: jax.Array) -> tuple[jax.Array, ...]:
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.9 * square + 0.1 * gradient * gradient
    return weight - mean / (jnp.sqrt(square) + 1e-8), mean, square


def test_an_update_reads_its_operands_once_and_no_result():
    """The figures are those of the fusion that XLA makes of it for a TPU: four operands, three results."""
    assert arrays_moved(adam, 4) == [7]


def test_two_updates_are_two_kernels():
    def step(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return (*adam(*arrays[:4]), *adam(*arrays[4:]))

    assert arrays_moved(step, 8) == [7, 7]


def test_what_waits_for_a_reduction_is_read_again():
    """The gradient: for its norm, and for the update that is scaled by it."""

    def clipped(weight: jax.Array, mean: jax.Array, square: jax.Array, gradient: jax.Array) -> tuple[jax.Array, ...]:
        return adam(weight, mean, square, gradient / jnp.sum(gradient * gradient))

    assert arrays_moved(clipped, 4) == [1, 7]


def test_what_is_computed_on_the_way_is_read_by_each_that_computes_it():
    def softmax(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        shifted = x - jnp.max(x, axis=1, keepdims=True)
        return jnp.exp(shifted) / jnp.sum(jnp.exp(shifted), axis=1, keepdims=True), shifted[:1]

    # the maximum; the sum of exponentials; the result, written
    assert arrays_moved(softmax, 1)[:2] == [1, 1]
    assert sum(arrays_moved(softmax, 1)) == 5


def test_products_read_what_is_written_for_them():
    def step(x: jax.Array, weight: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = jnp.tanh(x)
        return hidden @ weight, hidden @ other

    assert arrays_moved(step, 3) == [2, 3, 3]
