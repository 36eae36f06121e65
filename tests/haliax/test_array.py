"""NamedArray itself: construction, pytree, operators, broadcasting by name, dtype promotion."""

import copy
import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
from haliax.core import staging

ROOT = Path(__file__).parents[2]
Batch, Embed, Head = hax.make_axes(batch=2, embed=3, head=4)


def array(*axes, start=0):
    return hax.arange(axes, start=start, dtype=jnp.float32)


def test_construction_and_properties():
    x = hax.NamedArray(jnp.ones((2, 3)), (Batch, Embed))
    assert (x.shape, x.ndim, x.size, x.dtype, x.nbytes) == ({"batch": 2, "embed": 3}, 2, 6, jnp.float32, 24)
    assert hax.named(np.zeros((2, 3)), ("batch", "embed")).axes == (Batch, Embed)
    assert hax.named(5.0, ()).scalar() == 5.0
    assert hax.NamedArray(jnp.ones((2, 3)), {"batch": 2, "embed": 3}).axes == (Batch, Embed)
    assert hax.NamedArray(jnp.ones(2), Batch).axes == (Batch,)
    assert isinstance(hax.named(np.ones(2), "batch").array, jax.Array)
    assert hax.core.check_shape((2, 3), ("batch", Embed)) == (Batch, Embed)
    assert dataclasses.replace(x, array=x.array + 1).axes == x.axes
    assert [field.name for field in dataclasses.fields(x)] == ["array", "axes"]
    assert np.asarray(x).tolist() == [[1.0] * 3] * 2
    assert np.asarray(x, dtype=np.int32).dtype == np.int32


def test_it_does_not_change():
    x = array(Batch)
    with pytest.raises(AttributeError, match="is immutable"):
        x.array = jnp.zeros(2)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles(duplicate):
    x = array(Batch, Embed)
    y = duplicate(x)
    assert y.axes == x.axes and np.array_equal(y, x)


def test_pytree_has_one_child_and_no_checks():
    x = array(Batch, Embed)
    leaves, structure = jax.tree.flatten(x)
    assert leaves == [x.array]
    assert jax.tree.unflatten(structure, ["anything"]).array == "anything"
    assert jax.tree_util.keystr(jax.tree_util.tree_flatten_with_path({"w": x})[0][0][0]) == "['w'].array"
    shapes = jax.eval_shape(lambda x: x + 1, x)
    assert shapes.axes == x.axes and shapes.dtype == jnp.float32


def test_broadcasting_is_by_name():
    big, small = array(Batch, Embed, Head), array(Head, Batch, start=1)
    expected = np.asarray(big) + np.asarray(small).T[:, None, :]
    assert (big + small).axes == (small + big).axes == big.axes
    assert np.array_equal(big + small, expected)
    assert np.array_equal(small + big, expected)
    assert (array(Batch, Embed) + array(Embed, Batch)).axes == (Batch, Embed)


@pytest.mark.parametrize("other", [2, 2.0, True, np.float32(2), np.float64(2), np.int8(2), np.ones(()), jnp.ones(())])
def test_numbers_beside_named_arrays(other):
    x = array(Batch, Embed)
    assert np.array_equal(x + other, np.asarray(x) + other) and (x + other).dtype == jnp.float32
    assert np.array_equal(other - x, other - np.asarray(x)) and (other - x).axes == x.axes
    assert np.array_equal(x < other, np.asarray(x) < other) and np.array_equal(other < x, other < np.asarray(x))


def test_unnamed_arrays_are_named_first():
    x, one = array(Batch, Embed), hax.named(2.0, ())
    for unnamed in (np.ones(3, np.float32), np.ones((2, 3)), jnp.ones(1)):
        for call in (lambda u: x + u, lambda u: u + x, lambda u: hax.maximum(x, u)):
            with pytest.raises(hax.AxisError, match="unnamed"):
                call(unnamed)
        assert np.array_equal(one * unnamed, 2.0 * unnamed) and np.array_equal(unnamed - one, unnamed - 2.0)
    assert np.exp(x).axes == x.axes
    for operand in (None, "a", [1, 2, 3], (1,)):
        for kind in (TypeError, ValueError):
            with pytest.raises(kind, match="takes arrays and numbers"):
                x == operand  # noqa: B015


def test_dtypes_promote_as_in_jnp():
    half, full, whole = array(Batch).astype(jnp.bfloat16), array(Batch), hax.arange(Batch)
    assert (half * 2.0).dtype == jnp.bfloat16
    assert (half + full).dtype == jnp.float32
    assert (whole + half).dtype == jnp.bfloat16
    assert (whole / 2).dtype == jnp.float32
    assert (whole == 1).dtype == jnp.bool_


