"""Marks: which leave a trace, and what differentiation makes of them."""

from collections import Counter

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.extend.core import jaxprs_in_params
from step_models import shaped

import haliax as hax
import ir
from haliax import Axis, NamedArray
from haliax.core.staging import staging
from haliax.ops.shape import flatten_others

Batch, Embed = Axis("batch", 4), Axis("embed", 6)
X = shaped("batch embed", 4, 6)


def primitives(function, *arguments) -> Counter:
    found: Counter = Counter()

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            found[equation.primitive.name] += 1
            for body in jaxprs_in_params(equation.params):
                walk(body)

    with staging():
        walk(jax.make_jaxpr(function)(*arguments).jaxpr)
    return found


def loss(x):
    return hax.mean(hax.named(jnp.tanh(x.array * 2.0), ("batch", "embed")) * x).scalar()


def test_differentiation_adds_no_marks():
    assert primitives(jax.value_and_grad(loss), X)["named"] == primitives(loss, X)["named"] > 0


def test_the_gradient_has_its_names_all_the_same():
    graph = ir.trace(jax.grad(loss), X)
    assert all(dim.name for value in graph.values() for dim in value.type.dims)


def test_a_marked_linear_function_can_be_transposed():
    def scaled(array):
        return (NamedArray(array, (Batch, Embed)) * 3.0).array

    def step(cotangent):
        (result,) = jax.linear_transpose(scaled, jax.ShapeDtypeStruct((4, 6), jnp.float32))(cotangent)
        return result

    graph = ir.trace(step, jax.ShapeDtypeStruct((4, 6), jnp.float32))
    assert graph.inputs[0].type.names == graph.outputs[0].type.names == ("batch", "embed")


def test_a_helpers_own_name_for_a_moment_is_not_recorded():
    def step(x):
        flat, undo = flatten_others(x, "embed", "__rows__")
        return undo(hax.tanh(flat))

    graph = ir.trace(step, X)
    assert [value.type.names for value in graph.values()] == [("batch", "embed")] * len(list(graph.values()))


def test_optimizer_state_of_another_shape_gets_its_names_from_what_it_meets():
    optimizer = optax.adafactor(1e-2, min_dim_size_to_factor=2)
    weight = shaped("embed mlp", 6, 8)

    class State(eqx.Module):
        weight: NamedArray
        factors: object

    def step(state, x):
        gradient = jax.grad(lambda w: hax.sum(hax.tanh(hax.dot(x, w, axis="embed"))).scalar())(state.weight)
        updates, factors = optimizer.update(gradient, state.factors, state.weight)
        return State(optax.apply_updates(state.weight, updates), factors)

    graph = ir.trace(step, State(weight, jax.eval_shape(optimizer.init, weight)), X)
    kept = zip(graph.input_paths, graph.inputs, strict=True)
    names = [value.type.names for path, value in kept if "v_row" in path or "v_col" in path]
    assert names == [("embed",), ("mlp",)]
