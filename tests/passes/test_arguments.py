"""A lowered step called with other arguments than it was traced for: the error speaks of axes, on one device and on
a mesh."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
import ir
import passes
from passes import Plan

Batch, Position, Vocab = hax.make_axes(batch=16, position=128, vocab=32)
AGAIN = "trace, plan and lower the step for these arguments"


class Text(eqx.Module):
    tokens: hax.NamedArray
    scale: jax.Array
    mode: str = eqx.field(static=True, default="train")


def train(table, batch):
    picked = table["vocab", batch.tokens] * batch.scale
    return table - 0.1 * picked.sum(), picked.sum()


def arguments():
    tokens = hax.named(jnp.zeros((16, 128), jnp.int32), (Batch, Position))
    return hax.ones(Vocab), Text(tokens, jnp.float32(1.0))


TABLE, BATCH = arguments()
TOKENS = BATCH.tokens
PLANS = {
    "one device": Plan.by_hand({"data": 1}, {}),
    "a mesh": Plan.by_hand({"data": 2, "model": 2}, {"batch": "data", "vocab": "model"}),
}


@pytest.fixture(scope="module", params=PLANS)
def step(request):
    return passes.lower(ir.trace(train, *arguments()), PLANS[request.param])


def with_tokens(tokens):
    return TABLE, replace(BATCH, tokens=tokens)


WRONG = {
    "swapped axes": (
        with_tokens(TOKENS.rearrange(("position", "batch"))),
        "train: argument `batch.tokens` is i32[batch=16, position=128]; got i32[position=128, batch=16]: "
        "the same axes in another order; pass x.rearrange(('batch', 'position'))",
    ),
    "a raw array": (
        with_tokens(TOKENS.array),
        "train: argument `batch.tokens` is i32[batch=16, position=128]; got a raw array i32[_=16, _=128]: "
        "give it its axes, hax.named(x, ('batch', 'position'))",
    ),
    "names where it was raw": (
        (TABLE, replace(BATCH, scale=hax.named(jnp.float32(1.0), ()))),
        "train: argument `batch.scale` is f32[]; got f32[]: the step was traced with a raw array; pass x.array",
    ),
    "another size": (
        with_tokens(hax.zeros((Batch.resize(8), Position), jnp.int32)),
        "train: argument `batch.tokens` is i32[batch=16, position=128]; got i32[batch=8, position=128]: "
        f"`batch` is 8 and was 16 when traced; {AGAIN}",
    ),
    "another dtype": (
        with_tokens(TOKENS.astype(jnp.float32)),
        "train: argument `batch.tokens` is i32[batch=16, position=128]; got f32[batch=16, position=128]: "
        "another dtype; pass x.astype('int32')",
    ),
    "other names": (
        with_tokens(TOKENS.rename({"position": "key_position"})),
        "train: argument `batch.tokens` is i32[batch=16, position=128]; got i32[batch=16, key_position=128]: "
        "other axes of the same sizes; if they are the same, pass x.rename({'key_position': 'position'})",
    ),
    "another rank": (
        with_tokens(TOKENS["batch", 0]),
        f"train: argument `batch.tokens` is i32[batch=16, position=128]; got i32[position=128]: {AGAIN}",
    ),
    "no array at all": (
        (TABLE, replace(BATCH, scale="1.0")),
        "train: argument `batch.scale` is f32[]; got '1.0': pass an array",
    ),
    "a leaf that is missing": (
        (TABLE, replace(BATCH, scale=None)),
        "train: argument `batch.scale` is missing: it is f32[]",
    ),
    "a missing argument": ((TABLE,), "train takes 2 arguments (table, batch); got 1: `batch` missing"),
    "one argument more": ((TABLE, BATCH, BATCH), "train takes 2 arguments (table, batch); got 3: 1 too many"),
    "no argument": ((), "train takes 2 arguments (table, batch); got 0: `table`, `batch` missing"),
    "arguments in the wrong order": (
        (BATCH, TABLE),
        "train was traced for other arguments\n"
        "  argument `table` is missing: it is f32[vocab=32]\n"
        "  argument `batch.tokens` is missing: it is i32[batch=16, position=128]\n"
        "  argument `batch.scale` is missing: it is f32[]\n"
        "  and 3 more",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_error_names_the_argument_and_its_axes(step, name):
    given, message = WRONG[name]
    for call in (step, step.lower, step.trace):
        with pytest.raises(TypeError) as caught:
            call(*given)
        assert str(caught.value) == message


def test_arguments_by_name(step):
    with pytest.raises(TypeError) as caught:
        step(TABLE, batch=BATCH)
    assert str(caught.value) == (
        "train takes its arguments by position, and `batch` came by name; call train(table, batch)"
    )


def test_another_static_part(step):
    with pytest.raises(TypeError) as caught:
        step(TABLE, replace(BATCH, mode="eval"))
    first, *_, last = str(caught.value).splitlines()
    assert first == (
        "train was traced for arguments of another structure (their arrays agree; what is static in them differs)"
    )
    assert last == f"  fix: {AGAIN}"


def test_the_right_arguments_work_and_errors_of_jax_stay(step):
    table, total = step(*arguments())
    assert float(total) == 16 * 128
    assert table.axes == TABLE.axes
    assert step.__name__ == "train"
    # What JAX itself refuses, with arguments as traced, stays in its words.
    elsewhere = jax.device_put(TABLE, jax.devices()[7])
    with pytest.raises(ValueError, match="[Ss]harding|devices"):
        step(elsewhere, jax.device_put(BATCH, jax.devices()[6]))


def test_numbers_stand_for_scalars(step):
    assert float(step(TABLE, replace(BATCH, scale=2.0))[1]) == 2 * 16 * 128
    assert float(step(TABLE, replace(BATCH, scale=np.float32(2.0)))[1]) == 2 * 16 * 128


# Leaves that are no arrays.


class Layer(eqx.Module):
    weight: hax.NamedArray
    activation: object
    norm: object = None


def fit(layer, x):
    def loss(weight):
        return layer.activation(hax.dot(x, weight, axis="vocab").array).sum()

    gradient = jax.grad(loss)(layer.weight)
    return replace(layer, weight=layer.weight - 0.1 * gradient), loss(layer.weight)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_function_in_a_module_is_static(plan):
    """As under `eqx.filter_jit`: what is no array is part of what the step was traced for, and comes back as it was."""
    layer = Layer(hax.random.normal(jax.random.key(0), (Vocab, Batch)), jax.nn.relu, "text")
    x = hax.random.normal(jax.random.key(1), (Position, Vocab))
    graph = ir.trace(fit, layer, x)
    assert graph.input_paths == ("layer.weight.array", "x.array") or graph.input_paths == ("layer.weight", "x")
    assert graph.carried == ((0, 0),)
    step = passes.lower(graph, plan)
    new, total = step(layer, x)
    wanted, wanted_total = eqx.filter_jit(fit)(layer, x)
    assert (new.activation, new.norm) == (jax.nn.relu, "text")
    np.testing.assert_allclose(new.weight.array, wanted.weight.array, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(total, wanted_total, rtol=1e-5)
    with pytest.raises(TypeError, match="what is static in them differs"):
        step(replace(layer, activation=jax.nn.gelu), x)
    assert passes.input_shardings(passes.pipeline.place(graph, plan), passes.device_mesh(plan))[0].norm == "text"
    assert step.lower(layer, x).compile() is not None


def test_an_equinox_module_as_it_comes():
    model = eqx.nn.MLP(4, 2, 8, 1, key=jax.random.key(0))
    x = jnp.arange(4.0)
    step = passes.lower(ir.trace(lambda model, x: model(x), model, x), PLANS["one device"])
    np.testing.assert_array_equal(step(model, x), eqx.filter_jit(model)(x))
