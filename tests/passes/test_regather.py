"""Parameters that are gathered once and kept, or again in the backward pass: in the text, in the program, in memory."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_models import collectives_of, shaped
from typeguard import suppress_type_checks

import ir
import passes
from levanter.compiler.verify import compare
from levanter.compiler.verify.hlo import collectives as read_collectives
from passes import pipeline, summary
from passes.hardware.chip import chip_of
from passes.planner.regather import regathers
from passes.sharding.roles import assign_roles

LAYERS, MESH = 6, {"data": 8}


def _step(weights: Any, x: Any) -> Any:
    def loss_of(weights: Any) -> Any:
        hidden = x.array
        for up, down in weights:
            hidden = hidden + jnp.tanh(hidden @ up.array) @ down.array
        return jnp.mean(jnp.square(hidden))

    loss, gradients = jax.value_and_grad(loss_of)(weights)
    return jax.tree.map(lambda p, g: p - 0.1 * g, weights, gradients), loss


@pytest.fixture(scope="module")
def unrolled() -> Any:
    """The canonical graph of a step of unrolled layers, and its arguments."""
    weights = [(shaped("embed mlp", 64, 256), shaped("mlp embed", 256, 64)) for _ in range(LAYERS)]
    arguments = (weights, shaped("batch embed", 32, 64))
    with suppress_type_checks():
        return pipeline.prepare(ir.trace(_step, *arguments)), arguments


def _plan(again: bool | None, hardware: Any = "v5e") -> passes.Plan:
    return passes.Plan.by_hand(MESH, {"batch": "data"}, {"embed": "data"}, hardware, regather=again)


def _compiled(graph: Any, plan: passes.Plan, arguments: Any) -> tuple[Any, list[Any]]:
    with tempfile.TemporaryDirectory() as folder:
        options = {"xla_dump_to": folder, "xla_dump_hlo_pass_re": "spmd.*", "xla_dump_hlo_as_text": True}
        # The order that TPUs and GPUs have. On CPUs it is not safe where state is donated (docs/partition.md).
        options["xla_cpu_scheduler_type"] = "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
        compiled = passes.lower(graph, plan).lower(*arguments).compile(compiler_options=options)
        (dump,) = Path(folder).glob("*after_spmd-partitioning*")
        return compiled, read_collectives(dump.read_text(), plan.mesh.as_dict())


def test_what_is_printed_runs_and_needs_what_is_predicted(unrolled: Any) -> None:
    graph, arguments = unrolled
    filled = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), arguments)
    temporaries, results = {}, {}
    with suppress_type_checks():
        for again in (False, True):
            plan = _plan(again)
            placed = pipeline.place(graph, plan)
            gathers = [node for node in collectives_of(placed) if node.kind == "all_gather"]
            # The last product's weights are read again at once.
            assert len(gathers) == (2 * LAYERS if not again else 4 * LAYERS - 1)
            compiled, found = _compiled(graph, plan, arguments)
            rows = [asdict(each) for each in summary.collectives(placed, plan)]
            assert compare(rows, found, MESH)["surprises"] == []
            # Nothing is merged later either.
            assert compiled.as_text().count(" all-gather(") == len(gathers)
            temporaries[again] = compiled.memory_analysis().temp_size_in_bytes
            placed_arguments = jax.device_put(
                jax.tree.map(jnp.array, filled), passes.input_shardings(placed, passes.device_mesh(plan))
            )
            results[again] = [np.asarray(leaf) for leaf in jax.tree.leaves(compiled(*placed_arguments))]
    assert temporaries[True] < 0.5 * temporaries[False]
    for kept, again in zip(results[False], results[True], strict=True):
        np.testing.assert_array_equal(kept, again)


def test_the_planner_keeps_what_has_room(unrolled: Any) -> None:
    graph, _ = unrolled
    chip = chip_of("h100")
    with suppress_type_checks():
        peaks = {again: summary.memory(graph, _plan(again, chip))["peak"] for again in (False, True)}
    assert peaks[True] < 0.6 * peaks[False]
    between = (peaks[True] + peaks[False]) // 2
    roles = assign_roles(graph)
    for capacity, expected in ((peaks[False], False), (between, True)):
        small = replace(chip, capacity=capacity)
        assert regathers(graph, _plan(None, small), roles) is expected
        found = passes.plan(graph, MESH, small)
        assert summary.memory(graph, found)["peak"] <= capacity


def test_without_a_chip_that_is_known_they_are_kept(unrolled: Any) -> None:
    graph, _ = unrolled
    assert regathers(graph, replace(_plan(None), hardware=""), assign_roles(graph)) is False
