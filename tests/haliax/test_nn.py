"""Layers, activations, losses, attention: against plain jnp, and the programs that they make."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import haliax as hax
import haliax.nn as hnn

B, P, E, V, H, K = hax.make_axes(batch=2, position=3, embed=4, vocab=7, head=2, key=5)
Q = P.alias("key_position")


def normal(seed, *axes):
    return hax.random.normal(jax.random.key(seed), axes)


def primitives(function, *args):
    return [equation.primitive.name for equation in jax.make_jaxpr(function)(*args).eqns]


@pytest.mark.parametrize("out_first", [False, True])
def test_linear(out_first):
    layer = hnn.Linear.init(E, (H, K), key=jax.random.key(0), out_first=out_first)
    assert layer.weight.axes == ((H, K, E) if out_first else (E, H, K)) and layer.out_first == out_first
    x = normal(1, B, P, E)
    y = layer(x)
    assert y.axes == (B, P, H, K)
    expected = jnp.einsum("bpe,ehk->bphk", x.array, layer.weight.rearrange((E, H, K)).array)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    assert primitives(lambda layer, x: layer(x), layer, x) == ["dot_general", "broadcast_in_dim", "add"]
    assert hnn.Linear.init(E, V, key=jax.random.key(0), use_bias=False).bias is None
    with pytest.raises(hax.AxisError, match="axis `embed` is not in"):
        layer(normal(1, B, P))


# In, Out, options, the standard deviation of the initial weights
INITIAL = [
    (E, V, {}, 0.5),
    ((E, K), (H, V), {"init_scale": 0.1}, 0.1 / np.sqrt(20)),
    (E, (), {"out_first": False}, 0.5),
    ((), V, {}, 1.0),
    ({"embed": 4}, [H, V], {}, 0.5),
]


@pytest.mark.parametrize(("ins", "outs", "options", "scale"), INITIAL, ids=str)
def test_initial_weights_of_linear(ins, outs, options, scale):
    layer = hnn.Linear.init(ins, outs, key=jax.random.key(0), **options)
    raw = jax.random.truncated_normal(jax.random.key(0), -3.0, 3.0, layer.weight.array.shape)
    np.testing.assert_allclose(layer.weight, raw * scale, rtol=1e-5)
    assert (layer.In, layer.Out) == (ins, outs) and not np.any(layer.bias)
    assert jax.tree.leaves(layer) == [layer.weight.array, layer.bias.array]


def test_linear_multiplies_by_nothing_but_its_weight():
    layer = hnn.Linear.init(E, V, key=jax.random.key(0), dot_general=jax.lax.dot_general)
    assert primitives(lambda layer, x: layer(x), layer, normal(1, B, E)) == ["dot_general", "broadcast_in_dim", "add"]
    own = hnn.Linear.init(E, V, key=jax.random.key(0), dot_general=lambda *args, **_: 2 * jax.lax.dot_general(*args))
    np.testing.assert_allclose(own(normal(1, B, E)), 2 * np.asarray(layer(normal(1, B, E))), rtol=1e-5)
    assert len(jax.tree.leaves(own)) == 2


def test_embedding():
    layer = hnn.Embedding.init(V, E, key=jax.random.key(0))
    ids = hax.named(jnp.array([[0, 6, 1], [2, 2, 3]]), ("batch", "position"))
    assert layer(ids).axes == (B, P, E)
    assert np.array_equal(layer.embed(ids), layer.weight.array[ids.array])
    assert primitives(lambda layer, i: layer(i), layer, ids) == ["broadcast_in_dim", "gather"]
    raw = jax.random.truncated_normal(jax.random.key(0), -3.0, 3.0, (7, 4))
    np.testing.assert_allclose(layer.weight, raw / 4, rtol=1e-5)
    for option in ("init_scale", "initializer_range"):
        scaled = hnn.Embedding.init(V, (H, K), key=jax.random.key(0), **{option: 0.5})
        assert scaled.weight.axes == (V, H, K) and float(jnp.abs(scaled.weight.array).max()) <= 3 * 0.5 / 10
    lost = layer(hax.named(jnp.array([6, 7, -1]), "position"))
    assert np.isnan(lost.array).all(1).tolist() == [False, True, True]
    x = normal(1, B, P, E)
    assert layer.unembed(x).axes == (B, P, V)
    np.testing.assert_allclose(layer.unembed(x), x.array @ layer.weight.array.T, rtol=1e-5, atol=1e-5)
    larger = layer.resize_embeddings(9)
    assert larger.weight.axes == (V.resize(9), E) and np.array_equal(larger.weight.array[:7], layer.weight.array)
    np.testing.assert_allclose(larger.weight.array[7:], np.stack([layer.weight.array.mean(0)] * 2), rtol=1e-5)
    assert layer.resize_embeddings(5, key=jax.random.key(0)).Vocab.size == 5


def test_norms():
    x = normal(0, B, E, P)
    raw = np.asarray(x, np.float64)
    layer = hnn.LayerNorm.init(E)
    layer = eqx.tree_at(lambda layer: layer.weight, layer, hax.arange(E) * 1.0)
    expected = (raw - raw.mean(1, keepdims=True)) / np.sqrt(raw.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(x), expected * np.arange(4.0)[:, None], rtol=1e-4, atol=1e-5)
    rms = hnn.RmsNorm.init(E, use_bias=False)
    np.testing.assert_allclose(rms(x), raw / np.sqrt((raw**2).mean(1, keepdims=True) + 1e-5), rtol=1e-4, atol=1e-5)
    assert rms.bias is None
    half = x.astype(jnp.bfloat16)
    for kind in (hnn.LayerNorm, hnn.RmsNorm):
        computed = kind.init(E, dtype=jnp.float32)
        assert computed(half).dtype == jnp.float32  # as jnp promotes the input and the scale
        assert jax.tree.map(lambda p: p.astype(jnp.bfloat16), computed)(half).dtype == jnp.bfloat16
        np.testing.assert_allclose(computed(half), kind.init(E)(half.astype(jnp.float32)), rtol=1e-5, atol=1e-6)
        bare = kind.init(E, use_weight=False, use_bias=False)
        assert jax.tree.leaves(bare) == [] and bare(half).dtype == jnp.bfloat16
    with pytest.raises(TypeError, match="abstract"):
        hnn.normalization.LayerNormBase.init(E)
    np.testing.assert_allclose(hnn.standardize(x, E), expected, rtol=1e-4, atol=1e-5)


def test_dropout():
    x = hax.ones((B, hax.Axis("position", 1000)))
    y = hnn.Dropout(0.25)(x, key=jax.random.key(0))
    assert set(np.unique(y.array)) == {0.0, np.float32(1 / 0.75)} and 0.2 < float((y == 0).mean()) < 0.3
    assert hnn.Dropout(0.25)(x, inference=True) is x and hnn.Dropout(0.0)(x) is x
    together = hnn.Dropout(0.5, broadcast_axes="position")(x, key=jax.random.key(1))
    assert (together.array == together.array[:, :1]).all()
    assert not hnn.Dropout(1.0)(x, key=jax.random.key(0)).any()
    kept = jax.random.bernoulli(jax.random.key(0), 0.75, (2, 1000))
    np.testing.assert_allclose(y, jnp.where(kept, 1 / 0.75, 0))


def test_inference_mode():
    layer = hnn.Dropout()
    assert layer.pdrop == 0.5 and layer.is_active and jax.tree.leaves(layer) == []
    resting = eqx.nn.inference_mode({"drop": layer})["drop"]
    assert resting.inference is True and not resting.is_active and not hnn.Dropout(0.0).is_active
    x = hax.ones(E)
    assert resting(x) is x and resting(x, inference=False, key=jax.random.key(0)) is not x
    with pytest.raises(RuntimeError, match="dropout needs a random key"):
        layer(x)


@pytest.mark.parametrize(
    "name",
    [
        *("celu", "elu", "gelu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "log_sigmoid"),
        *("relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softplus", "swish"),
    ],
)
def test_activations(name):
    x = normal(0, B, E)
    assert np.array_equal(getattr(hnn, name)(x), getattr(jax.nn, name)(x.array))


def test_own_activations():
    x = normal(0, B, E)
    assert np.array_equal(hnn.gelu(x, False), jax.nn.gelu(x.array, False))
    assert np.array_equal(hnn.gelu(x, approximate=False), hnn.gelu(x.array, False))
    assert np.array_equal(hnn.relu_squared(x), jax.nn.relu(x.array) ** 2)
    np.testing.assert_allclose(hnn.quick_gelu(x), x.array * jax.nn.sigmoid(1.702 * x.array), rtol=1e-6)
    assert np.array_equal(hnn.glu(x, "embed"), x.array[:, :2] * jax.nn.sigmoid(x.array[:, 2:]))


def test_softmax_and_relatives():
    x = normal(0, B, E, P)
    np.testing.assert_allclose(hnn.softmax(x, "embed"), jax.nn.softmax(x.array, 1), rtol=1e-6)
    np.testing.assert_allclose(hnn.log_softmax(x, (E, P)), jax.nn.log_softmax(x.array, (1, 2)), rtol=1e-6)
    np.testing.assert_allclose(hnn.logsumexp(x, E), jax.nn.logsumexp(x.array, 1), rtol=1e-6)
    assert hnn.logsumexp(x).axes == ()
    for name in ("softmax", "log_softmax", "logsumexp"):
        ours, theirs = getattr(hnn, name), getattr(jax.nn, name)
        np.testing.assert_allclose(ours(x.array, (0, 1)), theirs(x.array, axis=(0, 1)), rtol=1e-6)
    given = hnn.standardize(x, E, mean=hax.mean(x, E), variance=2.0)
    np.testing.assert_allclose(given, (x - hax.mean(x, E)).array / np.sqrt(2 + 1e-5), rtol=1e-5, atol=1e-6)
    where = hax.arange(E) < 3
    raw = np.asarray(x)[:, :3]
    part = (np.asarray(x) - raw.mean(1, keepdims=True)) / np.sqrt(raw.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(hnn.standardize(x, E, where=where), part, rtol=1e-4, atol=1e-5)


def test_one_hot():
    ids = hax.named(jnp.array([0, 6, 7, -1], jnp.int8), "item")
    expected = np.eye(7)[[0, 6]].tolist() + [[0] * 7] * 2
    assert hnn.one_hot(ids, V).tolist() == expected and hnn.one_hot(ids, V).dtype == jnp.float32
    assert hnn.one_hot(x=ids, class_axis=V, dtype=bool).dtype == bool
    assert hnn.one_hot(2, V).tolist() == [0, 0, 1, 0, 0, 0, 0]
    many = hnn.one_hot(ids, hax.Axis("many", 300))  # more classes than int8 has numbers
    assert many.array.sum(1).tolist() == [1, 1, 1, 0]
    with pytest.raises(AssertionError, match="7 is not a class of `vocab`, which has 7: 0 to 6"):
        hnn.one_hot(7, V)


def test_cross_entropy():
    logits, targets = normal(0, V, B, P), hax.named(jnp.array([[0, 6, 1], [2, 2, 3]]), ("batch", "position"))
    expected = -jnp.take_along_axis(jax.nn.log_softmax(logits.array, 0), targets.array[None], 0)[0]
    each = hnn.cross_entropy_loss(logits, V, targets, reduction=None)
    assert each.axes == (B, P)
    np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-6)
    one_hot = hnn.one_hot(targets, V)
    np.testing.assert_allclose(hnn.cross_entropy_loss(logits, V, one_hot), expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(hnn.cross_entropy_loss(logits, "vocab", targets), expected.mean(), rtol=1e-5)
    mask = targets != 2
    np.testing.assert_allclose(
        hnn.cross_entropy_loss(logits, V, targets, where=mask), expected[mask.array].mean(), rtol=1e-5
    )
    by_row = hnn.cross_entropy_loss(logits, V, targets, reduction=hax.sum, reduction_axis=P)
    assert by_row.axes == (B,)
    np.testing.assert_allclose(by_row, expected.sum(1), rtol=1e-5)
    weighted = one_hot * hax.arange(P)  # targets that do not sum to 1: zero counts for nothing
    np.testing.assert_allclose(
        hnn.cross_entropy_loss(logits, V, weighted, reduction=None), expected * np.arange(3), rtol=1e-4, atol=1e-6
    )


def test_cross_entropy_computes_in_float32_without_a_gather():
    logits, targets = normal(0, B, V).astype(jnp.bfloat16), hax.named(jnp.array([0, 6]), "batch")
    loss, normalizers = hnn.cross_entropy_loss_and_log_normalizers(logits, V, targets)
    assert loss.dtype == normalizers.dtype == jnp.bfloat16
    exact = hnn.cross_entropy_loss_and_log_normalizers(logits.astype(jnp.float32), V, targets)[0]
    assert np.array_equal(loss, exact.array.astype(jnp.bfloat16))
    assert hnn.cross_entropy_loss(logits, V, hnn.one_hot(targets, V)).dtype == jnp.float32
    assert "gather" not in primitives(lambda x, t: hnn.cross_entropy_loss(x, V, t), logits, targets)


def test_binary_cross_entropy():
    logits, targets = normal(0, B, P), hax.named(jnp.array([[0, 1, 1], [1, 0, 0]]), ("batch", "position"))
    expected = optax.sigmoid_binary_cross_entropy(logits.array, targets.array).mean()
    np.testing.assert_allclose(hnn.binary_cross_entropy_loss(logits, targets), expected, rtol=1e-5)
    assert hnn.binary_cross_entropy_loss(logits.astype(jnp.bfloat16), targets, reduction=None).dtype == jnp.bfloat16


def test_reduced_losses():
    loss, counted = normal(0, B, P), normal(1, B, P) > 0
    raw, mask = loss.array, counted.array
    for options, expected in (
        ({}, raw.mean()),
        ({"reduction": hax.sum, "where": counted}, (raw * mask).sum()),
        ({"reduction": None, "where": counted}, raw * mask),
        ({"reduction_axis": "position"}, raw.mean(1)),
        ({"reduction": hax.max, "reduction_axis": (P, B)}, raw.max()),
    ):
        np.testing.assert_allclose(hnn.reduce_loss(arr=loss, **options), expected, rtol=1e-5)
        if len(options) == 2 and "where" in options:
            whole = hnn.loss.maybe_reduce_loss(loss, options["reduction"], None, counted)
            np.testing.assert_allclose(whole, expected, rtol=1e-5)


def test_attention():
    query, key, value = normal(0, B, P, H, K), normal(1, B, Q, H, K), normal(2, B, Q, H, K)
    mask = hnn.attention.causal_mask(P, Q)
    assert mask.axes == (P, Q) and np.array_equal(mask, np.tril(np.ones((3, 3), bool)))
    answer = hnn.attention.dot_product_attention(Q, K, query, key, value, mask=mask)
    assert answer.axes == (B, P, H, K)
    expected = jax.nn.dot_product_attention(query.array, key.array, value.array, mask=mask.array[None, None])
    np.testing.assert_allclose(answer.rearrange((B, P, H, K)), expected, rtol=1e-4, atol=1e-5)
    biased = hnn.attention.dot_product_attention_weights(K, Q, query, key, bias=hnn.attention.mask_to_bias(~mask))
    masked = hnn.attention.dot_product_attention_weights(K, Q, query, key, mask=mask)
    np.testing.assert_allclose(biased, masked, atol=1e-6)
    weights = hnn.attention.dot_product_attention_weights(K, Q, query, key, scaling_factor=0.1)
    scores = jnp.einsum("bphk,bqhk->bhpq", query.array, key.array) * 0.1
    np.testing.assert_allclose(weights.rearrange((B, H, P, Q)), jax.nn.softmax(scores), rtol=1e-4, atol=1e-6)
    half = hnn.attention.dot_product_attention(
        Q, K, query.astype(jnp.bfloat16), key.astype(jnp.bfloat16), value, attention_dtype=jnp.float32
    )
    assert half.dtype == jnp.float32


def test_the_older_spelling_of_attention():
    attend = hnn.attention.dot_product_attention
    query, key, value = normal(0, P, K), normal(1, Q, K), normal(2, Q, V)
    mask = hnn.attention.causal_mask(P, Q)
    expected = attend(Q, K, query, key, value, mask)
    assert np.array_equal(attend(P, Q, K, query, key, value, mask), expected)
    assert np.array_equal(attend(QPos=P, KPos=Q, KeySize=K, query=query, key=key, value=value, mask=mask), expected)
    same = {"key_position": "position"}
    itself = attend(P, P, K, query, key.rename(same), value.rename(same))
    assert itself.axes == (P, V) and np.array_equal(itself, attend(Q, K, query, key, value))


def test_masks():
    attention = hnn.attention
    causal = attention.causal_mask(P, Q)
    prefix = attention.prefix_lm_mask(P, Q, 2)
    assert np.array_equal(prefix, [[1, 1, 0], [1, 1, 0], [1, 1, 1]])
    for ours, expected in (
        (attention.causal_mask(P, Q, q_start=1), [[1, 1, 0], [1, 1, 1], [1, 1, 1]]),
        (attention.causal_mask(P, Q, 0, 1), [[0, 0, 0], [1, 0, 0], [1, 1, 0]]),
        (attention.causal_mask(P, Q.resize(2), jnp.array(1)), [[1, 1], [1, 1], [1, 1]]),
        (attention.prefix_lm_mask(P, Q, prefix_len=2, k_start=1), [[1, 1, 0], [1, 1, 0], [1, 1, 0]]),
        (attention.mask_to_bias(causal, -2.0), np.tril(np.ones((3, 3))) * -2),
    ):
        assert np.array_equal(ours, expected)
    starts = hax.named(jnp.array([0, 2]), "batch")
    for batched, row in (
        (attention.causal_mask(P, Q, starts), attention.causal_mask(P, Q, 2)),
        (attention.causal_mask(P, Q, k_start=starts), attention.causal_mask(P, Q, k_start=2)),
    ):
        assert batched.axes == (B, P, Q) and np.array_equal(batched["batch", 1], row)
    with pytest.raises(hax.AxisError, match="axis `position` is there twice"):
        attention.causal_mask(P, P)
    assert attention.combine_masks_and(None, causal) is causal and attention.combine_masks_or(None, None) is None
    assert np.array_equal(attention.combine_masks_and(causal, prefix), causal)
    assert np.array_equal(attention.combine_masks_or(causal, prefix), prefix)
    rows = hax.arange(B) == 0
    assert set(attention.combine_masks_and(rows, causal).axes) == {B, P, Q}
    long = hax.Axis("key_position", 400)
    for options, rate in (({}, 0.5 * 0.9), ({"sample_prob": False}, 0.9)):
        drawn = [attention.forgetful_causal_mask(long, 0.9, key=jax.random.key(i), **options) for i in range(20)]
        kept = np.stack([np.asarray(mask) for mask in drawn])
        assert kept[:, 0].all() and abs(1 - kept.mean() - rate) < 0.15 and drawn[0].axes == (long,)
    assert not attention.forgetful_causal_mask(Q, 1.0, False, key=jax.random.key(0)).array[1:].any()
    slopes = attention.alibi_attention_bias(H, Q)
    assert slopes.axes == (H, Q) and np.allclose(slopes, [[0, 1 / 16, 2 / 16], [0, 1 / 256, 2 / 256]])
    assert attention.dropout_mask((P, Q), 0.5, key=jax.random.key(0)).dtype == bool


W, W2 = hax.make_axes(mlp=6, mlp2=6)
MLPS = [  # width, depth, options, the axes between the layers, which layers have a bias
    (6, 0, {}, [], [True]),
    (6, 1, {}, [W], [True, True]),
    (6, 3, {"use_bias": False}, [W, W2, W], [False, False, False, True]),
    (hax.Axis("hidden", 5), 2, {"use_final_bias": False}, hax.make_axes(hidden=5, hidden2=5), [True, True, False]),
    (6, 1, {"out_first": False, "init_scale": 0.1}, [W], [True, True]),
]


@pytest.mark.parametrize(("width", "depth", "options", "between", "biases"), MLPS, ids=str)
def test_mlp(width, depth, options, between, biases):
    network = hnn.MLP.init(E, V, width, depth, hnn.gelu, key=jax.random.key(0), **options)
    assert (network.In, network.Out) == (E, V)
    assert [layer.Out for layer in network.layers[:-1]] == list(between)
    assert [layer.bias is not None for layer in network.layers] == biases
    assert all(layer.out_first == options.get("out_first", True) for layer in network.layers)
    x = normal(0, B, E)
    raw = x.array
    for layer in network.layers:
        raw = hax.dot(hax.named(raw, (B, layer.In)), layer.weight, axis=layer.In).array
        raw = raw + (0 if layer.bias is None else layer.bias.array)
        raw = jax.nn.gelu(raw) if layer is not network.layers[-1] else raw
    assert network(x).axes == (B, V)
    np.testing.assert_allclose(network(x), raw, rtol=1e-4, atol=1e-5)


def test_optax_states_mirror_named_arrays():
    layer = hnn.Linear.init(E, V, key=jax.random.key(0))
    optimizer = optax.adamw(1e-2)
    state = optimizer.init(layer)
    assert state[0].mu.weight.axes == layer.weight.axes

    @jax.jit
    def step(layer, state, x):
        gradient = jax.grad(lambda layer: (layer(x) ** 2).sum().scalar())(layer)
        updates, state = optimizer.update(gradient, state, layer)
        return optax.apply_updates(layer, updates), state

    after, state = step(layer, state, normal(1, B, E))
    assert after.weight.axes == layer.weight.axes and not np.array_equal(after.weight, layer.weight)
