"""The tables of elementwise functions, each against jnp."""

import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
from haliax.ops import elementwise

A, B = hax.make_axes(a=3, b=4)
x = inputs.uniform(0, (A, B), 0.1, 0.9)
y = inputs.uniform(1, B, 0.1, 0.9)
whole, other = inputs.counting((A, B)), inputs.counting(B)

UNARY = inputs.made_by(elementwise, "unary")
BINARY = inputs.made_by(elementwise, "binary")
PLAIN = {"fix": jnp.trunc}  # where `jnp` has it under another name
INTEGERS = ("bit", "left_shift", "right_shift", "invert")


def test_the_tables_are_long():
    assert len(UNARY) > 55 and len(BINARY) > 35
    assert all(hasattr(hax, name) for name in UNARY + BINARY)


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    argument = whole if name.startswith(INTEGERS) else x
    function, plain = getattr(elementwise, name), PLAIN.get(name) or getattr(jnp, name)
    result, expected = function(argument), plain(argument.array)
    assert result.axes == (A, B) and result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(function(argument.array), expected)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    first, second = (whole, other) if name.startswith(INTEGERS) else (x, y)
    plain = getattr(jnp, name)
    result, expected = getattr(hax, name)(first, second), plain(first.array, second.array)
    assert result.axes == (A, B) and result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(getattr(hax, name)(second, first), plain(second.array, first.array))


def test_the_others():
    assert np.array_equal(hax.fix(-x * 9), jnp.trunc(-x.array * 9))
    assert np.array_equal(hax.rsqrt(x), jax.lax.rsqrt(x.array)) and hax.rsqrt(whole + 1).dtype == jnp.float32
    assert np.array_equal(hax.around(x, 1), jnp.round(x.array, 1)) and np.array_equal(x.round(1), hax.round(x, 1))
    assert [part.axes for part in hax.frexp(x)] == [(A, B)] * 2
    assert hax.ndim(x) == 2 and hax.ndim(3.0) == 0
    assert x.astype(jnp.bfloat16).dtype == jnp.bfloat16
