"""scan, fold, map, vmap and Stacked: against plain loops, forward and backward."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
import haliax.nn as hnn

A, B, E, L = hax.make_axes(a=2, b=3, embed=4, layers=6)
x = hax.random.normal(jax.random.key(0), (A, B))


def test_scan_takes_the_axis_from_anywhere():
    def step(carry, row, scale, *, shift):
        carry = carry + row.sum("a") * scale
        return carry, (row + shift, carry.array)

    zero = hax.named(jnp.zeros(()), ())
    carry, (rows, sums) = hax.scan(step, "b")(zero, x, 2.0, shift=hax.ones(A))
    assert rows.axes == (B, A) and np.allclose(rows, x.array.T + 1)
    np.testing.assert_allclose(sums, 2 * np.cumsum(x.array.sum(0)), rtol=1e-6)
    np.testing.assert_allclose(carry, 2 * x.array.sum(), rtol=1e-6)


def test_reverse_and_unnamed_arrays():
    numbers = jnp.arange(3.0)
    last = hax.fold(lambda carry, row, number: number, B, reverse=True)(jnp.zeros(()), x, numbers)
    assert last == 0
    with pytest.raises(hax.AxisError, match="has another size there"):
        hax.fold(lambda carry, row, number: carry, B)(0.0, x, jnp.arange(4.0))
    hax.fold(lambda carry, row, number: carry, B, is_scanned=lambda leaf: isinstance(leaf, hax.NamedArray))(
        0.0, x, jnp.arange(4.0)
    )


def test_the_carry_keeps_its_order_of_axes():
    start = hax.zeros((A, E))
    end = hax.fold(lambda carry, row: (carry + 1).rearrange((E, A)), B)(start, x)
    assert end.axes == (A, E) and np.array_equal(end, np.full((2, 4), 3.0))


def test_map_and_vmap():
    for function in (hax.map, hax.vmap):
        result = function(lambda row: (row.sum(), row.array * 2, "kept"), "b")
        if function is hax.vmap:
            total, doubled, kept = result(x)
            assert kept == "kept"
        else:
            total, doubled = hax.map(lambda row: (row.sum(), row.array * 2), "b")(x)
        assert total.axes == (B,) and np.allclose(total, x.array.sum(0))
        assert np.array_equal(doubled, x.array.T * 2)


def test_vmap_choices():
    both = hax.vmap(lambda x, y: x + y, B, args=(None, False))(x, jnp.float32(1))
    assert both.axes == (B, A)
    second = hax.vmap(lambda x, y: x.sum() + y.sum(), B, args=(None, 1))(x, jnp.ones((5, 3)))
    assert np.allclose(second, x.array.sum(0) + 5)
    whole = hax.vmap(lambda x, y: x.sum() + y.sum(), B, kwargs={"y": False})(x, y=x)
    assert np.allclose(whole, x.array.sum(0) + x.array.sum(), atol=1e-5)


class Block(eqx.Module):
    up: hnn.Linear
    down: hnn.Linear
    dropout: hnn.Dropout

    @staticmethod
    def init(Embed, scale, *, key):
        Mlp = hax.Axis("mlp", 5)
        up, down = jax.random.split(key)
        return Block(hnn.Linear.init(Embed, Mlp, key=up), hnn.Linear.init(Mlp, Embed, key=down), hnn.Dropout(0.1))

    def __call__(self, x, offset=0.0, *, key=None):
        return x + self.down(hnn.gelu(self.up(x))) + offset


def stacked(kind=hnn.Stacked, **options):
    keys = jax.random.split(jax.random.key(0), L.size)
    return kind.init(L, Block, **options)(E, 0.5, key=keys)


POLICIES = [
    False,
    True,
    "nested",
    hax.ScanCheckpointPolicy(nested=3),
    hax.ScanCheckpointPolicy(save_block_internals=["name"], save_inputs=True),
    hax.ScanCheckpointPolicy(save_block_internals=True),
]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("kind", [hnn.Stacked, hnn.BlockSeq])
def test_stacked_is_a_loop_over_its_blocks(kind, policy):
    blocks = stacked(kind, gradient_checkpointing=policy)
    x = hax.random.normal(jax.random.key(1), (A, E))
    offsets = hax.arange(L) * 0.1

    def plain(blocks, x):
        for layer, block in enumerate(blocks.unstacked()):
            x = block(x, offsets["layers", layer])
        return (x * x).sum().scalar()

    def looped(blocks, x):
        result = blocks.fold(x, offsets)
        return (result * result).sum().scalar()

    expected, wanted = jax.value_and_grad(plain)(blocks, x)
    value, gradient = jax.jit(jax.value_and_grad(looped))(blocks, x)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_parameters_have_the_axis_of_the_layers_in_front():
    blocks = stacked()
    assert blocks.stacked.up.weight.axes == (L, E, hax.Axis("mlp", 5))
    assert blocks.get_layer(2).up.weight.axes == (E, hax.Axis("mlp", 5))
    assert np.array_equal(blocks.get_layer(2).up.weight, blocks.unstacked()[2].up.weight)
    same = stacked(hnn.BlockSeq)
    assert np.array_equal(same.blocks[3].down.weight, blocks.unstacked()[3].down.weight)


def test_scan_and_vmap_of_stacked():
    blocks = stacked()
    x = hax.random.normal(jax.random.key(1), (A, E))

    def step(block, x):
        return block(x), x.sum()

    last, sums = blocks.scan_via(step)(x)
    assert sums.axes == (L,) and np.allclose(last, blocks.fold(x), atol=1e-6)
    each = blocks.vmap_via(lambda block, x: block(x))(x)
    assert each.axes == (L, A, E)
    last_of_sequence, sums_of_sequence = stacked(hnn.BlockSeq).scan_via(step)(x)
    np.testing.assert_allclose(sums_of_sequence, sums, rtol=1e-4)
    assert sums_of_sequence.axes == (L,)


@pytest.mark.parametrize("kind", [hnn.Stacked, hnn.BlockSeq])
@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_one_key_for_a_loop_is_split_too(kind, make_key):
    def step(block, carry, *, key):
        return carry, jax.random.uniform(key)

    _, drawn = stacked(kind).scan_via(step)(0.0, key=make_key(1))
    expected = jax.vmap(jax.random.uniform)(jax.random.split(make_key(1), L.size))
    assert np.array_equal(drawn, expected) and len(set(drawn.tolist())) == L.size


def test_one_key_is_split_for_the_layers():
    one = hnn.Stacked.init(L, Block)(E, 0.5, key=jax.random.key(0))
    assert np.array_equal(one.stacked.up.weight, stacked().stacked.up.weight)


def test_checkpointing_computes_the_layer_again():
    def primitives(policy):
        blocks = stacked(gradient_checkpointing=policy)
        loss = jax.grad(lambda b, x: b.fold(x).sum().scalar())
        return str(jax.make_jaxpr(loss)(blocks, hax.ones((A, E))))

    assert "remat" not in primitives(False) and "remat" in primitives(True) and "prevent_cse=False" in primitives(True)
