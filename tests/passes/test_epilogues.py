"""What products compute after themselves, and what of a step is not in a TPU's memory for it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import ir
import passes
from passes.hardware.memory import ChipMemory
from passes.planner import allocations
from passes.planner.allocations import memory_program
from passes.planner.epilogues import NONE, epilogues
from passes.planner.memory import Entry
from passes.sharding.mesh import DeviceMesh
from passes.sharding.roles import assign_roles
from passes.sharding.rules import ShardingRules

ROWS, WIDE = 1024, 256
SQUARE = jax.ShapeDtypeStruct((WIDE, WIDE), jnp.float32)
INPUT = jax.ShapeDtypeStruct((ROWS, WIDE), jnp.float32)
NAMES = {"weights": "embed mlp", "x": "batch embed"}
ALONE = ShardingRules(DeviceMesh.of("1"), (), {}, {})


def ends_of(step: Any, *arguments: Any) -> list[str]:
    """By product, the last function of its epilogue."""
    graph = passes.canonicalize(ir.trace(step, *arguments))
    found = epilogues(graph, assign_roles(graph))
    makers = {value.id: node for node in graph.nodes for value in node.outputs}
    return [makers[end.id].fn for end in found.ends.values()]


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        (lambda w, x: jnp.sum(jnp.tanh(x + x @ w) @ w, 0), ["tanh"]),  # a residual and what alone reads it
        (lambda w, x: jnp.sum((x @ w) * jnp.tanh(x @ w), 0), ["mul"]),  # two products: with the second
        (lambda w, x: (x @ w).max(0) - jnp.sum(jnp.tanh(x @ w), 0), []),  # a maximum reads the product itself
        (lambda w, x: jnp.sum((x.astype("bfloat16") @ w.astype("bfloat16")).astype("float32"), 0), []),  # wider
        (lambda w, x: (lambda y: jnp.sum(y * jnp.tanh(y), 0))(x @ w), ["mul"]),  # several readers, one end
        (lambda w, x: (lambda y: y * jnp.tanh(y[:1]))(x @ w), []),  # one of its readers takes a part
    ],
)
def test_the_end_of_an_epilogue_stands_for_all_that_reads_the_product(step: Any, wanted: list[str]) -> None:
    assert ends_of(step, SQUARE, INPUT) == wanted


def peak_of(step: Any, chip: ChipMemory, *arguments: Any) -> int:
    """Beside what stays."""
    graph = passes.canonicalize(ir.trace(step, *arguments))
    peak, kinds = memory_program(graph, assign_roles(graph), chip=chip).peak(ALONE, chip)
    staying = sum(WIDE * WIDE * 4 if value.type.shape == (WIDE, WIDE) else ROWS * WIDE * 4 for value in graph.inputs)
    assert sum(kinds.values()) == peak
    return int(peak) - staying


TILED = ChipMemory(tile=(8, 128))


def layers(w: jax.Array, x: jax.Array) -> jax.Array:
    """A residual chain: what goes into a layer is needed by the next alone."""
    for _ in range(4):
        x = x + jnp.tanh(x @ w) @ w
    return x.max(0) - x.min(0)


def test_a_residual_chain_holds_a_sum_and_not_all_that_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    array = ROWS * WIDE * 4
    assert peak_of(layers, TILED, SQUARE, INPUT) // array == 2  # what goes into a layer, and what is made first of it
    monkeypatch.setattr(allocations, "epilogues", lambda *_: NONE)
    assert peak_of(layers, TILED, SQUARE, INPUT) // array == 5  # all that is added, and what is made last


def twice(w: jax.Array, x: jax.Array) -> jax.Array:
    """What is made first is read last, after others that fill the chip."""
    first = x @ w
    last = jnp.sort(jnp.sort(x @ w.T, 0), 0)
    return (first.T @ last).max(0)


def test_what_is_read_for_the_last_time_is_on_the_chip_if_it_fits() -> None:
    array = ROWS * WIDE * 4
    small, fitting = (peak_of(twice, ChipMemory(size, (8, 128)), SQUARE, INPUT) for size in (array, 2 * array))
    assert small - fitting >= array


def test_an_array_is_brought_whole_or_not_at_all() -> None:
    """Half of the chip is for what the next operation reads."""
    fits, beyond = (Entry((("embed", 1024),), 4, "compute", at_hand=part) for part in ("fits", "beyond"))
    for room, sizes in ((8191, (0, 4096)), (8192, (4096, 0))):
        chip = ChipMemory(room)
        assert (fits.local(ALONE, chip), beyond.local(ALONE, chip)) == sizes
