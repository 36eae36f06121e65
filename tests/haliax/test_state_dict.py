"""State dicts: names, PyTorch's shapes, and the way back."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
import haliax.nn as hnn
from haliax import state_dict as sd

E, H, K, L = hax.make_axes(embed=4, head=2, key=3, layers=3)


class Block(sd.ModuleWithStateDictSerialization):
    attention: hnn.Linear
    norm: hnn.LayerNorm
    size: int = eqx.field(static=True)

    @staticmethod
    def init(*, key):
        return Block(hnn.Linear.init(E, (H, K), key=key), hnn.LayerNorm.init(E, use_bias=False), 3)

    def _state_dict_key_map(self):
        return {"attention": "attn"}


def stacked(kind):
    return kind.init(L, Block)(key=jax.random.split(jax.random.key(0), L.size))


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_names():
    block = Block.init(key=jax.random.key(0))
    arrays = sd.to_state_dict({"model": [block, jnp.ones(2)]})
    assert list(arrays) == ["model.0.attn.weight", "model.0.attn.bias", "model.0.norm.weight", "model.1"]
    assert arrays["model.0.attn.weight"].shape == (2, 3, 4)


@pytest.mark.parametrize("kind", [hnn.Stacked, hnn.BlockSeq])
def test_torch_shapes_and_back(kind):
    blocks = stacked(kind)
    arrays = sd.to_torch_compatible_state_dict(blocks, prefix="h")
    assert list(arrays)[:3] == ["h.0.attn.weight", "h.0.attn.bias", "h.0.norm.weight"] and len(arrays) == 9
    assert arrays["h.1.attn.weight"].shape == (6, 4) and arrays["h.1.attn.bias"].shape == (6,)
    expected = blocks.get_layer(1).attention.weight.rearrange((H, K, E)).array.reshape(6, 4)
    assert np.array_equal(arrays["h.1.attn.weight"], expected)
    empty = jax.tree.map(jnp.zeros_like, blocks)
    assert same(sd.from_torch_compatible_state_dict(empty, arrays, prefix="h"), blocks)
    assert same(sd.from_state_dict(empty, sd.to_state_dict(blocks, "h"), "h"), blocks)


def test_an_output_without_axes():
    layer = hnn.Linear.init(E, (), key=jax.random.key(0))
    arrays = sd.to_torch_compatible_state_dict(layer)
    assert arrays["weight"].shape == (1, 4) and arrays["bias"].shape == (1,)
    assert same(sd.from_torch_compatible_state_dict(layer, arrays), layer)


LAYOUTS = [  # In, Out, out_first, what the weight is outside
    (E, K, True, (3, 4)),
    (E, K, False, (4, 3)),
    ((H, E), K, True, (3, 8)),
    ((H, E), K, False, (8, 3)),
    (E, (H, K), True, (6, 4)),
    (E, (H, K), False, (4, 6)),
    (E, (), True, (1, 4)),
]


@pytest.mark.parametrize(("ins", "outs", "out_first", "shape"), LAYOUTS, ids=str)
def test_layouts_of_linear(ins, outs, out_first, shape):
    layer = hnn.Linear.init(ins, outs, key=jax.random.key(0), out_first=out_first)
    arrays = sd.to_torch_compatible_state_dict(layer)
    assert arrays["weight"].shape == shape
    assert np.array_equal(arrays["weight"].ravel(), layer.weight.array.ravel())
    template = eqx.filter_eval_shape(lambda: layer)
    assert same(sd.from_torch_compatible_state_dict(template, arrays), layer)
    plain = sd.to_torch_compatible_state_dict(layer, flatten=False)
    assert plain["weight"].shape == layer.weight.array.shape
    assert same(sd.from_torch_compatible_state_dict(layer, plain, unflatten=False), layer)


def test_norms_of_several_axes():
    layer = hnn.LayerNorm.init((H, K))
    assert layer.flatten_for_export().axis == hax.Axis("__OUT", 6)
    assert sd.to_torch_compatible_state_dict(layer, prefix="ln")["ln.weight"].shape == (6,)
    assert same(layer.flatten_for_export().unflatten_from_export(layer), layer)
    one = hnn.RmsNorm.init(E)
    assert one.flatten_for_export() is one


class Custom(sd.ModuleWithStateDictSerialization):
    inner: hnn.Linear

    def to_state_dict(self, prefix=None):
        return {sd.with_prefix(prefix, "whole"): self.inner.weight.array}

    def from_state_dict(self, state_dict, prefix=None):
        return eqx.tree_at(lambda m: m.inner.weight.array, self, state_dict[sd.with_prefix(prefix, "whole")])


def test_a_module_may_have_its_own_entries():
    module = Custom(hnn.Linear.init(E, (H, K), key=jax.random.key(0), use_bias=False))
    arrays = sd.to_torch_compatible_state_dict({"m": [module]})
    assert {name: array.shape for name, array in arrays.items()} == {"m.0.whole": (6, 4)}
    empty = jax.tree.map(jnp.zeros_like, module)
    assert same(sd.from_torch_compatible_state_dict({"m": [empty]}, arrays)["m"][0], module)
    assert module.flatten_for_export() is module


def test_numbers_and_filters():
    tree = {"rate": 0.5, "name": "x", "nothing": None, "array": np.ones(2)}
    assert list(sd.to_state_dict(tree)) == ["rate", "name", "array"]
    assert list(sd.to_torch_compatible_state_dict(tree)) == ["array"]
    assert sorted(sd.to_torch_compatible_state_dict(tree, filter=True)) == ["array", "name", "rate"]
    assert sd.to_torch_compatible_state_dict(tree, filter=False) == {}
    assert list(sd.to_torch_compatible_state_dict(tree, filter=lambda x: isinstance(x, float))) == ["rate"]
    found = sd.from_state_dict(tree, {"rate": 2.0, "array": np.zeros(2, np.float16)})
    assert found["rate"] == 2.0 and found["name"] == "x" and found["nothing"] is None
    assert found["array"].dtype == np.float16


@pytest.mark.parametrize(
    ("prefix", "leaf", "joined"), [("a", "b", "a.b"), (None, "b", "b"), ("a", None, "a"), (None, None, None)]
)
def test_prefixes(prefix, leaf, joined):
    assert sd.with_prefix(prefix, leaf) == joined


def test_python_numbers_in_stacked_layers_stay_numbers():
    class Scaled(eqx.Module):
        weight: hax.NamedArray
        factor: float
        on: bool

    make = lambda key: Scaled(hax.random.normal(key, E), 0.5, True)  # noqa: E731
    blocks = hnn.Stacked.init(L, make)(jax.random.split(jax.random.key(0), L.size))
    loaded = blocks.from_state_dict(blocks.to_state_dict("h"), "h")
    assert (blocks.stacked.factor, blocks.stacked.on, loaded.stacked.on) == (0.5, True, True) and same(loaded, blocks)


def test_files(tmp_path):
    arrays = sd.to_numpy_state_dict(stacked(hnn.Stacked), "h")
    sd.save_state_dict(arrays, str(tmp_path / "model.safetensors"))
    loaded = sd.load_state_dict(str(tmp_path / "model.safetensors"))
    assert sorted(loaded) == sorted(arrays) and all(np.array_equal(loaded[name], arrays[name]) for name in arrays)
    sd.save_state_dict({"half": jnp.ones(3, jnp.bfloat16)}, tmp_path / "half.safetensors")
    assert sd.load_state_dict(tmp_path / "half.safetensors")["half"].dtype == jnp.bfloat16


def test_errors():
    layer = hnn.Linear.init(E, H, key=jax.random.key(0))
    with pytest.raises(KeyError, match="the state dict has no `a.weight`; did you mean `a.weigth`?"):
        sd.from_state_dict(layer, {"a.weigth": jnp.ones((2, 4))}, "a")
    with pytest.raises(
        hax.AxisError, match=r"`weight` of the state dict has shape \(4, 2\), where \(2, 4\) is expected"
    ):
        sd.from_state_dict(layer, {"weight": jnp.ones((4, 2)), "bias": jnp.ones(2)})
    with pytest.raises(ValueError, match="an array by itself has no name in a state dict: give a prefix"):
        sd.to_state_dict(jnp.ones(2))
