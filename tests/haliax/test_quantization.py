"""Products in 8 bits: their values, the state that training keeps, and which layers of a model compute so."""

import equinox as eqx
import inputs
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import haliax as hax
import haliax.nn as hnn
from haliax import quantization as q

E, F, L = hax.make_axes(embed=4, features=6, layers=3)
KEY = jax.random.key(0)
NUMBERS = (((1,), (0,)), ((), ()))
a, w = inputs.normal(0, hax.make_axes(rows=5, inner=8)).array, inputs.normal(1, hax.make_axes(inner=8, columns=3)).array
STATE = ("input_scale", "kernel_scale", "output_grad_scale")


def through(array, fp8, scale):
    """`array` rounded to the format in units of `scale`, and cut at its largest number, by numpy."""
    largest = float(jnp.finfo(fp8).max)
    return np.clip(np.asarray(array / scale), -largest, largest).astype(fp8).astype(np.float32) * scale


def test_default():
    operation = q.DotGeneralOp.default()
    assert operation == q.DefaultDotGeneralOp.init() == q.DefaultDotGeneralOp() and jax.tree.leaves(operation) == []
    assert np.array_equal(operation(a, w, NUMBERS), a @ w)
    half = a.astype(jnp.bfloat16)
    assert operation(half, w.astype(jnp.bfloat16), NUMBERS, preferred_element_type=jnp.float32).dtype == jnp.float32


def test_fp8_and_its_delayed_scaling():
    first = q.Fp8DotGeneralOp.init(amax_history_length=3)
    assert [x.shape for x in jax.tree.leaves(first)] == [(1,)] * 3 + [(3,)] * 3 and first.compute_dtype is None
    e4m3, e5m2 = jnp.float8_e4m3fn, jnp.float8_e5m2
    np.testing.assert_allclose(first(a, w, NUMBERS), through(a, e4m3, 1) @ through(w, e4m3, 1), rtol=1e-5)

    step = jax.jit(jax.grad(lambda operation, a, w: (operation(a, w, NUMBERS) ** 2).sum(), argnums=(0, 1, 2)))
    second, _, _ = step(first, a, w)  # the gradient of the operation is its next state
    assert all(float(getattr(second, name)[0]) == 1 for name in STATE)
    assert second.input_amax_history.tolist() == [float(jnp.abs(a).max()), 0, 0]
    third, da, dw = step(second, 2 * a, w)
    scales = [jnp.abs(a).max() / 448, jnp.abs(w).max() / 448]
    np.testing.assert_allclose([third.input_scale[0], third.kernel_scale[0]], scales, rtol=1e-6)
    np.testing.assert_allclose(third.input_amax_history, jnp.array([2, 0, 1]) * jnp.abs(a).max(), rtol=1e-6)

    left, right = through(2 * a, e4m3, scales[0]), through(w, e4m3, scales[1])
    gradient = through(2 * left @ right, e5m2, float(third.output_grad_scale[0]))
    np.testing.assert_allclose(da, gradient @ right.T, rtol=2e-2, atol=2e-2)
    np.testing.assert_allclose(dw, left.T @ gradient, rtol=2e-2, atol=5e-2)


def test_fp8_dtypes():
    half = q.Fp8DotGeneralOp.init(2)(a.astype(jnp.bfloat16), w.astype(jnp.bfloat16), NUMBERS)
    mixed = q.Fp8DotGeneralOp.init(2, jnp.bfloat16)(a, w, NUMBERS)
    asked = q.Fp8DotGeneralOp.init(2)(a, w, NUMBERS, preferred_element_type=jnp.bfloat16)
    assert (half.dtype, mixed.dtype, asked.dtype) == (jnp.bfloat16, jnp.float32, jnp.bfloat16)


def test_int8():
    operation = q.Int8DotGeneralOp.init()
    assert jax.tree.leaves(operation) == []
    scale_a, scale_w = jnp.abs(a).max(1, keepdims=True) / 127, jnp.abs(w).max(0, keepdims=True) / 127
    left, right = jnp.round(a / scale_a) * scale_a, jnp.round(w / scale_w) * scale_w
    np.testing.assert_allclose(operation(a, w, NUMBERS), left @ right, rtol=1e-5)
    assert float(jnp.abs(operation(a, w, NUMBERS) - a @ w).max()) < 0.1
    program = str(jax.make_jaxpr(lambda a, w: operation(a, w, NUMBERS))(a, w))
    assert "preferred_element_type=int32" in program
    da, dw = jax.grad(lambda a, w: (operation(a, w, NUMBERS) ** 2).sum(), argnums=(0, 1))(a, w)
    out = 2 * left @ right
    np.testing.assert_allclose(da, out @ right.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dw, left.T @ out, rtol=1e-4, atol=1e-4)
    batched = (((2,), (1,)), ((0,), (0,)))
    many = operation(jnp.stack([a, 100 * a]), jnp.stack([w, w]), batched)
    np.testing.assert_allclose(many, jnp.stack([left @ right, 100 * left @ right]), rtol=1e-4)
    assert not operation(jnp.zeros((5, 8)), w, NUMBERS).any()


