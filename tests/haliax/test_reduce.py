"""Reductions, sorting and cumulation, against jnp."""

import inputs
import jax.numpy as jnp
import numpy as np
import pytest
import typeguard

import haliax as hax

A, B, C = hax.make_axes(a=2, b=3, c=4)
x = inputs.normal(0, (A, B, C))


@pytest.mark.parametrize(
    "name",
    [
        *("max", "min", "mean", "prod", "product", "ptp", "std", "sum", "var", "amax", "amin"),
        *("nanmax", "nanmean", "nanmin", "nanprod", "nanstd", "nansum", "nanvar"),
    ],
)
def test_reductions(name):
    function = getattr(hax, name)
    plain = getattr(jnp, {"product": "prod"}.get(name, name))
    assert function(x).axes == ()
    np.testing.assert_allclose(function(x), plain(x.array), rtol=1e-6)
    np.testing.assert_allclose(function(x, "b"), plain(x.array, axis=1), rtol=1e-6)
    assert function(x, (C, "a")).axes == (B,)
    np.testing.assert_allclose(function(x, (C, "a")), plain(x.array, axis=(0, 2)), rtol=1e-6)
    assert np.allclose(function(x.array), plain(x.array))


def test_where_is_lined_up_by_name():
    mask = hax.arange(C) < 2
    np.testing.assert_allclose(hax.sum(x, where=mask), x.array[..., :2].sum(), rtol=1e-6)
    np.testing.assert_allclose(hax.mean(x, "c", where=mask), x.array[..., :2].mean(-1), rtol=1e-6)
    assert hax.max(x, "c", where=mask, initial=-jnp.inf).axes == (A, B)


def test_positions_and_truth():
    assert np.array_equal(hax.argmax(x, "c"), x.array.argmax(2))
    assert int(x.argmin()) == int(x.array.argmin())
    assert hax.any(x > 0, "a").axes == (B, C)
    assert bool(hax.all(x == x))


def test_functions_that_keep_the_axis():
    assert np.array_equal(x.cumsum("b"), jnp.cumsum(x.array, 1))
    assert np.array_equal(x.sort("c"), jnp.sort(x.array, 2))
    assert np.array_equal(hax.argsort(x, C), jnp.argsort(x.array, 2))
    values, places = hax.top_k(x, "b", 2)
    assert values.axes == places.axes == (A, B.resize(2), C)
    assert np.array_equal(values, -np.sort(-x.array, 1)[:, :2])
    assert hax.top_k(x, "b", 2, "best")[0].axes == (A, hax.Axis("best", 2), C)


def test_flat_arrays_for_no_axis():
    assert np.array_equal(hax.sort(x, None), np.sort(x.array, axis=None))
    assert np.array_equal(x.argsort(None), np.argsort(x.array, axis=None))
    assert np.array_equal(hax.cumsum(x, None), jnp.cumsum(x.array))
    assert hax.cumsum(hax.arange(A), "a", dtype=jnp.float32).dtype == jnp.float32
    assert hax.cumprod(hax.arange(A), A, jnp.float32).dtype == jnp.float32


@pytest.mark.parametrize("selection", ["b", B, ("b",), [B], {"b": 3}, {"b": None}, ("b", "b")])
def test_axes_are_selected_in_any_form(selection):
    assert x.sum(selection).axes == (A, C) and np.allclose(x.sum(selection), x.array.sum(1))


def test_options():
    assert np.allclose(x.var("b", None, 1), x.array.var(1, ddof=1)) and x.var("b", jnp.float16).dtype == jnp.float16
    assert np.allclose(hax.std(x, ddof=1), x.array.std(ddof=1)) and hax.sum(x, dtype=jnp.float16).dtype == jnp.float16
    assert np.array_equal(hax.sum(x, ()), x) and hax.sum(hax.zeros((A, hax.Axis("none", 0))), "none").tolist() == [0, 0]
    assert float(hax.sum(hax.named(2.0, ()))) == 2.0 and int(hax.sum(jnp.ones(3))) == 3


@pytest.mark.parametrize(
    "call",
    [
        *(lambda: x.sum("z"), lambda: x.sum(("a", "z")), lambda: x.sum(0), lambda: x.sum(A.resize(3))),
        *(lambda: x.argmax(("a", "b")), lambda: hax.cumsum(x, ("a", "b")), lambda: hax.sort(x, "z")),
        *(lambda: hax.sum(x["b", 0], where=x > 0), lambda: hax.max(x, "c", where=x > 0)),
        *(lambda: hax.top_k(x, "c", 2, hax.Axis("k", 3)), lambda: hax.top_k(x, "c", 2, A)),
    ],
)
def test_mistakes_are_value_errors(call):
    with typeguard.suppress_type_checks(), pytest.raises(ValueError):
        call()


def test_trace():
    assert np.allclose(x.trace("a", "b"), jnp.trace(x.array))
