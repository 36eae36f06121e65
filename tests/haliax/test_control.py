"""scan, fold, map, vmap and Stacked: against plain loops, forward and backward."""

import contextlib
import io
import re

import equinox as eqx
import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
import haliax.nn as hnn

A, B, E, L = hax.make_axes(a=2, b=3, embed=4, layers=6)
x = inputs.normal(0, (A, B))


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


y = inputs.counting((A, B), np.float32)
rows = np.asarray(y.array)
times = np.arange(3, dtype=np.float32)


def step(carry, row, scale=1.0):
    return carry + row * scale, row.sum()


LOOPS = {
    "by name": (lambda: hax.scan(step, "b")(hax.zeros(A), y), lambda: (rows.sum(1), rows.sum(0))),
    "by axis": (lambda: hax.scan(f=step, axis=B)(hax.zeros(A), y), lambda: (rows.sum(1), rows.sum(0))),
    "reverse": (
        lambda: hax.scan(lambda c, row: (c + 1, row * c), "b", reverse=True)(0.0, y),
        lambda: (3.0, rows.T * np.array([[2], [1], [0]])),
    ),
    "unroll": (
        lambda: hax.scan(step, "b", unroll=True)(hax.zeros(A), y, scale=times),
        lambda: (rows @ times, rows.sum(0)),
    ),
    "numbers are whole": (lambda: hax.fold(lambda c, row, n: c + n, "b")(0.0, y, 2.0), lambda: 6.0),
    "scalars are whole": (lambda: hax.fold(lambda c, row, n: c + n, "b")(0.0, y, jnp.float32(2)), lambda: 6.0),
    "arrays without the axis are whole": (
        lambda: hax.fold(lambda c, row, whole: c + whole.sum().array, "b")(0.0, y, hax.ones(E)),
        lambda: 12.0,
    ),
    "predicate": (
        lambda: hax.fold(lambda c, row, v: c + v.sum(), "b", is_scanned=hax.is_named_array)(0.0, y, jnp.ones(2)),
        lambda: 6.0,
    ),
    "tree of choices": (
        lambda: hax.fold(lambda c, row, v: c + v.sum(), "b", is_scanned=((True, False), {}))(0.0, y, jnp.ones(2)),
        lambda: 6.0,
    ),
    "no inputs": (lambda: hax.scan(lambda c: (c + 1, c), B)(0.0), lambda: (3.0, times)),
    "nothing chosen": (lambda: hax.fold(lambda c, v: c + v.sum(), B, is_scanned=False)(0.0, jnp.ones(2)), lambda: 6.0),
    "trees": (
        lambda: hax.scan(lambda c, t: ({"s": c["s"] + t[0]}, [t[0], None]), "b")({"s": hax.zeros(A)}, [y]),
        lambda: ({"s": rows.sum(1)}, [rows.T, None]),
    ),
    "map": (
        lambda: hax.map(lambda row, n: row * n, B, reverse=True, unroll=2, remat=True)(y, times),
        lambda: rows.T * times[:, None],
    ),
    "map of unnamed": (lambda: hax.map(lambda n: n * 2, "n")(times), lambda: times * 2),
    "map, chosen": (
        lambda: hax.map(lambda r, n: r * n.sum(), B, is_mapped=hax.is_named_array)(y, times),
        lambda: rows.T * 3,
    ),
    "vmap": (lambda: hax.vmap(lambda row: row * 2, "b")(y), lambda: rows.T * 2),
    "vmap of unnamed": (lambda: hax.vmap(lambda n: n * 2, "n")(times), lambda: times * 2),
    "vmap over several": (lambda: hax.vmap(lambda v: v * 2, ("b", A))(y), lambda: rows.T * 2),
    "vmap over a mapping": (lambda: hax.vmap(lambda v: v * 2, {"b": 3})(y), lambda: rows.T * 2),
    "vmap, dimensions": (
        lambda: hax.vmap(lambda r, v: r + v.sum(), B, args=(0, 1))(y, jnp.ones((2, 3))),
        lambda: rows.T + 2,
    ),
    "vmap, last dimension": (lambda: hax.vmap(lambda v: v.sum(), B, default=-1)(jnp.ones((2, 3))), lambda: [2.0] * 3),
    "vmap, default": (lambda: hax.vmap(lambda r, v: r + v.sum(), B, default=None)(y, jnp.ones(2)), lambda: rows.T + 2),
    "vmap, function": (
        lambda: hax.vmap(lambda r, v: r + v.sum(), B, default=lambda leaf: 1)(y, jnp.ones((2, 3))),
        lambda: rows.T + 2,
    ),
    "vmap, None": (lambda: hax.vmap(lambda r, v: r + v.sum(), B, args=(0, None))(y, jnp.ones(2)), lambda: rows.T + 2),
    "vmap, keywords": (
        lambda: hax.vmap(lambda r, *, v: r + v.sum(), B, kwargs={"v": 1})(y, v=jnp.ones((2, 3))),
        lambda: rows.T + 2,
    ),
    "vmap, trees": (
        lambda: hax.vmap(lambda t: t["r"] * t["v"].sum(), B, args=({"r": 0, "v": None},))({"r": y, "v": jnp.ones(2)}),
        lambda: rows.T * 2,
    ),
    "vmap of nothing": (lambda: hax.vmap(lambda: jnp.ones(2), B)(), lambda: np.ones((3, 2))),
    "vmap, numbers stay": (lambda: hax.vmap(lambda r: (r.sum(), 1, None), B)(y), lambda: (rows.sum(0), 1, None)),
    "vmap in vmap": (lambda: hax.vmap(hax.vmap(lambda v: v * 2, "b"), "a")(y), lambda: rows * 2),
    "jit and grad": (lambda: jax.jit(hax.grad(lambda y: hax.vmap(lambda r: r * r, "b")(y).sum()))(y), lambda: 2 * rows),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops(name):
    call, expected = LOOPS[name]
    jax.tree.map(np.testing.assert_allclose, jax.tree.map(np.asarray, call(), is_leaf=hax.is_named_array), expected())


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: hax.scan(step, "z")(0.0, y), "scan over `z`, which no argument has"),
        (lambda: hax.fold(step, hax.Axis("z", 3))(0.0, y), "fold over `z`, which no argument has"),
        (lambda: hax.map(lambda v: v, "z")(y), "map over `z`, which no argument has"),
        (lambda: hax.vmap(lambda v: v, hax.Axis("z", 3))(y), "vmap over `z`, which no argument has"),
        (lambda: hax.vmap(lambda: 0, "z")(), "vmap over `z`, which no argument has: it was given no arrays at all"),
        (lambda: hax.scan(step, B.resize(4))(0.0, y), "scan over `b` of size 4, but f32["),
        (lambda: hax.vmap(lambda v: hax.zeros(B), B)(y), "duplicate axis `b` in"),
        (lambda: hax.fold(step, B, remat=hax.ScanCheckpointPolicy(nested=2))(0.0, y), "loop of size 3 cannot be cut"),
        (lambda: hax.fold(step, B, remat="ofload"), "there is no checkpoint policy `ofload`"),
    ],
)
def test_mistakes_in_loops(call, text):
    with pytest.raises(ValueError) as caught:
        call()
    assert text in str(caught.value)  # `match` would look in the notes too, where this very line stands


