"""Products in groups of rows: what a TPU makes of them, and what that takes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ir
import passes
from ir.graph import Graph
from ir.ops import op_of
from passes.hardware.chip import CHIPS
from passes.pipeline import prepare
from passes.summary import timed

ROWS, WIDE, HIDDEN = 16384, 1024, 4096


def trained(groups: int) -> Graph:
    def step(weights: jax.Array, rows: jax.Array, sizes: jax.Array) -> tuple[jax.Array, jax.Array]:
        def loss(weights: jax.Array, rows: jax.Array) -> jax.Array:
            return jnp.sum(jnp.tanh(lax.ragged_dot(rows, weights, sizes).astype(jnp.float32)))

        return jax.grad(loss, (0, 1))(weights, rows)

    array = jax.ShapeDtypeStruct
    arguments = array((groups, WIDE, HIDDEN), jnp.bfloat16), array((ROWS, WIDE), jnp.bfloat16)
    names = {"weights": "experts embed mlp", "rows": "token embed", "sizes": "experts"}
    return prepare(ir.trace(step, *arguments, array((groups,), jnp.int32), names=names))


def seconds_of_products(groups: int, hardware: str) -> dict[tuple[str | None, ...], float]:
    graph, plan = trained(groups), passes.Plan.by_hand({"data": 1}, {}, {}, hardware)
    return {node.outputs[0].type.names: taken for node, taken in timed(graph, plan) if node.kind == "contract"}


@pytest.mark.parametrize(("groups", "cycles"), [(8, 6_440_224), (64, 51_480_576)])
def test_a_gradient_of_the_weights_of_groups_takes_a_tpu_all_rows_for_each_group(groups: int, cycles: int) -> None:
    """Cycles are XLA's estimates for v5p, at 1.75 GHz."""
    found = seconds_of_products(groups, "v5p")["experts", "embed", "mlp"]
    assert found == pytest.approx(cycles / 1.75e9, rel=0.05)


def test_the_gradient_of_rows_and_other_chips_take_what_is_needed() -> None:
    needed = 2 * ROWS * WIDE * HIDDEN
    assert seconds_of_products(8, "v5p")["token", "embed"] == pytest.approx(needed / CHIPS["v5p"].flops, rel=0.05)
    for taken in seconds_of_products(8, "h100").values():
        assert taken == pytest.approx(needed / CHIPS["h100"].flops, rel=0.05)


def test_what_a_step_is_said_to_compute_is_what_is_needed() -> None:
    for node in trained(8).walk():
        if node.kind == "contract":
            assert op_of(node).flops(node) == 2 * ROWS * WIDE * HIDDEN
