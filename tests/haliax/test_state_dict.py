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
    assert arrays["model.0.attn.weight"].shape == (4, 2, 3)


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


def test_files(tmp_path):
    arrays = sd.to_numpy_state_dict(stacked(hnn.Stacked), "h")
    sd.save_state_dict(arrays, str(tmp_path / "model.safetensors"))
    loaded = sd.load_state_dict(str(tmp_path / "model.safetensors"))
    assert sorted(loaded) == sorted(arrays) and all(np.array_equal(loaded[name], arrays[name]) for name in arrays)


def test_errors():
    layer = hnn.Linear.init(E, H, key=jax.random.key(0))
    with pytest.raises(KeyError, match="the state dict has no `a.weight`; did you mean `a.weigth`?"):
        sd.from_state_dict(layer, {"a.weigth": jnp.ones((4, 2))}, "a")
    with pytest.raises(
        hax.AxisError, match=r"`weight` of the state dict has shape \(2, 4\), where \(4, 2\) is expected"
    ):
        sd.from_state_dict(layer, {"weight": jnp.ones((2, 4)), "bias": jnp.ones(2)})
    with pytest.raises(ValueError, match="an array by itself has no name in a state dict: give a prefix"):
        sd.to_state_dict(jnp.ones(2))