EVERYTHING = "what jax.lax.scan keeps"  # how many arrays that is differs between versions of JAX
KEPT = {  # by policy: how many arrays of all layers, and what else, the backward pass of a loop of six gets
    False: EVERYTHING,
    "save_all": EVERYTHING,
    True: ("6", "6"),
    "recompute": ("6", "6"),
    "full": ("6", "6"),
    "offload": ("host 6", "host 6"),
    "nested": ("2", "2,3"),
    hax.ScanCheckpointPolicy(nested=3): ("3", "3,2"),
    hax.ScanCheckpointPolicy(save_block_internals=["product"]): ("6", "6", "6"),
    hax.ScanCheckpointPolicy(offload_block_internals=["product"]): ("host 6", "6", "6"),
    hax.ScanCheckpointPolicy(save_block_internals=True): EVERYTHING,
    hax.ScanCheckpointPolicy(simple=True, save_block_internals=["product"]): ("6", "6"),
    hax.ScanCheckpointPolicy(save_inputs=True, save_carries=False): ("6", "6"),
}


@pytest.mark.parametrize("policy", KEPT, ids=str)
def test_what_a_policy_keeps(policy):
    def loss(weights, start):
        def layer(carry, weight):
            return hax.tanh(hax.tree_checkpoint_name(carry * weight, "product") + 1)

        return hax.fold(layer, L, remat=policy)(start, weights).sum().array

    def plain_loss(weights, start):
        def layer(carry, weight):
            return jnp.tanh(jax.ad_checkpoint.checkpoint_name(carry * weight, "product") + 1), None

        return jax.lax.scan(layer, start, weights)[0].sum()

    weights, start = hax.random.normal(jax.random.key(0), (L, A)), hax.ones(A)
    expected = kept_by(plain_loss, weights.array, start.array) if KEPT[policy] is EVERYTHING else sorted(KEPT[policy])
    assert kept_by(loss, weights, start) == expected


def kept_by(loss, *arguments):
    """The shapes of what the backward pass gets, without their last dimension, which is 2."""
    described = io.StringIO()
    with contextlib.redirect_stdout(described):
        jax.ad_checkpoint.print_saved_residuals(loss, *arguments)
    found = []
    for line in described.getvalue().splitlines():
        (host, shape) = re.match(r"f(?:loat)?32(<host>)?\[([\d,]+),2\]", line).groups()
        found.append(f"host {shape}" if host else shape)
    return sorted(found)


def test_policies_compare_and_hash():
    policy = hax.ScanCheckpointPolicy
    assert policy(save_block_internals=["a"]) == policy(save_block_internals=["a"])
    assert hash(policy()) == hash(policy()) and policy().offload_block_internals == []
    assert policy.from_bool_or_str("offload") == policy(save_carries="offload", save_inputs="offload")
    assert policy.from_bool_or_str(True) == policy(simple=True)
    assert policy.from_bool_or_str(False).disable and policy.of(policy(nested=2)).nested == 2


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
    assert blocks.stacked.up.weight.axes == (L, hax.Axis("mlp", 5), E)
    assert blocks.get_layer(2).up.weight.axes == (hax.Axis("mlp", 5), E)
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
