"""Fourier transforms and polynomials against `jnp`: every form of `axis`, and names for what has none."""

import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax

A, C = hax.make_axes(a=2, c=4)
x = inputs.counting((A, C), np.float32)
p, q = hax.named(jnp.array([1.0, 2.0, 3.0]), "p"), hax.named(jnp.array([1.0, -1.0]), "q")
v = inputs.counting(C, np.float32)


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"])
@pytest.mark.parametrize(
    ("axis", "n", "where", "named"),
    [
        *[(None, None, 1, "c"), ("a", None, 0, "a"), (C, None, 1, "c"), (C.resize(6), 6, 1, "c")],
        *[({"c": None}, None, 1, "c"), ({"c": 6}, 6, 1, "c"), ({C: hax.Axis("k", 6)}, 6, 1, "k")],
    ],
)
def test_one_axis(name, axis, n, where, named):
    if name == "irfft" and where == 0:
        pytest.skip("two elements are one frequency pair")
    result, expected = getattr(hax, name)(x, axis), getattr(jnp.fft, name)(x.array, n, where)
    assert result.axes[where] == hax.Axis(named, expected.shape[where])
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
@pytest.mark.parametrize(
    ("axis", "s", "where"),
    [
        (("a", "c"), None, (0, 1)),
        ({"c": None, "a": None}, None, (1, 0)),
        ({"c": 2, "a": 4}, (2, 4), (1, 0)),
        ([A, C.resize(6)], (2, 6), (0, 1)),
    ],
)
def test_several_axes(name, axis, s, where):
    result = getattr(hax, name)(x, axis, norm="ortho")
    np.testing.assert_allclose(result, getattr(jnp.fft, name + "n")(x.array, s, where, "ortho"), rtol=1e-4, atol=1e-4)


def test_frequencies_and_shifts():
    assert np.array_equal(hax.fftfreq(C, d=0.5), jnp.fft.fftfreq(4, 0.5))
    assert hax.rfftfreq(C).axes == (C.resize(3),)
    assert np.array_equal(hax.fftshift(x, axes="a"), jnp.fft.fftshift(x.array, 0))
    assert np.array_equal(hax.ifftshift(hax.fftshift(x)), x)


@pytest.mark.parametrize("name", ["polyadd", "polysub", "polymul", "polydiv"])
def test_pairs(name):
    expected = getattr(jnp, name)(p.array, q.array)
    for first, second, axis in ((p, q, "p"), (p.array, q, "q"), (p.array, q.array, "degree")):
        result = getattr(hax, name)(first, second)
        parts = zip(result, expected, strict=True) if name == "polydiv" else [(result, expected)]
        for part, plain in parts:
            assert part.axes == (hax.Axis(axis, plain.shape[0]),)
            np.testing.assert_allclose(part, plain, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "plain"),
    [
        (lambda p: hax.poly(p), lambda p: jnp.poly(p)),
        (lambda p: hax.polyder(p, m=2), lambda p: jnp.polyder(p, 2)),
        (lambda p: hax.polyint(p, 1, hax.named([2.0], "k")), lambda p: jnp.polyint(p, 1, jnp.array([2.0]))),
        (lambda p: hax.roots(p), lambda p: jnp.roots(p)),
        (lambda p: hax.trim_zeros(p * 0.0 + 1), lambda p: jnp.trim_zeros(p * 0 + 1)),
        (lambda p: hax.polyfit(p, p * 2, 1), lambda p: jnp.polyfit(p, p * 2, 1)),
    ],
)
def test_one_polynomial(call, plain):
    for argument, name in ((p, "p"), (p.array, "degree")):
        result, expected = call(argument), plain(p.array)
        assert result.axes == (hax.Axis(name, expected.shape[0]),)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_values_and_fits():
    assert np.array_equal(hax.polyval(p, x), jnp.polyval(p.array, x.array)) and hax.polyval(p, x).axes == x.axes
    assert isinstance(hax.polyval(p, 2.0), jax.Array)
    coefficients, covariance = hax.polyfit(v, v**2, 1, cov=True)
    assert covariance.axes == (hax.Axis("c", 2), hax.Axis("c_cov", 2)) and coefficients.axes == (hax.Axis("c", 2),)
    assert len(hax.polyfit(v, v**2, 1, full=True)) == 5
    np.testing.assert_allclose(hax.polyfit(v, v**2, 1, w=v + 1), jnp.polyfit(v.array, v.array**2, 1, w=v.array + 1))
    assert hax.vander(v, "power").axes == (C, hax.Axis("power", 4))
    assert np.array_equal(hax.vander(v, hax.Axis("power", 2)), jnp.vander(v.array, 2))


def test_ranges():
    assert hax.linspace("point", start=0, stop=1).axes == (hax.Axis("point", 50),)
    assert np.array_equal(hax.linspace(C, start=0, stop=1, endpoint=False), jnp.linspace(0, 1, 4, endpoint=False))
    assert np.array_equal(hax.logspace(C, start=0, stop=3, base=2), jnp.logspace(0, 3, 4, base=2))
    assert np.array_equal(hax.geomspace(C, start=1, stop=8), jnp.geomspace(1, 8, 4))
    for start, dtype in ((2, jnp.int32), (1.5, jnp.float32), (jnp.int8(2), jnp.int8), (hax.named(3, ()), jnp.int32)):
        result = hax.arange(C, start=start)
        assert result.dtype == dtype and not result.array.weak_type and float(result["c", 3] - result["c", 0]) == 3
    assert jax.jit(lambda start: hax.arange(C, start=start, step=2))(1).tolist() == [1, 3, 5, 7]
