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


def test_embedding():
    layer = hnn.Embedding.init(V, E, key=jax.random.key(0))
    ids = hax.named(jnp.array([[0, 6, 1], [2, 2, 3]]), ("batch", "position"))
    assert layer(ids).axes == (B, P, E)
    assert np.array_equal(layer.embed(ids), layer.weight.array[ids.array])
    assert primitives(lambda layer, i: layer(i), layer, ids) == ["broadcast_in_dim", "gather"]
    x = normal(1, B, P, E)
    assert layer.unembed(x).axes == (B, P, V)
    np.testing.assert_allclose(layer.unembed(x), x.array @ layer.weight.array.T, rtol=1e-5, atol=1e-5)
    assert layer.resize_embeddings(9).weight.axes == (V.resize(9), E)
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
    half = hnn.LayerNorm.init(E, dtype=jnp.float32)(x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(hnn.standardize(x, E), expected, rtol=1e-4, atol=1e-5)


def test_dropout():
    x = hax.ones((B, hax.Axis("position", 1000)))
    y = hnn.Dropout(0.25)(x, key=jax.random.key(0))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)} and 0.2 < float((y == 0).mean()) < 0.3
    assert hnn.Dropout(0.25)(x, inference=True) is x and hnn.Dropout(0.0)(x) is x
    together = hnn.Dropout(0.5, broadcast_axes="position")(x, key=jax.random.key(1))
    assert (together.array == together.array[:, :1]).all()


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
    assert np.array_equal(hnn.relu_squared(x), jax.nn.relu(x.array) ** 2)
    np.testing.assert_allclose(hnn.quick_gelu(x), x.array * jax.nn.sigmoid(1.702 * x.array), rtol=1e-6)
    assert np.array_equal(hnn.glu(x, "embed"), x.array[:, :2] * jax.nn.sigmoid(x.array[:, 2:]))


def test_softmax_and_relatives():
    x = normal(0, B, E, P)
    np.testing.assert_allclose(hnn.softmax(x, "embed"), jax.nn.softmax(x.array, 1), rtol=1e-6)
    np.testing.assert_allclose(hnn.log_softmax(x, (E, P)), jax.nn.log_softmax(x.array, (1, 2)), rtol=1e-6)
    np.testing.assert_allclose(hnn.logsumexp(x, E), jax.nn.logsumexp(x.array, 1), rtol=1e-6)
    assert hnn.logsumexp(x).axes == ()


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


def test_cross_entropy_computes_in_float32_without_a_gather():
    logits, targets = normal(0, B, V).astype(jnp.bfloat16), hax.named(jnp.array([0, 6]), "batch")
    loss, normalizers = hnn.cross_entropy_loss_and_log_normalizers(logits, V, targets)
    assert loss.dtype == normalizers.dtype == jnp.float32
    assert "gather" not in primitives(lambda x, t: hnn.cross_entropy_loss(x, V, t), logits, targets)


def test_binary_cross_entropy():
    logits, targets = normal(0, B, P), hax.named(jnp.array([[0, 1, 1], [1, 0, 0]]), ("batch", "position"))
    expected = optax.sigmoid_binary_cross_entropy(logits.array, targets.array).mean()
    np.testing.assert_allclose(hnn.binary_cross_entropy_loss(logits, targets), expected, rtol=1e-5)


def test_attention():
    query, key, value = normal(0, B, P, H, K), normal(1, B, Q, H, K), normal(2, B, Q, H, K)
    mask = hnn.attention.causal_mask(P, Q)
    assert mask.axes == (P, Q) and np.array_equal(mask, np.tril(np.ones((3, 3), bool)))
    answer = hnn.attention.dot_product_attention(Q, K, query, key, value, mask=mask)
    assert answer.axes == (B, H, P, K)
    expected = jax.nn.dot_product_attention(query.array, key.array, value.array, mask=mask.array[None, None])
    np.testing.assert_allclose(answer.rearrange((B, P, H, K)), expected, rtol=1e-4, atol=1e-5)
    biased = hnn.attention.dot_product_attention_weights(K, Q, query, key, bias=hnn.attention.mask_to_bias(mask))
    masked = hnn.attention.dot_product_attention_weights(K, Q, query, key, mask=mask)
    np.testing.assert_allclose(biased, masked, atol=1e-6)


def test_masks():
    attention = hnn.attention
    causal = attention.causal_mask(P, Q)
    prefix = attention.prefix_lm_mask(P, Q, 2)
    assert np.array_equal(prefix, [[1, 1, 0], [1, 1, 0], [1, 1, 1]])
    assert attention.combine_masks_and(None, causal) is causal and attention.combine_masks_or(None, None) is None
    assert np.array_equal(attention.combine_masks_and(causal, prefix), causal)
    assert np.array_equal(attention.combine_masks_or(causal, prefix), prefix)
    rows = hax.arange(B) == 0
    assert set(attention.combine_masks_and(rows, causal).axes) == {B, P, Q}
    forgetful = attention.forgetful_causal_mask(jax.random.key(0), P, Q, 0.5)
    assert not (np.asarray(forgetful) & ~np.asarray(causal)).any() and forgetful.array[:, 0].all()
    slopes = attention.alibi_attention_bias(H, Q)
    assert slopes.axes == (H, Q) and np.allclose(slopes, [[0, 1 / 16, 2 / 16], [0, 1 / 256, 2 / 256]])
    assert attention.dropout_mask((P, Q), 0.5, key=jax.random.key(0)).dtype == bool


def test_mlp():
    network = hnn.MLP.init(E, V, 6, 3, activation=hnn.gelu, key=jax.random.key(0))
    assert (network.In, network.Out) == (E, V)
    assert network(normal(0, B, E)).axes == (B, V)


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
