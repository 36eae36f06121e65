"""JAX's transformations straight through named arrays: nothing has to be unwrapped."""

import copy
import pickle
import subprocess
import sys

import equinox as eqx
import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import haliax as hax

A, B = hax.make_axes(a=2, b=3)
x = inputs.counting((A, B), np.float32)
raw = np.asarray(x.array)


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
    "grad": (lambda: hax.grad(loss)(x), lambda: 2 * raw),
    "grad of a raw scalar": (lambda: jax.grad(lambda x: loss(x).scalar())(x), lambda: 2 * raw),
    "grad by a raw array": (
        lambda: hax.grad(lambda raw: loss(hax.named(raw, "n")))(jnp.arange(3.0)),
        lambda: [0, 2, 4],
    ),
    "jit of grad": (lambda: jax.jit(hax.grad(loss))(x), lambda: 2 * raw),
    "grad of jit": (lambda: hax.grad(jax.jit(loss))(x), lambda: 2 * raw),
    "grad of remat": (lambda: hax.grad(jax.checkpoint(loss))(x), lambda: 2 * raw),
    "grad of grad": (lambda: hax.grad(lambda x: hax.grad(loss)(x).sum())(x), lambda: np.full((2, 3), 2.0)),
    "value and grad": (lambda: hax.value_and_grad(loss)(x), lambda: (55.0, 2 * raw)),
    "with aux": (lambda: hax.value_and_grad(lambda x: (loss(x), x), has_aux=True)(x), lambda: ((55.0, raw), 2 * raw)),
    "two arguments": (lambda: hax.grad(lambda x, y: (x * y).sum(), argnums=(0, 1))(x, 2 * x), lambda: (2 * raw, raw)),
    "vmap of grad": (lambda: jax.vmap(hax.grad(lambda v: hax.named(v**2, ())))(jnp.arange(3.0)), lambda: [0, 2, 4]),
    "filter_grad": (
        lambda: eqx.filter_grad(lambda m: m(2.0).sum().scalar())(scale).weight,
        lambda: np.full((2, 3), 2.0),
    ),
    "filter_value_and_grad": (
        lambda: eqx.filter_value_and_grad(lambda m: (m(2.0).sum().scalar(), "aux"), has_aux=True)(scale)[0][0],
        lambda: 30.0,
    ),
    "jvp": (lambda: jax.jvp(loss, (x,), (x,)), lambda: (55.0, 110.0)),
    "vjp": (lambda: jax.vjp(loss, x)[1](hax.named(1.0, ()))[0], lambda: 2 * raw),
    "linearize": (lambda: jax.linearize(lambda x: x * x, x)[1](x), lambda: 2 * raw * raw),
    "jacfwd": (lambda: jax.jacfwd(lambda x: x.sum("a").array)(x), lambda: np.stack([np.eye(3)] * 2, 1)),
    "jacrev": (lambda: jax.jacrev(lambda x: x.sum("a").array)(x), lambda: np.stack([np.eye(3)] * 2, 1)),
    "hessian": (lambda: jax.hessian(lambda v: loss(hax.named(v, "n")).array)(jnp.ones(2)), lambda: 2 * np.eye(2)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives(name):
    call, expected = LOSSES[name]
    jax.tree.map(np.testing.assert_allclose, jax.tree.map(np.asarray, call(), is_leaf=hax.is_named_array), expected())


def test_the_value_of_a_named_loss_is_named():
    value, gradient = hax.value_and_grad(loss)(x)
    assert isinstance(value, hax.NamedArray) and value.axes == () and gradient.axes == x.axes


def test_a_loss_with_axes_is_an_error_that_names_them():
    text = "a gradient needs a loss without axes, not f32[a=2, b=3]: reduce `a`, `b` first, with `.mean()` or `.sum()`"
    for gradient in (hax.grad, hax.value_and_grad):
        with pytest.raises(TypeError) as caught:
            gradient(lambda x: x * x)(x)
        assert str(caught.value) == text


def test_jax_grad_says_how_a_named_loss_is_given_to_it():
    text = (
        "jax.grad takes an array for a loss, not the NamedArray {}return `loss.scalar()`, "
        "or call haliax.grad or haliax.value_and_grad instead"
    )
    for gradient in (jax.grad, jax.value_and_grad, eqx.filter_grad, eqx.filter_value_and_grad):
        with pytest.raises(hax.AxisError) as caught:
            gradient(loss)(x)
        assert str(caught.value) == text.format("f32[]: ")
        with pytest.raises(hax.AxisError) as caught:
            gradient(lambda x: x * x)(x)
        assert str(caught.value) == text.format("f32[a=2, b=3]: reduce `a`, `b` first, and ")
    assert not hasattr(x, "__jax_array__") and not eqx.is_array_like(x)


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
        hax.grad(function)(argument)
    assert hax.grad(lambda v: v**2)(3.0) == 6.0


def test_a_gradient_has_all_that_that_of_jax_has():
    integers = hax.arange(A)
    assert hax.grad(lambda x: x.sum() * 1.0, allow_int=True)(integers).dtype == jax.dtypes.float0
    assert hax.grad(lambda z: (z * z).sum(), holomorphic=True)(x * 1j).dtype == jnp.complex64
    gradients, aux = hax.grad(lambda x, *, by: ((x * by).sum(), by), has_aux=True)(x, by=3)
    assert aux == 3 and np.array_equal(gradients, np.full((2, 3), 3))
    with pytest.raises(TypeError, match="at least 2 positional"):
        hax.grad(loss, argnums=1)(x)
    with pytest.raises((TypeError, ValueError), match="pair|tuple|has_aux"):
        hax.grad(loss, has_aux=True)(x)
    assert hax.grad(loss).__name__ == "loss"


# Every function of the modules that JAX has loaded, and every module that haliax might load later loaded before.
IMPORTS = """
import sys, types, importlib
import jax, jax.numpy, jax.experimental.multihost_utils, equinox, optax
from jax._src import api
from jax._src.lax import lax

jax.jit(lambda x: x + 1)(jax.numpy.zeros(())).block_until_ready()  # starts the backend, as importing haliax does

def seen():
    values = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in ("jax", "equinox", "optax"):
            continue
        for key, value in list(vars(module).items()):
            values[name, key] = value
            if isinstance(value, type) and value.__module__.split(".")[0] in ("jax", "equinox", "optax"):
                values.update({(name, key, own): found for own, found in list(vars(value).items())})
    return values

before = seen()
import haliax
importlib.reload(haliax)
from haliax.hof import gradients
importlib.reload(gradients)
importlib.reload(haliax._compat)
after = seen()
VOLATILE = ("_abc_impl", "__abstractmethods__", "__warningregistry__")
print([
    key for key, value in before.items()
    if not isinstance(value, types.ModuleType) and key[-1] not in VOLATILE and after.get(key, key) is not value
])
"""
ENABLED = """
plain = api._check_scalar, lax._one_vjp
haliax.enable_jax_grad()
haliax.enable_jax_grad()
importlib.reload(gradients)
gradients.enable_jax_grad()
print((api._check_scalar.haliax_original, lax._one_vjp.haliax_original) == plain)
x = haliax.arange({"a": 3}, dtype="float32")
value, gradient = jax.value_and_grad(lambda x: (x * x).sum())(x)
print(value, gradient, jax.grad(lambda v: v**2)(3.0), equinox.filter_grad(lambda x: (x * x).sum())(x))
try:
    jax.grad(lambda x: x)(x)
except TypeError as error:
    print(error)
"""


def test_importing_changes_nothing_of_jax_and_asking_for_it_changes_two_functions_once():
    program = subprocess.run([sys.executable, "-c", IMPORTS + ENABLED], capture_output=True, text=True, check=True)
    assert program.stdout.splitlines() == [
        "[]",
        "True",
        "f32[] 5. f32[a=3] [0. 2. 4.] 6.0 f32[a=3] [0. 2. 4.]",
        "a gradient needs a loss without axes, not f32[a=3]: reduce `a` first, with `.mean()` or `.sum()`",
    ]


def test_a_jax_without_these_functions_is_left_alone(monkeypatch):
    from jax._src import api

    monkeypatch.delattr(api, "_check_scalar")
    hax.enable_jax_grad()
    assert not hasattr(api, "_check_scalar")


CONTROL = {
    "scan": (lambda: lax.scan(lambda c, _: (c + x, c.sum().array), x, None, length=2), lambda: (3 * raw, [15.0, 30.0])),
    "cond": (lambda: jax.jit(lambda p: lax.cond(p, lambda x: x * 2, lambda x: x * 3, x))(False), lambda: 3 * raw),
    "while": (lambda: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2), (0, x))[1], lambda: 8 * raw),
    "fori": (lambda: lax.fori_loop(0, 3, lambda i, x: x + i, x), lambda: raw + 3),
    "switch": (lambda: lax.switch(1, [lambda x: x, lambda x: x * 5], x), lambda: 5 * raw),
    "vmap": (lambda: jax.vmap(lambda number: x * number)(jnp.ones(1)).array, lambda: raw[None]),
    "vmap of a tree": (lambda: jax.vmap(lambda x: x)(x), lambda: raw),
    "static axis": (lambda: jax.jit(lambda x, axis: x.sum(axis), static_argnums=1)(x, ("a", "b")), lambda: 15.0),
    "static Axis": (
        lambda: jax.jit(lambda x, axis: x.sum(axis), static_argnames="axis")(x, axis=A),
        lambda: raw.sum(0),
    ),
    "stop_gradient": (lambda: hax.grad(lambda x: (lax.stop_gradient(x) * x).sum())(x), lambda: raw),
    "device_put": (lambda: jax.device_put(x, jax.devices()[0]), lambda: raw),
    "ready": (lambda: jax.block_until_ready(x), lambda: raw),
    "tree map": (lambda: jax.tree.map(jnp.add, x, x), lambda: 2 * raw),
    "pickle": (lambda: pickle.loads(pickle.dumps({"x": x}))["x"], lambda: raw),
    "copy": (lambda: copy.deepcopy(x), lambda: raw),
    "filter_jit": (lambda: eqx.filter_jit(lambda m, v: m(v))(scale, 2.0), lambda: 2 * raw),
    "tree_at": (lambda: eqx.tree_at(lambda m: m.weight, scale, x + 1).weight, lambda: raw + 1),
}


@pytest.mark.parametrize("name", CONTROL)
def test_transformations(name):
    call, expected = CONTROL[name]
    jax.tree.map(np.testing.assert_allclose, jax.tree.map(np.asarray, call(), is_leaf=hax.is_named_array), expected())


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
