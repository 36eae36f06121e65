"""The first node that is to blame for a number that is not finite: in a step, in a loop, in a call; masks are not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
import ir
from haliax import Axis
from passes.canonicalize import canonicalize
from passes.first_nonfinite import FirstNonFinite, first_nonfinite

X, Layers = Axis("x", 3), Axis("layers", 4)


def searched(function: Any, *arguments: Any, healthy: Any = None) -> Any:
    graph = canonicalize(ir.trace(function, *arguments))
    return first_nonfinite(graph, jax.tree.leaves(arguments), healthy)


def of(*values: float) -> hax.NamedArray:
    return hax.named(jnp.asarray(values, jnp.float32), X)


def test_all_is_finite() -> None:
    assert searched(lambda x: hax.log(x), of(1, 2, 3)) is None


def test_the_node_and_its_line() -> None:
    def step(x: hax.NamedArray) -> hax.NamedArray:
        y = x - 1
        z = hax.log(y)
        return hax.exp(z * 2)

    found = searched(step, of(1, 2, 0))
    assert isinstance(found, FirstNonFinite) and (found.node.fn, found.inside) == ("log", ())
    assert found.node.source is not None and found.node.source.file == "test_first_nonfinite.py"
    assert found.node.source.line == step.__code__.co_firstlineno + 2


def test_an_input_that_is_not_finite_itself() -> None:
    assert searched(lambda x, y: x + y, of(1, 2, 3), of(1, float("nan"), 2)) == 1


def test_a_mask_is_no_mistake() -> None:
    def step(x: hax.NamedArray, scale: jax.Array) -> hax.NamedArray:
        masked = hax.where(x > 1, x, -jnp.inf)
        return hax.exp(masked) / scale

    one, none = jnp.float32(1), jnp.float32(0)
    assert searched(step, of(1, 2, 3), one) is None
    found = searched(step, of(1, 2, 3), none)
    assert found.node.fn == "div"
    # A healthy step has infinities of both signs in the same places.
    assert searched(step, of(1, 2, 3), none, healthy=lambda: [of(1, 2, 3).array, one]).node.fn == "div"


@pytest.mark.parametrize("bad_layer", [0, 2])
def test_the_trip_of_a_loop(bad_layer: int) -> None:
    scales = np.ones((4,), np.float32)
    scales[bad_layer] = 0

    def layer(x: hax.NamedArray, scale: hax.NamedArray) -> hax.NamedArray:
        y = x / scale
        return hax.sin(y) + 2

    def step(x: hax.NamedArray, scales: hax.NamedArray) -> hax.NamedArray:
        return hax.fold(layer, Layers)(x, scales)

    found = searched(step, of(1, 2, 3), hax.named(jnp.asarray(scales), Layers))
    assert (found.node.fn, found.inside) == ("div", (("layers", bad_layer),))
