"""`Stacked` and `BlockSeq`: one program against the other and against a Python loop, with all ways to call a block."""

import equinox as eqx
import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
import haliax.nn as hnn

B, E, L = hax.make_axes(batch=2, embed=3, layers=4)
KEYS = jax.random.split(jax.random.key(0), L.size)
x = inputs.normal(1, (B, E))
offsets = inputs.normal(2, (L, E))
KINDS = [hnn.Stacked, hnn.BlockSeq]


class Block(eqx.Module):
    weight: hax.NamedArray
    factor: float = 0.5
    flip: bool = False

    @staticmethod
    def init(scale=1.0, *, key):
        return Block(hax.random.normal(key, E) * scale)

    def __call__(self, x, offset=0.0, *, key=None, sign=1):
        noise = 0.0 if key is None else jax.random.uniform(key)
        return hax.tanh(x * self.weight) * (-sign if self.flip else sign) + offset + noise

    def with_sum(self, x, *rest):
        after = self(x, *rest)
        return after, after.sum(E)


def made(kind, **options):
    return kind.init(L, Block, **options)(key=KEYS)


def looped(blocks, *rows, **columns):
    """The carries of a Python loop; `rows` and `columns` hold one value for each layer."""
    carry, carries = x, []
    for at, block in enumerate(blocks.unstacked()):
        carry = block(carry, *[row[at] for row in rows], **{name: column[at] for name, column in columns.items()})
        carries.append(carry.array)
    return carries


CALLS = [  # arguments of a fold, and the same for each layer
    (((), {}), ((), {})),
    (((offsets,), {}), (([offsets["layers", at] for at in range(4)],), {})),
    (((jnp.arange(4.0),), {"sign": -1}), ((range(4),), {"sign": [-1] * 4})),
    (((0.25,), {"key": KEYS}), (([0.25] * 4,), {"key": KEYS})),
    (((), {"key": jax.random.key(0)}), ((), {"key": KEYS})),
    (((), {"unroll": 2}), ((), {})),
    (((), {"unroll": True}), ((), {})),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("call", "each"), CALLS)
def test_fold(kind, call, each):
    blocks = made(kind)
    expected = looped(blocks, *each[0], **each[1])
    np.testing.assert_allclose(blocks.fold(x, *call[0], **call[1]), expected[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_loops(kind):
    blocks, carries = made(kind), np.stack(looped(made(kind)))
    for scanned in (blocks.scan_via(Block.with_sum), blocks.scan_via(Block.with_sum, unroll=2)):
        carry, sums = scanned(x)
        assert sums.axes == (L, B)
        np.testing.assert_allclose(carry, carries[-1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(sums, carries.sum(-1), rtol=1e-5, atol=1e-5)
    twice = blocks.fold_via(lambda block, carry, by: block(carry) * by)(x, 2.0)
    assert twice.axes == (B, E) and not np.allclose(twice, carries[-1])
    mapped = blocks.vmap_via(lambda block, y, *, times: block(y) * times)(x, times=3)
    expected = np.stack([np.asarray(block(x)) * 3 for block in blocks.unstacked()])
    assert mapped.axes == (L, B, E)
    np.testing.assert_allclose(mapped, expected, rtol=1e-5, atol=1e-6)
    rows = blocks.vmap_via(Block.__call__)(offsets)
    np.testing.assert_allclose(rows["layers", 1], blocks.get_layer(1)(offsets["layers", 1]), rtol=1e-5)


@pytest.mark.parametrize("policy", [True, "nested", hnn.ScanCheckpointPolicy(save_inputs=True, nested=2)])
@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_changes_no_gradient(kind, policy):
    def loss(blocks):
        return (blocks.fold(x, offsets) ** 2).sum().array

    plain, kept = made(kind), made(kind, gradient_checkpointing=policy)
    expected, found = (eqx.filter_jit(eqx.filter_grad(loss))(blocks) for blocks in (plain, kept))
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_making_them(kind):
    blocks = made(kind)
    assert blocks.Block == blocks.Layers == L and blocks.gradient_checkpointing.disable
    layers = blocks.unstacked()
    assert len(layers) == 4 and layers[1].factor == 0.5 and layers[1].flip is False
    for at, layer in enumerate(layers):
        np.testing.assert_allclose(layer.weight, Block.init(key=KEYS[at]).weight, rtol=1e-5)
        assert np.array_equal(blocks.get_layer(at).weight, layer.weight)
    assert np.array_equal(blocks.get_layer(-1).weight, layers[3].weight)
    scaled = kind.init(L, Block)(jnp.arange(4.0), key=KEYS)  # the first dimension of unnamed arrays is taken apart
    np.testing.assert_allclose(scaled.get_layer(2).weight, layers[2].weight * 2, rtol=1e-5)
    norms = kind.init(L, hnn.LayerNorm)(E, use_bias=False)  # no argument has the axis
    assert norms.get_layer(3).weight.axes == (E,) and norms.get_layer(3).bias is None
    with pytest.raises(IndexError, match="there is no layer 4: `layers` has 4"):
        blocks.get_layer(4)


def test_the_trees_of_the_two():
    stacked, listed = (made(kind) for kind in KINDS)
    assert isinstance(stacked.unstacked(), tuple) and isinstance(listed.blocks, list)
    arrays = [leaf for leaf in jax.tree.leaves(stacked) if eqx.is_array(leaf)]
    assert [leaf.shape for leaf in arrays] == [(4, 3)] and stacked.stacked.weight.axes == (L, E)
    assert hnn.Stacked.init(L, Block, prevent_cse=True)(key=KEYS).gradient_checkpointing.prevent_cse
    with pytest.raises(ValueError, match="there is no checkpoint policy `nestd`.*did you mean `nested`"):
        made(hnn.Stacked, gradient_checkpointing="nestd")


def test_dropout_in_layers_follows_inference_mode():
    class Noisy(eqx.Module):
        drop: hnn.Dropout

        def __call__(self, x, *, key=None):
            return self.drop(x, key=key)

    blocks = hnn.Stacked.init(L, lambda: Noisy(hnn.Dropout(0.5)))()
    dropped = blocks.fold(x, key=jax.random.key(0))
    assert (dropped.array == 0).any()
    assert np.array_equal(eqx.nn.inference_mode(blocks).fold(x), x)
