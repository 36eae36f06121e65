"""Gradient accumulation: what a loop over micro-batches adds up is reduced once, after it, to the same values."""

from collections import Counter
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
    PARAMETERS,
    PLANS,
    before,
    deep_loss,
    filled,
    flat_loss,
    paired_loss,
    shape,
    stepping,
    traced,
)

import ir
import passes
from ir.ops import op_of
from passes import Plan, pipeline, summary
from passes.defer_sums import DeferSums
from passes.hardware.chip import chip_of
from passes.planner.problem import Problem
from passes.prove import prove


def collectives(graph, times=1, inside=False):
    """(kind, what moves, whether in a loop) → how often a step has it, trips included."""
    found = Counter()
    for node in graph.nodes:
        if op_of(node).communicates:
            found[node.kind, node.attrs["moving"], inside] += times
        for body in node.bodies:
            found += collectives(body, times * node.count("trips", 1), True)
    return found


def gradients_of(graph):
    return {key: count for key, count in collectives(graph).items() if key[1] == "gradient"}


@pytest.mark.parametrize(("name", "kind"), [("dp", "all_reduce"), ("fsdp", "reduce_scatter")])
def test_one_reduction_of_a_gradient_per_step(name, kind):
    step = stepping(flat_loss)
    each = gradients_of(before("defer_sums", traced(step, flat_loss), PLANS[name]).graph)
    assert sum(each.values()) == 3 * MICROBATCHES and all(inside for _, _, inside in each)
    once = gradients_of(pipeline.place(traced(step, flat_loss), PLANS[name]))
    assert sum(once.values()) == 3 and not any(inside for _, _, inside in once)
    assert once[kind, "gradient", False] >= 2


def test_layers_inside_of_the_loop_leave_partial_gradients():
    placed = ir.verify(pipeline.place(traced(stepping(deep_loss), deep_loss), PLANS["mixed"]))
    # One reduce-scatter of all layers, and not one of each layer in each micro-batch. The matrix that is used twice has
    # one in each, since its two gradients are added first.
    assert gradients_of(placed) == {("reduce_scatter", "gradient", False): 3}
    assert gradients_of(before("defer_sums", traced(stepping(deep_loss), deep_loss), PLANS["mixed"]).graph)[
        "reduce_scatter", "gradient", True
    ] == MICROBATCHES * (2 * LAYERS + 1)
    (loop,) = [node for node in placed.nodes if node.bodies]
    assert {value.type.partial for value in loop.outputs[:-1]} == {("data",)}
    assert ir.parse(str(placed)) == placed


@pytest.mark.parametrize(
    ("loss_of", "name", "first"),
    [
        (flat_loss, "dp", False),
        (flat_loss, "fsdp", True),
        (deep_loss, "dp", True),
        (deep_loss, "mixed", False),
        (paired_loss, "mixed", False),
        *(
            pytest.param(loss_of, name, first, marks=pytest.mark.slow)
            for loss_of in (flat_loss, deep_loss, paired_loss)
            for name in PLANS
            for first in (False, True)
        ),
    ],
)
def test_the_values_are_those_of_one_device(loss_of, name, first):
    step = stepping(loss_of, first=first)
    graph = traced(step, loss_of)
    placed = pipeline.place(graph, PLANS[name])
    assert not any(inside for _, _, inside in gradients_of(placed))
    assert prove(placed, graph, MESH).assumptions == ()
    state, batches = (
        filled({"params": PARAMETERS[loss_of], "moments": PARAMETERS[loss_of]}),
        filled(shape(MICROBATCHES, BATCH, EMBED), 1),
    )
    ours = passes.lower(graph, PLANS[name])(state, batches)
    theirs = jax.jit(step)(state, batches)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6, atol=1e-6)


def test_what_is_looked_at_in_every_trip_is_reduced_in_every_trip():
    """A norm of the sum so far needs the sum."""
    step = stepping(flat_loss, seen=lambda gradients: jnp.sum(gradients["up"] ** 2))
    found = gradients_of(pipeline.place(traced(step, flat_loss), PLANS["fsdp"]))
    assert found["reduce_scatter", "gradient", True] == MICROBATCHES
    assert sum(count for (_, _, inside), count in found.items() if not inside) == 2


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_sum_that_two_read_waits_for_both_or_for_none(looked_at):
    """The cotangent of `h` is a sum over the mesh axis of `mlp`. The gradient of the scale is linear in it, and so is
    that of the layer before; where that is looked at in every trip, both have the sum."""

    def loss(params, x):
        h = jnp.tanh(x @ params["first"])
        return jnp.mean((jnp.tanh((h * params["scale"]) @ params["up"]) @ params["down"] - x) ** 2)

    hidden = 6
    parameters = {
        "first": shape(EMBED, hidden),
        "scale": shape(hidden),
        "up": shape(hidden, MLP),
        "down": shape(MLP, EMBED),
    }
    names = {"*.first": "embed hidden", "*.scale": "hidden", "*.up": "hidden mlp", "*.down": "mlp embed"}
    state = {"params": parameters, "moments": parameters}
    batches = {"batches": "microbatch batch embed"}

    def seen(gradients):
        return jnp.sum(gradients["first"] ** 2) if looked_at else 0.0

    graph = passes.canonicalize(
        ir.trace(stepping(loss, seen), state, shape(MICROBATCHES, BATCH, EMBED), names=names | batches)
    )
    placed = pipeline.place(graph, Plan.by_hand(MESH, {"mlp": "model"}))
    assert prove(placed, graph, MESH).assumptions == ()
    assert collectives(placed)["all_reduce", "activation", True] == (2 if looked_at else 1) * MICROBATCHES


def test_where_there_is_no_room_gradients_are_reduced_in_every_trip():
    graph = traced(stepping(flat_loss), flat_loss)
    small = PLANS["fsdp"]
    peak = summary.memory(graph, small)["peak"]
    for extra, inside in ((0, 2), (EMBED * MLP * 4, 1), (2 * EMBED * MLP * 4, 0)):
        # The bias, which no plan shards, costs nothing.
        chip = replace(chip_of("v5e"), capacity=peak + extra)
        plan = Plan.by_hand(MESH, small.compute, small.storage, chip)
        placed = pipeline.place(graph, plan)
        assert summary.memory(graph, plan, placed)["peak"] <= peak + extra
        found = gradients_of(placed)
        assert found.get(("reduce_scatter", "gradient", True), 0) == inside * MICROBATCHES
    stage = before("defer_sums", graph, plan)
    assert not any(inside for _, _, inside in gradients_of(DeferSums(memory=False).apply(stage).graph))


@pytest.mark.parametrize("loss_of", PARAMETERS)
@pytest.mark.parametrize("name", PLANS)
def test_the_planner_prices_what_is_done(loss_of, name):
    """The price that the search compares is that of the program: reductions that wait count once."""
    graph, plan = traced(stepping(loss_of), loss_of), PLANS[name]
    cost, _ = Problem.of(graph, plan.mesh, plan.chip).price(plan.rules)
    times = summary.times(graph, pipeline.place(graph, plan), plan)
    assert cost.activations + cost.hidden == pytest.approx(times.communication, rel=1e-9)
