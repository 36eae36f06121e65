"""Sums that are added up are reduced once: to the same values, proved, and as the plan was priced."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_models import filled, shaped
from typeguard import suppress_type_checks

import ir
import passes
from ir.ops import op_of
from passes import Plan, pipeline, summary
from passes.join_sums import join_sums
from passes.partition import partition
from passes.planner.cost import step_seconds
from passes.planner.problem import Problem
from passes.ring_inputs import ring_inputs
from passes.scatter_sums import scatter_sums
from passes.shadow import alone
from passes.sharding.joined import joined_sums

MESH = {"data": 2, "model": 2}
MEGATRON = {"batch": ("data",), "mlp": ("model",), "heads": ("model",)}
TENSOR = Plan.by_hand(MESH, MEGATRON)
SEQUENCE = Plan.by_hand(MESH, {**MEGATRON, "position": ("model",)})
X = shaped("batch position embed", 4, 6, 8)
GATED = {"gate": shaped("embed mlp", 8, 16), "up": shaped("embed mlp", 8, 16), "down": shaped("mlp embed", 16, 8)}
QKV = {name: shaped("embed heads head_size", 8, 2, 4) for name in "qkv"}


def gated(p, x):
    hidden = jax.nn.silu(x @ p["gate"].array) * (x @ p["up"].array)
    return jnp.square(hidden @ p["down"].array)


def qkv(p, x):
    q, k, v = (jnp.einsum("bse,ehd->bhsd", x, p[name].array) for name in "qkv")
    return jnp.square(q * jnp.tanh(k) + v).transpose(0, 2, 1, 3)


def gradient_of(layer):
    """The gradient of the layer's operand, as the layers below it need it."""

    def step(p, x):
        return jax.grad(lambda x: layer(p, x).sum())(x.array)

    return step


def traced(layer, p):
    return passes.canonicalize(ir.trace(gradient_of(layer), p, X))


def reductions(graph):
    return Counter(node.kind for node in graph.walk() if op_of(node).completes_sums)


@pytest.mark.parametrize(
    ("plan", "kind"), [(TENSOR, "all_reduce"), (SEQUENCE, "reduce_scatter")], ids=["tensor", "sequence"]
)
@pytest.mark.parametrize(("layer", "p", "summands"), [(gated, GATED, 2), (qkv, QKV, 3)], ids=["gated", "qkv"])
def test_the_gradient_of_an_operand_is_reduced_once(layer, p, summands, plan, kind):
    graph = traced(layer, p)
    apart = scatter_sums(partition(graph, plan))
    joined = join_sums(apart)
    saved = reductions(apart) - reductions(joined)
    assert saved == {kind: summands - 1} and not reductions(joined) - reductions(apart)
    assert passes.prove(ir.verify(joined), graph).assumptions == ()


@pytest.mark.parametrize("plan", [TENSOR, SEQUENCE], ids=["tensor", "sequence"])
def test_the_values_are_those_of_one_device_and_of_the_ring(plan):
    p, x = filled(GATED), filled(X)
    step = gradient_of(gated)
    graph = ir.trace(step, GATED, X)
    numbers = jax.tree.unflatten(jax.tree.structure((p, x)), ring_inputs(graph))
    with suppress_type_checks():
        np.testing.assert_allclose(passes.lower(graph, plan)(p, x), jax.jit(step)(p, x), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(passes.shadow(graph, plan)(*numbers), alone(graph)(*numbers))


def test_what_something_else_reads_is_reduced_where_it_is():
    def step(p, x):
        first, second = x.array @ p["up"].array, jnp.tanh(x.array) @ p["up"].array
        a, b = first @ p["down"].array, second @ p["down"].array
        return a + b, jnp.tanh(a)

    placed = pipeline.place(passes.canonicalize(ir.trace(step, GATED, X)), TENSOR)
    assert reductions(placed) == {"all_reduce": 2}


def test_what_is_not_linear_stays_between():
    def step(p, x):
        a, b = (f(x.array) @ p["up"].array @ p["down"].array for f in (jnp.sin, jnp.cos))
        return jnp.maximum(a, b) + a * b

    placed = pipeline.place(passes.canonicalize(ir.trace(step, GATED, X)), TENSOR)
    assert reductions(placed) == {"all_reduce": 2}


def test_products_transposes_and_differences_are_on_the_way():
    def step(p, x):
        a, b = (f(x.array) @ p["up"].array @ p["down"].array for f in (jnp.sin, jnp.cos))
        return 2.0 * a.swapaxes(0, 1) - b.swapaxes(0, 1) / 3.0

    graph = passes.canonicalize(ir.trace(step, GATED, X))
    placed = pipeline.place(graph, TENSOR)
    assert reductions(placed) == {"all_reduce": 1}
    assert passes.prove(placed, graph).assumptions == ()


def test_sums_over_other_mesh_axes_are_not_of_one_kind():
    def step(p, x):
        a = x.array @ p["up"].array @ p["down"].array
        return a + jnp.einsum("bse,bsf->ef", x.array, x.array)[0]

    placed = pipeline.place(passes.canonicalize(ir.trace(step, GATED, X)), TENSOR)
    assert reductions(placed) == {"all_reduce": 2}


def test_a_maximum_is_no_sum():
    def step(p, x):
        a, b = (f(x.array @ p["up"].array).max(-1) for f in (jnp.sin, jnp.cos))
        return a + b

    placed = pipeline.place(passes.canonicalize(ir.trace(step, GATED, X)), TENSOR)
    assert reductions(placed) == {"all_reduce": 2}


@pytest.mark.parametrize("plan", [TENSOR, SEQUENCE], ids=["tensor", "sequence"])
def test_a_plan_is_priced_as_it_is_made(plan):
    graph = traced(gated, GATED)
    assert len(joined_sums(graph)) == 1
    cost, _ = Problem.of(graph, plan.mesh, plan.chip).price(plan.rules)
    priced = step_seconds(cost.compute, cost.activations, cost.hidden, plan.chip.overlap)
    assert summary.times(graph, pipeline.place(graph, plan), plan).step == pytest.approx(float(priced), rel=1e-6)


def test_a_sum_inside_of_a_loop_is_joined_there():
    def step(p, x):
        def body(carry, _):
            a, b = (f(carry) @ p["up"].array @ p["down"].array for f in (jnp.sin, jnp.cos))
            return jnp.tanh(a + b), None

        return jax.lax.scan(body, x.array, None, length=3)[0]

    graph = passes.canonicalize(ir.trace(step, GATED, X))
    placed = pipeline.place(graph, TENSOR)
    assert reductions(placed) == {"all_reduce": 1}
    assert passes.prove(placed, graph).assumptions == ()