@pytest.mark.parametrize(
    "operation",
    [
        *("a + b", "a - b", "a * b", "a / b", "a // b", "a % b", "a ** b", "divmod(a, b)[0]", "divmod(a, b)[1]"),
        *("a & b", "a | b", "a ^ b", "a << b", "a >> b", "a == b", "a != b", "a < b", "a <= b", "a > b", "a >= b"),
        *("-a", "+a", "abs(a)", "~a", "2 + a", "2 - a", "2 * a", "2 / a", "7 // a", "7 % a", "2 ** a"),
        *("divmod(7, a)[0]", "6 & a", "6 | a", "6 ^ a", "6 << a", "6 >> a"),
    ],
)
def test_operators(operation):
    a, b = hax.arange(Embed, start=1), hax.arange(Embed, start=2)
    expected = eval(operation, {"a": a.array, "b": b.array})
    result = eval(operation, {"a": a, "b": b})
    assert result.axes == (Embed,) and result.dtype == expected.dtype
    assert np.array_equal(result, expected)


def test_conversions_of_one_element():
    one = hax.named(jnp.array([3.0]), "batch")
    scalar = one["batch", 0]
    scalar = scalar if isinstance(scalar, hax.NamedArray) else hax.named(scalar, ())
    assert (float(scalar), int(scalar), bool(scalar), complex(scalar), scalar.item()) == (3.0, 3, True, 3 + 0j, 3.0)
    assert bool(one) and one.item() == 3.0
    for call in (bool, float, int, complex):
        for kind in (hax.AxisError, TypeError):
            with pytest.raises(kind, match="is not a scalar"):
                call(array(Batch))


def test_repr():
    assert repr(array(Batch)) == "f32[batch=2] [0. 1.]"
    assert repr(hax.zeros((Batch, hax.Axis("embed", 8)), jnp.bfloat16)) == "bf16[batch=2, embed=8] [0 0 0 0 0 0 0 0 …]"
    assert repr(hax.named(jnp.ones((), bool), ())) == "bool[] True"
    assert repr(hax.NamedArray(jax.ShapeDtypeStruct((2,), jnp.int8), (Batch,))) == "i8[batch=2]"
    seen = []
    jax.jit(lambda x: seen.append(repr(x)))(array(Batch, Embed))
    assert seen == ["f32[batch=2, embed=3]"]
    assert repr(hax.NamedArray(np.arange(2, dtype=np.int16), (Batch,))) == "i16[batch=2] [0 1]"
    assert repr(hax.named(jax.random.split(jax.random.key(0), 2), "batch")) == "key<fry>[batch=2]"
    assert repr(hax.zeros(hax.Axis("none", 0))) == "f32[none=0] []"
    assert repr(hax.named(jnp.array([True, False]), "batch")) == "bool[batch=2] [ True False]"
    assert repr(array(Batch) * 1j) == "c64[batch=2] [0.+0.j 0.+1.j]"


def test_differentiation_and_maps_go_straight_through():
    x = array(Batch, Embed)
    gradient = jax.grad(lambda x: hax.sum(x * x).scalar())(x)
    assert gradient.axes == x.axes and np.array_equal(gradient, 2 * np.asarray(x))
    assert jax.checkpoint(lambda x: x + 1)(x).axes == x.axes
    rows = jax.vmap(lambda x: x * 2)(jax.tree.map(lambda a: jnp.stack([a, a]), x))
    assert rows.array.shape == (2, 2, 3)


def test_marks_are_left_only_while_staging():
    def primitives():
        jaxpr = jax.make_jaxpr(lambda x: hax.named(jnp.exp(x.array), Batch).rename({"batch": "rows"}))(array(Batch))
        return [equation.primitive.name for equation in jaxpr.eqns]

    assert primitives() == ["exp"]
    with staging.staging():
        assert primitives() == ["exp", "named", "renamed"]
    assert primitives() == ["exp"]


def test_shape_checks_can_be_switched_off():
    assert hax.are_shape_checks_enabled()
    with hax.enable_shape_checks(False) as before:
        assert before and not hax.are_shape_checks_enabled()
        hax.NamedArray(jnp.ones(5), (Batch,))
    with pytest.raises(hax.AxisError):
        hax.NamedArray(jnp.ones(5), (Batch,))


def test_the_stub_shows_what_is_attached():
    """In a process of its own: the import hook of these tests drops the overloads that the stub shows."""
    code = "from haliax.ops import stubs; assert stubs.PATH.read_text(encoding='utf-8') == stubs.stub()"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, "run `python -m haliax.ops.stubs`" + run.stderr
