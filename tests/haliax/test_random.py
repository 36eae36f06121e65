"""Random arrays: axes, dtypes, parameters by name, and the same numbers as jax.random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax

A, B = hax.make_axes(a=3, b=4)
key = jax.random.key(0)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        *[(name, ()) for name in ("normal", "uniform", "cauchy", "exponential", "gumbel", "laplace", "logistic")],
        *[("rademacher", ()), ("truncated_normal", (-1.0, 1.0)), ("beta", (1.0, 2.0)), ("gamma", (2.0,))],
        *[("loggamma", (2.0,)), ("pareto", (2.0,)), ("t", (3.0,)), ("weibull_min", (1.0, 2.0)), ("poisson", (2.0,))],
        *[("randint", (0, 5)), ("bernoulli", (0.3,))],
    ],
)
def test_distributions(name, parameters):
    result = getattr(hax.random, name)(key, (A, B), *parameters)
    assert result.axes == (A, B) and np.isfinite(np.asarray(result)).all()


def test_the_numbers_are_those_of_jax():
    assert np.array_equal(hax.random.normal(key, (A, B), jnp.bfloat16), jax.random.normal(key, (3, 4), jnp.bfloat16))
    assert np.array_equal(hax.random.gamma(key, A, a=hax.arange(A) + 1.0), jax.random.gamma(key, jnp.arange(1.0, 4.0)))


def test_parameters_are_broadcast_by_name():
    high = hax.arange(A) + 1
    numbers = hax.random.randint(key, (B, A), 0, high)
    assert numbers.axes == (B, A) and (numbers < high).all()
    assert (
        hax.random.bernoulli(key, (A, B), (hax.arange(B) == 0) * 1.0).array.T.tolist()
        == [[True] * 3] + [[False] * 3] * 3
    )


def test_every_shape_and_spelling():
    for shape in ((A, B), [A, B], {"a": 3, "b": 4}):
        assert np.array_equal(hax.random.laplace(key, shape), jax.random.laplace(key, (3, 4)))
    assert hax.random.normal(key, A).axes == (A,) and hax.random.normal(key, ()).axes == ()
    assert hax.random.pareto(key, A, 2.0, jnp.bfloat16).dtype == jnp.bfloat16
    assert np.array_equal(hax.random.pareto(key, A, b=2.0), jax.random.pareto(key, 2.0, (3,)))
    assert np.array_equal(hax.random.uniform(key, A, minval=-2, maxval=hax.named(3.0, ())),
                          jax.random.uniform(key, (3,), minval=-2, maxval=3.0))  # fmt: skip
    logits = hax.random.normal(key, (A, B))
    assert np.array_equal(hax.random.categorical(key, logits, "a"), jax.random.categorical(key, logits.array, 0))
    with pytest.raises(hax.AxisError, match="duplicate axis `a`"):
        hax.random.choice(key, A, hax.arange((A, B)), "b")


def test_draws_from_arrays():
    logits = hax.log(hax.nn.one_hot(hax.arange(A), B) + 1e-9)
    assert hax.random.categorical(key, logits, "b").tolist() == [0, 1, 2]
    many = hax.random.categorical(key, logits, B, (hax.Axis("n", 5), A))
    assert many.axes == (hax.Axis("n", 5), A) and (many == hax.arange(A)).all()
    shuffled = hax.random.permutation(key, hax.arange(B), "b")
    assert sorted(shuffled.tolist()) == [0, 1, 2, 3]
    picked = hax.random.choice(key, hax.Axis("n", 2), hax.arange((A, B)), "b", replace=False)
    assert picked.axes == (hax.Axis("n", 2), A)
    assert hax.random.ball(key, A, hax.Axis("d", 2)).axes == (A, hax.Axis("d", 2))
