"""What a TPU's compiler is given in place of the printed program: the same values, in the ring to the bit."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
import simulated_devices
from step_models import collectives_of, hand_plan, prepared

import ir
import passes
from ir.analysis.verify import verify
from passes import for_tpu as rewriting
from passes import pipeline
from passes.for_tpu import for_tpu
from passes.prove import prove
from passes.values import compare_values

MESH = {"data": 2, "model": 2}


def plan_of(compute, storage=None, hardware="v5p"):
    return passes.Plan.by_hand(MESH, compute, storage or {}, hardware)


def placed_and_given(graph, *rules, **hardware):
    """The printed program, and what a TPU's compiler is given."""
    plan = plan_of(*rules, **hardware)
    placed = pipeline.place(graph, plan)
    return placed, for_tpu(placed, plan)


def step_of_classes(loss_of):
    """A step of two matrices and a loss over classes, canonical."""
    return pipeline.prepare(traced_step(loss_of))


def traced_step(loss_of):
    """The same as it was traced."""

    def step(parameters, x, targets):
        value, grads = jax.value_and_grad(lambda p: loss_of(jnp.tanh(x @ p["in"]) @ p["out"], targets))(parameters)
        return jax.tree.map(lambda p, g: p - 0.1 * g, parameters, grads), value

    array = jax.ShapeDtypeStruct
    parameters = {"in": array((4, 8), jnp.float32), "out": array((8, 16), jnp.float32)}
    names = {"*.in": "embed mlp", "*.out": "mlp vocab", "x": "batch embed", "targets": "batch"}
    return ir.trace(step, parameters, array((8, 4), jnp.float32), array((8,), jnp.int32), names=names)


def softmax_loss(logits, targets):
    highest = jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    normalizer = jnp.log(jnp.exp(logits - highest).sum(-1)) + highest[:, 0]
    return jnp.mean(normalizer - jnp.where(targets[:, None] == jnp.arange(16), logits, 0.0).sum(-1))


def square_loss(logits, targets):
    return jnp.mean(jnp.square(logits - targets[:, None]))


def count(graph, **wanted):
    return sum(all(getattr(node, key) == value for key, value in wanted.items()) for node in graph.walk())


@pytest.mark.parametrize(
    "loss_of, compute, storage",
    [
        (softmax_loss, {"batch": ["data"], "vocab": ["model"]}, {}),
        (square_loss, {"batch": ["data"], "mlp": ["model"]}, {"vocab": ["data"]}),
    ],
)
def test_it_computes_the_same(loss_of, compute, storage):
    graph = step_of_classes(loss_of)
    placed, given = placed_and_given(graph, compute, storage)
    verify(given)
    assert not prove(given, mesh=MESH).assumptions
    arrays = simulated_devices.inputs(placed)
    assert simulated_devices.same(
        simulated_devices.run(given, MESH, arrays), simulated_devices.run(placed, MESH, arrays)
    )


def test_collectives_stay_as_they_are_printed():
    plan = hand_plan("mixed_sp")
    placed = pipeline.place(prepared("named_checkpoint"), plan)
    given = for_tpu(placed, plan)
    verify(given)
    assert [(node.kind, node.attrs) for node in collectives_of(given)] == [
        (node.kind, node.attrs) for node in collectives_of(placed)
    ]
    assert given != placed


def test_a_gradient_is_made_with_its_dims_as_the_update_reads_them():
    placed, given = placed_and_given(step_of_classes(square_loss), {"batch": ["data"]})
    assert count(placed, fn="transpose") == 2
    assert count(given, fn="transpose") == 0
    made = [str(node.outputs[0].type) for node in given.nodes if node.kind == "all_reduce"]
    assert made[-2:] == ["f32[mlp=8, vocab=16]", "f32[embed=4, mlp=8]"]


def test_each_product_makes_the_gradient_of_a_softmax_of_its_own():
    graph, rules = step_of_classes(softmax_loss), {"batch": ["data"], "vocab": ["model"]}
    placed, given = placed_and_given(graph, rules)
    assert count(placed, fn="optimization_barrier") == 0
    assert count(given, fn="optimization_barrier") == 1
    assert count(given, fn="exp") == count(placed, fn="exp") + 1
    _, on_chip = placed_and_given(graph, rules, hardware="v5e")  # it has room for it
    assert count(on_chip, fn="optimization_barrier") == 0


def test_what_is_made_for_the_products_alone_is_made_once():
    _, given = placed_and_given(step_of_classes(square_loss), {"batch": ["data"], "vocab": ["model"]})
    assert count(given, fn="optimization_barrier") == 0


def test_a_transpose_of_other_dims_stays():
    def step(x, w):
        return jnp.transpose(jnp.einsum("be,ehs->bhs", x, w), (0, 2, 1)).sum(0) * 2.0

    array = jax.ShapeDtypeStruct
    graph = ir.trace(
        step,
        array((8, 4), jnp.float32),
        array((4, 2, 6), jnp.float32),
        names={"x": "batch embed", "w": "embed heads size"},
    )
    placed, given = placed_and_given(pipeline.prepare(graph), {"batch": ["data"]})
    assert count(given, fn="transpose") == count(placed, fn="transpose") == 1


def test_what_it_gives_stays_as_it_is():
    _, given = placed_and_given(step_of_classes(softmax_loss), {"batch": ["data"], "vocab": ["model"]})
    assert for_tpu(given, plan_of({"batch": ["data"], "vocab": ["model"]})) == given


def test_a_pipeline_for_a_tpu_ends_with_what_its_compiler_is_given():
    plan, graph = plan_of({"batch": ["data"], "vocab": ["model"]}), traced_step(softmax_loss)
    printed, given = (passes.run(graph, MESH, "v5p", plan=plan, platform=platform) for platform in ("cpu", "tpu"))
    assert given.placed == for_tpu(printed.placed, plan) != printed.placed
    assert given.proof == printed.proof


def test_the_ring_refutes_a_wrong_rewriting(monkeypatch):
    plan, graph = plan_of({"batch": ["data"], "vocab": ["model"]}), traced_step(softmax_loss)

    def values():
        given = passes.run(graph, MESH, "v5p", plan=plan, platform="tpu").placed
        assert count(given, fn="optimization_barrier") == 1
        return compare_values(graph, given, plan)

    assert not values().different
    right = rewriting._again

    def with_the_first_node_twice(value, chain, scope, rewriter):
        first = next(node for node in chain if node.outputs[0].type == value.type)
        return right(value, [*chain, replace(first, outputs=(value,))], scope, rewriter)

    monkeypatch.setattr(rewriting, "_again", with_the_first_node_twice)
    different = values().different
    assert different
