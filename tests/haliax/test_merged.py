"""Calls are inlined and equal operations merged, so that a compiler has nothing of that kind left to do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from haliax.core.merged import merged


def counted(closed: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for equation in closed.jaxpr.eqns:
        found[equation.primitive.name] = found.get(equation.primitive.name, 0) + 1
    return found


@pytest.mark.parametrize("prevent_cse", [False, True])
def test_what_is_computed_again_is_merged_too(prevent_cse: bool) -> None:
    """A checkpoint goes; where it was not to be merged with what is outside, a barrier stands for it."""

    def function(x: jax.Array) -> jax.Array:
        part = jax.checkpoint(lambda x: jnp.sum(jnp.exp(x) * jnp.exp(x)), prevent_cse=prevent_cse)
        return part(x) + part(2.0 * x)

    x = jnp.linspace(0.0, 1.0, 5)
    closed = jax.make_jaxpr(jax.value_and_grad(function))(x)
    made = merged(closed)
    found = counted(made)
    assert "remat2" not in found and "checkpoint" not in found
    assert found.get("optimization_barrier", 0) == (2 if prevent_cse else 0)
    assert found["exp"] == (4 if prevent_cse else 2)
    value, gradient = jax.value_and_grad(function)(x)
    now = jaxpr_as_fun(made)(x)
    np.testing.assert_allclose(now[0], value, rtol=1e-6)
    np.testing.assert_allclose(now[1], gradient, rtol=1e-6)
