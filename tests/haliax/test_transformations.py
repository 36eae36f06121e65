"""JAX's transformations straight through named arrays: nothing has to be unwrapped."""

import copy
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import haliax as hax
from haliax import _compat
from haliax.hof import gradients

A, B = hax.make_axes(a=2, b=3)
x = hax.arange((A, B), dtype=jnp.float32)
raw = x.array


def loss(x):
    return (x * x).sum()


class Scale(eqx.Module):
    weight: hax.NamedArray
    name: str = eqx.field(static=True)

    def __call__(self, x):
        return self.weight * x


scale = Scale(x, "scale")

# A function of a loss without axes, what comes out, and that in plain numbers.
LOSSES = {
    "grad": (lambda: jax.grad(loss)(x), 2 * raw),
    "grad of a raw scalar": (lambda: jax.grad(lambda x: loss(x).scalar())(x), 2 * raw),
    "grad by a raw array": (lambda: jax.grad(lambda raw: loss(hax.named(raw, "n")))(jnp.arange(3.0)), [0, 2, 4]),
    "jit of grad": (lambda: jax.jit(jax.grad(loss))(x), 2 * raw),
    "grad of jit": (lambda: jax.grad(jax.jit(loss))(x), 2 * raw),
    "grad of remat": (lambda: jax.grad(jax.checkpoint(loss))(x), 2 * raw),
    "grad of grad": (lambda: jax.grad(lambda x: jax.grad(loss)(x).sum())(x), np.full((2, 3), 2.0)),
    "value and grad": (lambda: jax.value_and_grad(loss)(x), (55.0, 2 * raw)),
    "with aux": (lambda: jax.value_and_grad(lambda x: (loss(x), x), has_aux=True)(x), ((55.0, raw), 2 * raw)),
    "two arguments": (lambda: jax.grad(lambda x, y: (x * y).sum(), argnums=(0, 1))(x, 2 * x), (2 * raw, raw)),
    "vmap of grad": (lambda: jax.vmap(jax.grad(lambda v: hax.named(v**2, ())))(jnp.arange(3.0)), [0, 2, 4]),
    "filter_grad": (lambda: eqx.filter_grad(lambda m: m(2.0).sum())(scale).weight, np.full((2, 3), 2.0)),
    "filter_value_and_grad": (
        lambda: eqx.filter_value_and_grad(lambda m: (m(2.0).sum(), "aux"), has_aux=True)(scale)[0][0],
        30.0,
    ),
    "jvp": (lambda: jax.jvp(loss, (x,), (x,)), (55.0, 110.0)),
    "vjp": (lambda: jax.vjp(loss, x)[1](hax.named(1.0, ()))[0], 2 * raw),
    "linearize": (lambda: jax.linearize(lambda x: x * x, x)[1](x), 2 * raw * raw),
    "jacfwd": (lambda: jax.jacfwd(lambda x: x.sum("a").array)(x), np.stack([np.eye(3)] * 2, 1)),
    "jacrev": (lambda: jax.jacrev(lambda x: x.sum("a").array)(x), np.stack([np.eye(3)] * 2, 1)),
    "hessian": (lambda: jax.hessian(lambda v: loss(hax.named(v, "n")).array)(jnp.ones(2)), 2 * np.eye(2)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives(name):
    call, expected = LOSSES[name]
    jax.tree.map(np.testing.assert_allclose, jax.tree.map(np.asarray, call(), is_leaf=hax.is_named_array), expected)


def test_the_value_of_a_named_loss_is_named():
    value, gradient = jax.value_and_grad(loss)(x)
    assert isinstance(value, hax.NamedArray) and value.axes == () and gradient.axes == x.axes


def test_a_loss_with_axes_is_an_error_that_names_them():
    text = "jax.grad needs a loss without axes, not f32[a=2, b=3]: reduce `a`, `b` first, with `.mean()` or `.sum()`"
    for gradient in (jax.grad, jax.value_and_grad, eqx.filter_grad):
        with pytest.raises(TypeError) as caught:
            gradient(lambda x: x * x)(x)
        assert str(caught.value) == text


@pytest.mark.parametrize(
    ("function", "argument", "text"),
    [
        (lambda v: v, jnp.ones(2), "Gradient only defined for scalar-output functions"),
        (lambda v: (v, v), 1.0, "Gradient only defined for scalar-output functions"),
        (lambda x: loss(x).astype(jnp.int32), x, "requires real-valued outputs"),
        (lambda x: loss(x) * 1j, x, "requires real-valued outputs"),
    ],
)
def test_other_losses_are_errors_of_jax(function, argument, text):
    with pytest.raises(TypeError, match=text):
        jax.grad(function)(argument)
    assert jax.grad(lambda v: v**2)(3.0) == 6.0


def test_a_jax_without_these_functions_is_left_alone(monkeypatch):
    from jax._src import api

    original = api._check_scalar
    monkeypatch.delattr(api, "_check_scalar")
    _compat.extend_grad(gradients._scalar_check, gradients._unit_cotangent)
    assert not hasattr(api, "_check_scalar")
    monkeypatch.undo()
    assert api._check_scalar is original


CONTROL = {
    "scan": (lambda: lax.scan(lambda c, _: (c + x, c.sum().array), x, None, length=2), (3 * raw, [15.0, 30.0])),
    "cond": (lambda: jax.jit(lambda p: lax.cond(p, lambda x: x * 2, lambda x: x * 3, x))(False), 3 * raw),
    "while": (lambda: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2), (0, x))[1], 8 * raw),
    "fori": (lambda: lax.fori_loop(0, 3, lambda i, x: x + i, x), raw + 3),
    "switch": (lambda: lax.switch(1, [lambda x: x, lambda x: x * 5], x), 5 * raw),
    "vmap": (lambda: jax.vmap(lambda x: x * 2)(x), 2 * raw),
    "static axis": (lambda: jax.jit(lambda x, axis: x.sum(axis), static_argnums=1)(x, ("a", "b")), 15.0),
    "static Axis": (lambda: jax.jit(lambda x, axis: x.sum(axis), static_argnames="axis")(x, axis=A), raw.sum(0)),
    "stop_gradient": (lambda: jax.grad(lambda x: (lax.stop_gradient(x) * x).sum())(x), raw),
    "device_put": (lambda: jax.device_put(x, jax.devices()[0]), raw),
    "ready": (lambda: jax.block_until_ready(x), raw),
    "tree map": (lambda: jax.tree.map(jnp.add, x, x), 2 * raw),
    "pickle": (lambda: pickle.loads(pickle.dumps({"x": x}))["x"], raw),
    "copy": (lambda: copy.deepcopy(x), raw),
    "filter_jit": (lambda: eqx.filter_jit(lambda m, v: m(v))(scale, 2.0), 2 * raw),
    "tree_at": (lambda: eqx.tree_at(lambda m: m.weight, scale, x + 1).weight, raw + 1),
}


@pytest.mark.parametrize("name", CONTROL)
def test_transformations(name):
    call, expected = CONTROL[name]
    jax.tree.map(np.testing.assert_allclose, jax.tree.map(np.asarray, call(), is_leaf=hax.is_named_array), expected)


def test_shapes_without_numbers():
    described = hax.NamedArray(jax.ShapeDtypeStruct((2, 3), jnp.float32), (A, B))
    result = jax.eval_shape(lambda x: (x.sum("a"), x.rename({"b": "c"})), described)
    assert [array.axes for array in result] == [(B,), (A, B.alias("c"))]
    assert described.dtype == jnp.float32 and isinstance(result[0].array, jax.ShapeDtypeStruct)


def test_donation_and_paths():
    given = x + 1
    result = jax.jit(lambda x: x + 1, donate_argnums=0)(given)
    assert given.array.is_deleted() and np.array_equal(result, raw + 2)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path({"k": [x], "m": scale})[0]]
    assert paths == ["['k'][0].array", "['m'].weight.array"]
