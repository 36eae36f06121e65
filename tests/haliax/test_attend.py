"""`attend`: every backend against a float64 oracle written with plain loops over rows, for every mask."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
import haliax.nn as hnn
from haliax import NamedArray
from haliax.nn.attention import AttentionMask, attend

BACKENDS = ("auto", "reference")

B, P, K, H, G, D = hax.make_axes(batch=2, position=7, key_position=9, kv_heads=2, group=3, head_size=4)
QUERY, KEY = (B, P, H, G, D), (B, K, H, D)


def inputs(query=QUERY, key=KEY, value=None, dtype=jnp.float32, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    axes = (query, key, key if value is None else value)
    return [hax.random.normal(k, a).astype(dtype) for k, a in zip(keys, axes, strict=True)]


def oracle(query, key, value, mask, scale=None, softcap=None):
    q = np.asarray(query.rearrange(QUERY).array, np.float64)
    k, v = (np.asarray(a.rearrange(KEY).array, np.float64) for a in (key, value))
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for b in range(B.size):
        for p in range(P.size):
            allowed = visible_keys(mask, b, p)
            for h in range(H.size):
                for g in range(G.size):
                    scores = k[b, :, h] @ q[b, p, h, g] * (1 / math.sqrt(D.size) if scale is None else scale)
                    if softcap is not None:
                        scores = softcap * np.tanh(scores / softcap)
                    weights = np.exp(scores - scores.max()) * allowed
                    out[b, p, h, g] = (weights / weights.sum()) @ v[b, :, h]
    return out


def visible_keys(mask, b, p):
    if mask is None:
        return np.ones(K.size, bool)
    if isinstance(mask, NamedArray):
        return np.asarray(mask.broadcast_axis((B, P, K)).rearrange((B, P, K)).array)[b, p]

    def of(part, default):
        part = default if part is None else part
        return int(part["batch", b].array) if isinstance(part, NamedArray) else int(part)

    keys, at, allowed = np.arange(K.size), p + of(mask.starts, 0), np.ones(K.size, bool)
    if mask.causal:
        allowed &= keys <= at
    if of(mask.window, 0) > 0:
        allowed &= (keys <= at) & (at - keys < of(mask.window, 0))
    allowed |= keys < of(mask.prefix, 0)
    if mask.segments is not None:
        own, keys = (each.broadcast_axis(B) for each in mask.segments)
        allowed = allowed & (np.asarray(keys["batch", b].array) == int(own["batch", b]["position", p].array))
    return allowed


SEGMENTS = (hax.named([0, 0, 0, 1, 1, 2, 2], "position"), hax.named([0, 0, 1, 1, 1, 1, 2, 2, 2], "key_position"))
MASKS = {
    "none": None,
    "causal": AttentionMask(causal=True),
    "window": AttentionMask(causal=True, window=3),
    "window alone": AttentionMask(window=3),
    "traced window": AttentionMask(causal=True, window=jnp.array(2)),
    "traced window of none": AttentionMask(causal=True, window=jnp.array(0)),
    "negative window": AttentionMask(causal=True, window=-1),
    "prefix": AttentionMask(causal=True, prefix=4),
    "prefix by batch": AttentionMask(causal=True, prefix=hax.named([0, 5], "batch")),
    "prefix and window": AttentionMask(causal=True, window=2, prefix=2),
    "start": AttentionMask(causal=True, starts=2),
    "traced start": AttentionMask(causal=True, starts=jnp.array(1)),
    "starts by batch": AttentionMask(causal=True, window=4, starts=hax.named([0, 2], "batch")),
    "segments": AttentionMask(segments=SEGMENTS),
    "causal segments": AttentionMask(causal=True, starts=2, segments=SEGMENTS),
    "segments by batch": AttentionMask(
        segments=(
            SEGMENTS[0].broadcast_axis(B),
            hax.stack(B, [SEGMENTS[1], hax.named([2, 1, 1, 0, 0, 1, 1, 2, 0], "key_position")]),
        )
    ),
    "array": hnn.attention.causal_mask(P, K, q_start=1),
    "key padding": hax.arange(K) < hax.named([3, 9], "batch").broadcast_axis(K),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_backend_gives_what_the_definition_gives(backend, mask):
    q, k, v = inputs()
    for options in ({}, {"scale": 0.3}, {"softcap": 0.7}):
        out = jax.jit(partial(attend, Key=D, KPos=K, backend=backend, **options))(q, k, v, mask=mask)
        assert out.axes == QUERY
        np.testing.assert_allclose(out.array, oracle(q, k, v, mask, **options), atol=2e-6)


def test_the_axes_may_be_in_any_order():
    q, k, v = inputs()
    expected = attend(q, k, v, Key=D, KPos=K, mask=MASKS["start"])
    for order, key_order, value_order in (
        ((D, G, H, P, B), (D, H, K, B), (H, K, D, B)),
        ((P, D, B, H, G), (K, B, D, H), (B, D, K, H)),
    ):
        for function in (lambda f: f, jax.jit):
            out = function(lambda *a: attend(*a, Key=D, KPos=K, mask=MASKS["start"]))(
                q.rearrange(order), k.rearrange(key_order), v.rearrange(value_order)
            )
            assert out.axes == order
            np.testing.assert_allclose(out.rearrange(QUERY).array, expected.array, atol=1e-6)


def test_it_is_the_formula_that_was_written_out_in_gpt2_to_the_bit():
    q, k, v = inputs()

    def written_out(q, k, v):
        scores = hax.dot(q, k, axis=D) / math.sqrt(D.size)
        causal = hax.arange(K).broadcast_axis(P) <= hax.arange(P)
        scores = hax.where(causal, scores.astype(jnp.float32), -1e9)
        return hax.dot(hnn.softmax(scores, axis=K).astype(q.dtype), v, axis=K)

    def function(q, k, v):
        return attend(q, k, v, Key=D, KPos=K, mask=AttentionMask(causal=True), backend="reference")

    def results(f):
        def loss(arrays):
            return (f(*arrays) ** 2).sum().scalar()

        return jax.jit(lambda arrays: (f(*arrays).rearrange(QUERY).array, jax.grad(loss)(arrays)))((q, k, v))

    for a, b in zip(jax.tree.leaves(results(written_out)), jax.tree.leaves(results(function)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_scores_of_half_precision_are_in_float32():
    q, k, v = inputs(dtype=jnp.bfloat16)
    out = attend(q, k, v, Key=D, KPos=K, mask=AttentionMask(causal=True))
    assert out.dtype == jnp.bfloat16
    wide = attend(*(each.astype(jnp.float32) for each in (q, k, v)), Key=D, KPos=K, mask=AttentionMask(causal=True))
    np.testing.assert_allclose(out.array.astype(jnp.float32), wide.array, atol=2e-2)


def test_a_query_that_sees_nothing_gives_finite_numbers_and_gradients():
    q, k, v = inputs()
    nothing = AttentionMask(causal=True, starts=-3)

    def loss(arrays):
        return (attend(*arrays, Key=D, KPos=K, mask=nothing) ** 2).sum().scalar()

    value, gradients = jax.jit(jax.value_and_grad(loss))((q, k, v))
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_vectors_of_the_values_may_be_of_another_axis():
    V = hax.Axis("value_size", 5)
    q, k, v = inputs(value=(B, K, H, V))
    out = attend(q, k, v, Key=D, KPos=K)
    assert out.axes == (B, P, H, G, V)
    same_name = attend(q, k, v.rename({"value_size": "head_size"}), Key=D, KPos=K)
    assert same_name.axes == (B, P, H, G, D.resize(5))
    np.testing.assert_array_equal(out.array, same_name.array)


def test_keys_may_have_axes_that_the_queries_lack():
    q, k, v = inputs(query=(P, H, G, D))
    out = attend(q, k, v, Key=D, KPos=K)
    expected = attend(q.broadcast_axis(B), k, v, Key=D, KPos=K)
    np.testing.assert_array_equal(out.rearrange(expected.axes).array, expected.array)


def test_the_positions_of_the_queries_are_found_or_said():
    T, S, X = hax.make_axes(time=4, key_time=4, extra=2)
    q, k, v = inputs(query=(X, T, D), key=(S, D))
    mask = AttentionMask(causal=True)
    found = attend(q, k, v, Key=D, KPos=S, mask=mask)
    said = attend(q.rename({"time": "t"}), k, v, Key=D, KPos=S, mask=mask, QPos="t")
    np.testing.assert_array_equal(found.array, said.array)
