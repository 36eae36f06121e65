"""Searching, comparing, polynomials and Fourier transforms, against jnp."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax

A, B = hax.make_axes(a=3, b=4)
x = hax.named(jnp.array([[3, 1, 1, 2], [0, 3, 3, 1], [3, 1, 1, 2]]), ("a", "b"))


def test_unique():
    U = hax.Axis("u", 5)
    values, counts = hax.unique_counts(x, U, fill_value=-1)
    assert values.axes == counts.axes == (U,)
    assert values.tolist() == [0, 1, 2, 3, -1] and counts.tolist() == [1, 5, 2, 4, 0]
    found = hax.unique_all(x, U)
    assert found.inverse_indices.axes == (A, B)
    assert np.array_equal(found.values.take("u", found.inverse_indices), x)
    rows = hax.unique(x, U.resize(2), axis="a")
    assert rows.axes == (U.resize(2), B) and rows.tolist() == [[0, 3, 3, 1], [3, 1, 1, 2]]
    assert hax.unique_values(x, U.resize(4)).tolist() == hax.unique_inverse(x, U.resize(4)).values.tolist()


def test_nonzero_searchsorted_bincount():
    rows, columns = hax.nonzero(x == 2, size=hax.Axis("found", 2))
    assert rows.axes == (hax.Axis("found", 2),) and (rows.tolist(), columns.tolist()) == ([0, 2], [3, 3])
    assert hax.nonzero(x == 2, size=hax.Axis("found", 3), fill_value=9)[0].tolist() == [0, 2, 9]
    found = hax.where(x == 2, fill_value=9, new_axis=hax.Axis("found", 3))
    assert [positions.tolist() for positions in found] == [[0, 2, 9], [3, 3, 9]]
    edges = hax.named(jnp.array([1, 2, 3]), "edge")
    assert np.array_equal(
        hax.searchsorted(edges, x, side="right"), jnp.searchsorted(edges.array, x.array, side="right")
    )
    counts = hax.bincount(x.flatten("n"), hax.Axis("count", 4))
    assert counts.tolist() == [1, 5, 2, 4]
    weights = jnp.arange(12.0)
    weighted = hax.bincount(x.flatten("n"), hax.Axis("count", 4), weights=weights, minlength=2)
    assert weighted.tolist() == jnp.bincount(x.array.ravel(), weights).tolist()
    with pytest.raises(hax.AxisError, match=r"bincount needs an array with one axis, not i32\[a=3, b=4\]"):
        hax.bincount(x, A)


def test_bits():
    bits = x > 1
    packed = hax.packbits(bits, "b")
    assert packed.axes == (A, B.resize(1))
    assert np.array_equal(hax.unpackbits(packed, "b", count=4), bits.array)


def test_comparisons():
    turned = x.rearrange(("b", "a"))
    assert hax.array_equal(x, turned) and hax.allclose(x, turned)
    assert not hax.array_equal(x, x["a", 0]) and not hax.array_equal(x, x.array)
    assert hax.array_equiv(hax.ones(A), hax.ones((A, B))) and not hax.array_equiv(hax.ones(A), hax.ones(B))


def test_polynomials():
    p, q = hax.named(jnp.array([1.0, -3.0, 2.0]), "p"), hax.named(jnp.array([1.0, 1.0]), "q")
    for name in ("polyadd", "polysub", "polymul"):
        assert np.allclose(getattr(hax, name)(p, q), getattr(jnp, name)(p.array, q.array))
    quotient, remainder = hax.polydiv(p, q)
    assert np.allclose(hax.polyadd(hax.polymul(quotient, q), remainder), p.array)
    assert hax.polymul(p, q).axes == (hax.Axis("p", 4),)
    assert hax.polyval(p, x).axes == x.axes and np.allclose(hax.polyval(p, x), jnp.polyval(p.array, x.array))
    assert np.allclose(np.sort(hax.roots(p).array.real), [1, 2]) and np.allclose(hax.poly(hax.roots(p)), p.array)
    assert np.allclose(hax.polyder(hax.polyint(p)), p.array)
    assert np.allclose(hax.polyfit(hax.arange(A) * 1.0, hax.arange(A) * 2.0, 1), [2, 0], atol=1e-5)
    assert hax.trim_zeros(hax.named(jnp.array([0.0, 1.0, 0.0]), "p")).tolist() == [1.0]
    assert np.array_equal(hax.vander(q, hax.Axis("degree", 3)), jnp.vander(q.array, 3))


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"])
def test_fourier_transforms(name):
    y = hax.random.normal(jax.random.key(0), (A, B))
    result = getattr(hax, name)(y, "a")
    expected = getattr(jnp.fft, name)(y.array, axis=0)
    assert result.axes == (A.resize(expected.shape[0]), B) and np.allclose(result, expected, atol=1e-5)
    padded = getattr(hax, name)(y, A.resize(6))
    assert np.allclose(padded, getattr(jnp.fft, name)(y.array, n=6, axis=0), atol=1e-5)


def test_frequencies():
    assert np.allclose(hax.fftfreq(B), jnp.fft.fftfreq(4)) and hax.rfftfreq(B).axes == (B.resize(3),)
    assert np.array_equal(hax.fftshift(x, "b"), jnp.fft.fftshift(x.array, 1))
    assert np.array_equal(hax.ifftshift(hax.fftshift(x)), x)
