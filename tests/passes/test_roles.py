"""Storage and compute: what is kept as state is, where gradients are taken in loops."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import ir
import passes
from ir.graph import Graph
from passes import Plan, pipeline
from passes.sharding.roles import assign_roles

EMBED, MLP = 8, 32
PARAMETERS = {
    "up": jax.ShapeDtypeStruct((EMBED, MLP), jnp.float32),
    "down": jax.ShapeDtypeStruct((MLP, EMBED), jnp.float32),
}
STATE = {"params": PARAMETERS, "moments": PARAMETERS}
BATCHES = jax.ShapeDtypeStruct((3, 16, EMBED), jnp.float32)
NAMES = {"*.up": "embed mlp", "*.down": "mlp embed", "batches": "steps batch embed"}
FSDP = Plan.by_hand({"data": 8}, {"batch": "data"}, {"embed": "data"})


def loss_of(params, x):
    return jnp.mean((jnp.tanh(x @ params["up"]) @ params["down"] - x) ** 2)


def updated(state, gradients):
    moments = jax.tree.map(lambda m, g: 0.9 * m + g, state["moments"], gradients)
    return {"params": jax.tree.map(lambda p, m: p - 0.1 * m, state["params"], moments), "moments": moments}


def whole_steps(state, batches):
    def one(state, x):
        loss, gradients = jax.value_and_grad(loss_of)(state["params"], x)
        return updated(state, gradients), loss

    return lax.scan(one, state, batches)


def clipped_parts(state, batches):
    """Each micro-batch's gradients are clipped by their norm before they are added up."""

    def micro(total, x):
        gradients = jax.grad(loss_of)(state["params"], x)
        norm = jnp.sqrt(sum(jnp.sum(each**2) for each in jax.tree.leaves(gradients)))
        return jax.tree.map(lambda t, g: t + g / jnp.maximum(norm, 1.0), total, gradients), norm

    total, norms = lax.scan(micro, jax.tree.map(jnp.zeros_like, state["params"]), batches)
    return updated(state, total), norms


def traced(step) -> Graph:
    return passes.canonicalize(ir.trace(step, STATE, BATCHES, names=NAMES))


def moves(step) -> list[tuple[str, str]]:
    """(kind, what moves) of the collectives of large values, each once, in order."""
    placed = pipeline.place(traced(step), FSDP)
    return [(n.kind, n.attrs["moving"]) for n in placed.walk() if "moving" in n.attrs and n.outputs[0].type.dims]


def check_values(step) -> None:
    random = np.random.default_rng(0)
    state, batches = jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * random.standard_normal(leaf.shape), leaf.dtype), (STATE, BATCHES)
    )
    ours, theirs = passes.lower(traced(step), FSDP)(state, batches), jax.jit(step)(state, batches)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6, atol=1e-6)


def test_state_that_a_loop_of_steps_carries_stays_in_storage():
    # Two parameters are gathered and two gradients scattered in a trip; moments and the update stay where they are.
    assert sorted(moves(whole_steps)) == [("all_gather", "parameter")] * 2 + [("reduce_scatter", "gradient")] * 2
    check_values(whole_steps)


def test_gradients_that_are_clipped_one_by_one_are_scattered_first():
    assert sorted(moves(clipped_parts)) == [("all_gather", "parameter")] * 2 + [("reduce_scatter", "gradient")] * 2
    check_values(clipped_parts)


def test_zeros_that_gradients_are_added_to_are_made_in_storage():
    graph = traced(clipped_parts)
    roles = assign_roles(graph)
    zeros = [node.outputs[0] for node in graph.nodes if node.kind == "broadcast" and node.outputs[0].type.dims]
    assert zeros and {roles[value.id] for value in zeros} == {"storage"}


def test_a_carry_that_becomes_an_activation_is_none():
    """An RNN starts from a parameter, and goes on with what it has computed."""

    def step(state, batches):
        def run(params):
            carry, _ = lax.scan(lambda h, x: (jnp.tanh(h @ params["up"] @ params["down"] + x.mean(0)), None),
                                params["down"].mean(0), batches)  # fmt: skip
            return jnp.sum(carry**2)

        return updated(state, jax.grad(run)(state["params"])), run(state["params"])

    graph = traced(step)
    roles = assign_roles(graph)
    for node in graph.walk():
        if node.bodies and node.phase == "forward":
            carries = node.bodies[0].inputs[node.count("constants") :][: node.count("carries")]
            assert {roles[value.id] for value in carries if value.type.dims} <= {"compute"}
    check_values(step)