class Block(eqx.Module):
    up: hnn.Linear
    down: hnn.Linear
    scale: hax.NamedArray

    @staticmethod
    def init(*, key):
        one, two = jax.random.split(key)
        return Block(hnn.Linear.init(E, F, key=one), hnn.Linear.init(F, E, key=two), hax.ones(E))

    def __call__(self, x):
        return x + self.down(hnn.relu(self.up(x * self.scale)))


class Model(eqx.Module):
    blocks: hnn.Stacked
    tail: list
    head: hnn.Linear

    @staticmethod
    def init():
        blocks = hnn.Stacked.init(L, Block)(key=jax.random.split(KEY, L.size))
        return Model(blocks, [Block.init(key=KEY)], hnn.Linear.init(E, (), key=KEY))


MODEL = eqx.filter_eval_shape(Model.init)
PATHS = {  # where the model's linear layers are
    "blocks.stacked.up": lambda m: m.blocks.stacked.up,
    "blocks.stacked.down": lambda m: m.blocks.stacked.down,
    "tail.0.up": lambda m: m.tail[0].up,
    "tail.0.down": lambda m: m.tail[0].down,
    "head": lambda m: m.head,
}
TARGETS = [
    (None, list(PATHS)),
    ("head", ["head"]),
    (".*up", ["blocks.stacked.up", "tail.0.up"]),
    ("stacked", ["blocks.stacked.up", "blocks.stacked.down"]),
    ("blocks", ["blocks.stacked.up", "blocks.stacked.down"]),
    (["down", "head"], ["blocks.stacked.down", "tail.0.down", "head"]),
    ("nothing", []),
]


@pytest.mark.parametrize(("targets", "chosen"), TARGETS, ids=str)
def test_targets(targets, chosen):
    model = q.quantize_linear_layers(MODEL, q.QuantizationConfig(targets, 2, fp8=True))
    found = [path for path, get in PATHS.items() if isinstance(get(model).dot_general, q.Fp8DotGeneralOp)]
    assert found == chosen
    if "blocks.stacked.up" in chosen:  # each layer of a stack has its own state
        assert model.blocks.stacked.up.dot_general.input_amax_history.shape == (3, 2)


def test_config():
    assert q.quantize_linear_layers(MODEL, q.QuantizationConfig()) is MODEL
    with pytest.raises(AssertionError, match="a layer computes in fp8 or in int8, not in both: give one of"):
        q.QuantizationConfig(fp8=True, int8=True)
    names = list(hax.state_dict.to_state_dict(q.quantize_linear_layers(MODEL.head, q.QuantizationConfig(fp8=True))))
    assert names[:3] == ["weight", "bias", "dot_general.input_scale"] and len(names) == 8


@pytest.mark.parametrize("kind", [{"fp8": True, "amax_history_length": 4}, {"int8": True}], ids=str)
def test_training(kind):
    blocks = hnn.Stacked.init(L, Block)(key=jax.random.split(KEY, L.size))
    model = {"blocks": blocks, "head": hnn.Linear.init(E, (), key=KEY)}
    model = q.quantize_linear_layers(model, q.QuantizationConfig(**kind))
    x = hax.random.normal(jax.random.key(2), (hax.Axis("batch", 8), E))
    optimizer = optax.adam(1e-2)
    state = optimizer.init(q.partition_for_grad_overwrite(model)[1])

    def loss(model):
        y = model["head"](model["blocks"].fold(x))
        return ((y - x.sum(E)) ** 2).mean().array

    @jax.jit
    def step(model, state):
        value, gradient = jax.value_and_grad(loss)(model)
        overwrites, gradient = q.partition_for_grad_overwrite(gradient)
        updates, state = optimizer.update(gradient, state, q.partition_for_grad_overwrite(model)[1])
        return q.apply_updates(model, updates, overwrites), state, value

    values = []
    for _ in range(12):
        model, state, value = step(model, state)
        values.append(float(value))
    assert values[-1] < values[0] / 2
    if "fp8" in kind:
        scales = model["blocks"].stacked.up.dot_general.input_scale
        assert scales.shape == (3, 1) and len(set(scales.ravel().tolist())) == 3 and float(scales.max()) < 0.1


def test_updates():
    tree = {"a": jnp.ones(2), "b": jnp.ones(2), "c": hax.ones(E), "d": 3.0}
    updates = {"a": jnp.ones(2), "b": None, "c": hax.ones(E), "d": None}
    after = q.apply_updates(tree, updates, {"a": None, "b": jnp.zeros(2), "c": None, "d": None})
    assert (after["a"] == 2).all() and not after["b"].any() and (after["c"].array == 2).all() and after["d"] == 3.0
    operation = q.Fp8DotGeneralOp.init(2)
    overwrites, gradients = q.partition_for_grad_overwrite({"state": operation, "w": jnp.ones(2)})
    assert overwrites == {"state": operation, "w": None} and gradients["state"] is None
