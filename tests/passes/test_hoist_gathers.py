"""What every trip of a loop would gather is gathered once, before the loop, where there is room."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accumulation import (
    BATCH,
    EMBED,
    LAYERS,
    MESH,
    MICROBATCHES,
    MLP,
    NAMES,
    PARAMETERS,
    PLANS,
    before,
    deep_loss,
    filled,
    flat_loss,
    shape,
    stepping,
    traced,
)
from jax import lax

import ir
import passes
from ir.ops import op_of
from passes import pipeline, summary
from passes.hardware.chip import chip_of
from passes.hoist_gathers import HoistGathers
from passes.planner.problem import Problem
from passes.prove import prove

FSDP = PLANS["fsdp"]
BYTES = EMBED * MLP * 4
"""Of one matrix, gathered."""


def gathers(graph, times=1, inside=False):
    """(bytes, how often a step makes it, whether in a loop) of each gather, in order."""
    found = []
    for node in graph.nodes:
        if op_of(node).communicates and node.attrs["moving"] == "parameter" and not op_of(node).completes_sums:
            found.append((node.attrs["bytes"], times, inside))
        for body in node.bodies:
            found += gathers(body, times * node.count("trips", 1), True)
    return found


def test_parameters_are_gathered_once_a_step():
    graph = traced(stepping(flat_loss), flat_loss)
    assert gathers(before("hoist_gathers", graph, FSDP).graph) == [(BYTES, MICROBATCHES, True)] * 2
    placed = ir.verify(pipeline.place(graph, FSDP))
    assert gathers(placed) == [(BYTES, 1, False)] * 2
    assert ir.parse(str(placed)) == placed


def test_a_stack_of_layers_is_gathered_as_a_whole():
    graph = traced(stepping(deep_loss), deep_loss)
    each = gathers(before("hoist_gathers", graph, FSDP).graph)
    assert (BYTES, MICROBATCHES * LAYERS, True) in each
    # One gather for the loops of both passes.
    assert sorted(gathers(pipeline.place(graph, FSDP))) == [(BYTES, 1, False)] + [(LAYERS * BYTES, 1, False)] * 2


def test_a_cast_in_the_loop_is_of_what_was_gathered():
    def in_half(params, x):
        return flat_loss(jax.tree.map(lambda each: each.astype(jnp.bfloat16), params), x.astype(jnp.bfloat16)).astype(
            jnp.float32
        )

    step = stepping(in_half)
    state = {"params": PARAMETERS[flat_loss], "moments": PARAMETERS[flat_loss]}
    batches = shape(MICROBATCHES, BATCH, EMBED)
    graph = passes.canonicalize(ir.trace(step, state, batches, names=NAMES[flat_loss]))
    assert gathers(before("hoist_gathers", graph, FSDP).graph) == [(BYTES // 2, MICROBATCHES, True)] * 2
    placed = pipeline.place(graph, FSDP)
    assert gathers(placed) == [(BYTES, 1, False)] * 2
    assert prove(placed, graph, MESH).assumptions == ()
    cost, _ = Problem.of(graph, FSDP.mesh, FSDP.chip).price(FSDP.rules)
    times = summary.times(graph, placed, FSDP)
    assert cost.activations + cost.hidden == pytest.approx(times.communication, rel=1e-9)
    state, batches = filled(state), filled(batches, 1)
    for a, b in zip(
        *(jax.tree.leaves(f(state, batches)) for f in (passes.lower(graph, FSDP), jax.jit(step))), strict=True
    ):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-2, atol=2e-3)


def test_what_is_read_as_it_is_stored_stays():
    """A loop that changes parameters has other ones in each trip."""

    def step(params, batches):
        def one(params, x):
            gradients = jax.grad(flat_loss)(params, x)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), None

        return lax.scan(one, params, batches)[0]

    graph = passes.canonicalize(
        ir.trace(step, PARAMETERS[flat_loss], shape(MICROBATCHES, BATCH, EMBED), names=NAMES[flat_loss])
    )
    assert gathers(pipeline.place(graph, FSDP)) == [(BYTES, MICROBATCHES, True)] * 2


def test_as_many_as_there_is_room_for():
    graph = traced(stepping(flat_loss), flat_loss)
    pending = 2 * (BYTES - BYTES // 8)  # of the sums, which come first
    peak = summary.memory(graph, FSDP)["peak"]
    for extra, inside in ((pending, 2), (pending + BYTES, 1), (pending + 2 * BYTES, 0)):
        plan = passes.Plan.by_hand(MESH, FSDP.compute, FSDP.storage, replace(chip_of("v5e"), capacity=peak + extra))
        placed = pipeline.place(graph, plan)
        assert sum(inside for _, _, inside in gathers(placed)) == inside
        assert summary.memory(graph, plan, placed)["peak"] == peak + pending + (2 - inside) * BYTES
    stage = replace(before("hoist_gathers", graph, plan), plan=None)
    assert not any(inside for _, _, inside in gathers(HoistGathers(memory=False).apply(stage).graph))


@pytest.mark.parametrize("room", [0, BYTES, 8 * BYTES])
def test_the_plan_that_is_chosen_is_priced_as_it_is_done(room):
    """Also where there is no room for what loops could do once."""
    graph = traced(stepping(flat_loss), flat_loss)
    free = passes.plan(graph, MESH)
    least = summary.memory(graph, free)["peak"]
    chip = replace(chip_of("v5e"), capacity=least + room)
    plan = passes.plan(graph, MESH, chip)
    placed = pipeline.place(graph, plan)
    assert summary.memory(graph, plan, placed)["peak"] <= chip.capacity
    step = summary.times(graph, placed, plan).step
    for other in PLANS.values():
        other = replace(other, custom_chip=chip)
        placed = pipeline.place(graph, other)
        if summary.memory(graph, other, placed)["peak"] <= chip.capacity:
            assert step <= summary.times(graph, placed, other).step * (1 + 1e-6)
    if room == 8 * BYTES:
        assert plan.search is not None and plan.search.optimal
