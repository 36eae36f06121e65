"""Gradient accumulation: what a loop over micro-batches adds up is reduced once, after it, to the same values."""

from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ir
import passes
from ir.ops import op_of
from passes import Plan, pipeline, summary
from passes.defer_sums import DeferSums
from passes.hardware.chip import chip_of
from passes.prove import prove
from passes.stage import Stage

F32 = jnp.float32
MESH = {"data": 4, "model": 2}
MICROBATCHES, BATCH, EMBED, MLP, LAYERS = 4, 16, 8, 32, 3
PLANS = {
    "dp": Plan.by_hand(MESH, {"batch": ("data", "model")}),
    "fsdp": Plan.by_hand(MESH, {"batch": ("data", "model")}, {"embed": ("data", "model")}),
    "mixed": Plan.by_hand(MESH, {"batch": "data", "mlp": "model"}, {"embed": "data"}),
}


def flat_loss(params, x):
    return jnp.mean((jnp.tanh(x @ params["up"] + params["bias"]) @ params["down"] - x) ** 2)


def deep_loss(params, x):
    """A loop over layers, and the first matrix used twice."""

    def layer(h, w):
        return h + jnp.tanh(h @ w["up"]) @ w["down"], None

    x = jnp.tanh(x @ params["up"]) @ params["up"].T
    return jnp.mean((lax.scan(layer, x, params["layers"])[0] - x) ** 2)


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, F32)


def paired_loss(params, x):
    """Two matrices of one shape, whose gradients start from the same zeros."""
    return jnp.mean((jnp.tanh(x @ params["up"]) * jnp.tanh(x @ params["gate"]) @ params["down"] - x) ** 2)


PARAMETERS = {
    paired_loss: {"up": shape(EMBED, MLP), "gate": shape(EMBED, MLP), "down": shape(MLP, EMBED)},
    flat_loss: {"up": shape(EMBED, MLP), "down": shape(MLP, EMBED), "bias": shape(MLP)},
    deep_loss: {
        "up": shape(EMBED, MLP),
        "layers": {"up": shape(LAYERS, EMBED, MLP), "down": shape(LAYERS, MLP, EMBED)},
    },
}


BATCHES = {"batches": "microbatch batch embed"}
NAMES = {
    paired_loss: {"*.up": "embed mlp", "*.gate": "embed mlp", "*.down": "mlp embed"} | BATCHES,
    flat_loss: {"*.up": "embed mlp", "*.down": "mlp embed", "*.bias": "mlp"} | BATCHES,
    deep_loss: {
        "*.params.up": "embed mlp",
        "*.moments.up": "embed mlp",
        "*.layers.up": "layers embed mlp",
        "*.layers.down": "layers mlp embed",
    }
    | BATCHES,
}


def stepping(loss_of, seen=lambda total: 0.0, first=False):
    """A step that adds gradients up over micro-batches; `seen` is what each of them looks at besides."""

    def step(state, batches):
        def micro(carry, x):
            total, gradients = carry
            loss, new = jax.value_and_grad(loss_of)(state["params"], x)
            gradients = jax.tree.map(lambda total, each: total + 0.25 * each, gradients, new)
            return (total + loss, gradients), seen(gradients)

        params, start = state["params"], (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state["params"]))
        if first:
            start = jax.value_and_grad(loss_of)(params, batches[0])
            start = start[0], jax.tree.map(lambda each: 0.25 * each, start[1])
        (total, gradients), norms = lax.scan(micro, start, batches[1:] if first else batches)
        moments = jax.tree.map(lambda m, g: 0.9 * m + g, state["moments"], gradients)
        params = jax.tree.map(lambda p, m: p - 0.1 * m, params, moments)
        return {"params": params, "moments": moments}, {"loss": total / MICROBATCHES, "seen": norms}

    return step


def traced(step, loss_of):
    state = {"params": PARAMETERS[loss_of], "moments": PARAMETERS[loss_of]}
    return passes.canonicalize(ir.trace(step, state, shape(MICROBATCHES, BATCH, EMBED), names=NAMES[loss_of]))


def filled(tree, seed=0):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * random.standard_normal(leaf.shape), leaf.dtype), tree)


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


def in_every_trip(step, loss_of, plan):
    """The placed graph without the pass."""
    front, _ = pipeline.PIPELINE.split("defer_sums")
    _, back = front.split("partition")
    return back.run(Stage(traced(step, loss_of), plan.mesh, plan.hardware, plan)).graph


@pytest.mark.parametrize(("name", "kind"), [("dp", "all_reduce"), ("fsdp", "reduce_scatter")])
def test_one_reduction_of_a_gradient_per_step(name, kind):
    step = stepping(flat_loss)
    each = gradients_of(in_every_trip(step, flat_loss, PLANS[name]))
    assert sum(each.values()) == 3 * MICROBATCHES and all(inside for _, _, inside in each)
    once = gradients_of(pipeline.place(traced(step, flat_loss), PLANS[name]))
    assert sum(once.values()) == 3 and not any(inside for _, _, inside in once)
    assert once[kind, "gradient", False] >= 2


def test_layers_inside_of_the_loop_leave_partial_gradients():
    placed = ir.verify(pipeline.place(traced(stepping(deep_loss), deep_loss), PLANS["mixed"]))
    # One reduce-scatter of all layers, and not one of each layer in each micro-batch.
    assert gradients_of(placed) == {("reduce_scatter", "gradient", False): 3}
    assert gradients_of(in_every_trip(stepping(deep_loss), deep_loss, PLANS["mixed"]))[
        "reduce_scatter", "gradient", True
    ] == MICROBATCHES * (2 * LAYERS + 2)
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
    placed = in_every_trip(stepping(flat_loss), flat_loss, plan)
    stage = Stage(placed, plan.mesh, plan.hardware, plan, unplaced=graph)
    assert not any(inside for _, _, inside in gradients_of(DeferSums(memory=False).apply(stage).graph))
