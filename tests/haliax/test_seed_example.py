"""The attention module of the seed example, unchanged, against plain `jax.numpy`."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax


@pytest.fixture(scope="module")
def seed():
    spec = importlib.util.spec_from_file_location("seed_example", Path(__file__).with_name("seed_example.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def attention(seed):
    return seed.Attention.init(seed.Embed, seed.Head, seed.Key, key=jax.random.key(0))


@pytest.fixture(scope="module")
def x(seed):
    return hax.random.normal(jax.random.key(1), (seed.Pos, seed.Embed))


def plain_attention(x, w_qkv, b_qkv, w_answer, b_answer):
    qkv = jnp.einsum("pe,shke->sphk", x, w_qkv) + b_qkv[:, None]
    q, k, v = qkv
    scores = jnp.einsum("phk,qhk->hpq", q, k) / jnp.sqrt(64)
    scores = jnp.where(jnp.tril(jnp.ones((1024, 1024), bool)), scores, -jnp.inf)
    answers = jnp.einsum("hpq,qhk->phk", jax.nn.softmax(scores), v)
    return jnp.einsum("phk,ehk->pe", answers, w_answer) + b_answer


def arrays(attention):
    return (
        attention.proj_qkv.weight.array,
        attention.proj_qkv.bias.array,
        attention.proj_answer.weight.array,
        attention.proj_answer.bias.array,
    )


def test_eager(seed, attention, x):
    y = attention(x)
    assert y.axes == (seed.Pos, seed.Embed)
    np.testing.assert_allclose(y.array, plain_attention(x.array, *arrays(attention)), rtol=1e-4, atol=1e-5)


def test_jit(seed, attention, x):
    y = jax.jit(lambda module, inputs: module(inputs))(attention, x)
    assert y.axes == (seed.Pos, seed.Embed)
    np.testing.assert_allclose(y.array, plain_attention(x.array, *arrays(attention)), rtol=1e-4, atol=1e-5)


def equations(jaxpr):
    """Those of the program, with calls of compiled functions taken apart."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("jit", "pjit"):
            yield from equations(equation.params["jaxpr"].jaxpr)
        else:
            yield equation


def test_the_program_transposes_only_the_mask_and_never_gathers(seed, attention, x):
    jaxpr = jax.make_jaxpr(lambda module, inputs: module(inputs))(attention, x)
    program = list(equations(jaxpr.jaxpr))
    primitives = [equation.primitive.name for equation in program]
    transposed = [e.invars[0].aval.shape for e in program if e.primitive.name == "transpose"]
    assert transposed == [(1024, 1024)]
    assert "gather" not in primitives
    assert primitives.count("dot_general") == 4
    broadcast = [e for e in program if e.primitive.name == "broadcast_in_dim"]
    assert not [e for e in broadcast if e.outvars[0].aval.shape == (8, 1024, 1024)]


def test_both_spellings_of_dot(seed):
    a = hax.random.normal(jax.random.key(0), (seed.Head, seed.Key))
    b = hax.random.normal(jax.random.key(1), (seed.Key, seed.Embed))
    old, new, method = hax.dot(seed.Key, a, b), hax.dot(a, b, axis=seed.Key), a.dot("key", b)
    assert old.axes == new.axes == method.axes == (seed.Head, seed.Embed)
    assert np.array_equal(old, new) and np.array_equal(old, method)
