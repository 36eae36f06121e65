"""Mistakes in attention."""

import jax
import jax.numpy as jnp

import haliax as hax
from haliax.nn.attention import attend
from mistakes.pair import flags, ids, mistake

X, WEIGHT = "batch=2 position=6 embed=16", "embed=16 inner=16"


@mistake("position inner", x=X, wq=WEIGHT, wk=WEIGHT, wv=WEIGHT, wo="inner=16 embed=16")
def heads_split_off_without_a_transpose(wrong, x, wq, wk, wv, wo):
    def heads(y):
        if wrong:
            return y.reshape(2, 4, 6, 4)  # here
        return y.reshape(2, 6, 4, 4).transpose(0, 2, 1, 3)

    q, k, v = heads(x @ wq), heads(x @ wk), heads(x @ wv)
    weights = jax.nn.softmax(q @ k.swapaxes(2, 3) / 2.0)
    mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(2, 6, 16)
    return x + mixed @ wo


@mistake(
    "heads position", x=X, wq="embed=16 heads=4 size=4", wv="embed=16 heads=4 size=4", wo="heads=4 size=4 embed=16"
)
def heads_joined_without_transposing_back(wrong, x, wq, wv, wo):
    q, v = (jnp.einsum("bpe,ehs->bhps", x, w) for w in (wq, wv))
    weights = jax.nn.softmax(jnp.einsum("bhps,bhqs->bhpq", q, q))
    mixed = jnp.einsum("bhpq,bhqs->bhps", weights, v)
    flat = (mixed if wrong else jnp.moveaxis(mixed, 1, 2)).reshape(2, 6, 16)  # here
    return x + flat @ wo.reshape(16, 16)


@mistake("heads size", x=X, w="embed=16 heads=4 size=4", wo="heads=4 size=4 embed=16")
def sizes_merged_before_heads(wrong, x, w, wo):
    heads = jnp.einsum("bpe,ehs->bpsh" if wrong else "bpe,ehs->bphs", x, w)  # here
    return heads.reshape(2, 6, 16) @ wo.reshape(16, 16)  # here


@mistake("inner", x=X, wv=WEIGHT, wo="inner=16 embed=16")
def sizes_merged_before_heads_of_a_packed_weight(wrong, x, wv, wo):
    v = (x @ wv).reshape(2, 6, 2, 8)
    weights = jax.nn.softmax(jnp.einsum("bphs,bqhs->bhpq", v, v))
    mixed = jnp.einsum("bhpq,bqhs->bpsh" if wrong else "bhpq,bqhs->bphs", weights, v)  # here
    return mixed.reshape(2, 6, 16) @ wo  # here


@mistake("three heads", x=X, w="embed=16 three=3 heads=3 size=4")
def qkv_split_on_the_wrong_side(wrong, x, w):
    packed = (x @ w.reshape(16, 36)).reshape(2, 6, 3, 3, 4)  # here
    q, k, v = jnp.moveaxis(packed, 3 if wrong else 2, 0)  # here
    weights = jax.nn.softmax(jnp.einsum("bphs,bqhs->bhpq", q, k))  # here
    mixed = jnp.einsum("bhpq,bqhs->bphs", weights, v)  # here
    return jnp.einsum("bphs,ehs->bpe", mixed, w[:, 0])  # here


@mistake("position memory", x="batch=2 position=6 embed=8", memory="batch=2 memory=6 embed=8")
def queries_and_keys_swapped(wrong, x, memory):
    q, k = (memory, x) if wrong else (x, memory)
    weights = jax.nn.softmax(jnp.einsum("bqe,bke->bqk", q, k))
    return x + jnp.einsum("bqk,bke->bqe", weights, memory)  # here


@mistake("position", x="batch=2 position=6 embed=8", wq="embed=8 size=4", wk="embed=8 size=4", wv="embed=8 out=4")
def values_summed_by_the_index_of_the_query(wrong, x, wq, wk, wv):
    weights = jax.nn.softmax((x @ wq) @ jnp.swapaxes(x @ wk, 1, 2), axis=-1)  # here
    return jnp.einsum("bqk,bqo->bko" if wrong else "bqk,bko->bqo", weights, x @ wv)  # here


@mistake("position", x="batch=2 position=6 embed=8", wq="embed=8 size=4", wk="embed=8 size=4", wv="embed=8 out=4")
def softmax_over_the_queries(wrong, x, wq, wk, wv):
    scores = jnp.einsum("bqs,bks->bqk", x @ wq, x @ wk)
    weights = jax.nn.softmax(scores, axis=1 if wrong else 2)  # here
    return weights @ (x @ wv)  # here


@mistake("heads position", x="batch=2 position=6 embed=8", w="embed=8 heads=3 size=4")
def softmax_over_the_heads(wrong, x, w):
    q = jnp.einsum("bpe,ehs->bhps", x, w)
    weights = jax.nn.softmax(q @ q.mT, axis=1 if wrong else -1)  # here
    return weights @ q  # here


@mistake(
    "position memory",
    x="batch=2 position=6 size=8",
    y="batch=2 memory=6 size=8",
    mask=flags("batch=2 position=6 memory=6"),
)
def a_mask_that_is_transposed(wrong, x, y, mask):
    scores = jax.lax.dot_general(x, y, (((2,), (2,)), ((0,), (0,))))
    scores = jnp.where(mask.transpose(0, 2, 1) if wrong else mask, scores, -1e9)  # here
    return jax.nn.softmax(scores) @ y


@mistake("position key_position", x="batch=2 position=6 size=8", mask=flags("batch=2 position=6 key_position=6"))
def a_mask_of_self_attention_that_is_transposed(wrong, x, mask):
    scores = x @ x.mT
    weights = jax.nn.softmax(scores + jnp.where(mask.mT if wrong else mask, 0.0, -1e9))  # here
    return weights @ x  # here


@mistake("position", x="batch=2 position=6 size=8", real=flags("batch=2 position=6"))
def padding_masked_along_the_queries(wrong, x, real):
    scores = jnp.einsum("bqs,bks->bqk", x, x)
    masked = jnp.where(real[:, :, None] if wrong else real[:, None, :], scores, -1e9)  # here
    return jax.nn.softmax(masked) @ x  # here


@mistake("batch heads", x="batch=4 heads=4 position=6 size=8", real=flags("batch=4 position=6"))
def a_padding_mask_without_its_head_axis(wrong, x, real):
    scores = x @ x.swapaxes(-1, -2)
    masked = jnp.where(real[:, None, :] if wrong else real[:, None, None, :], scores, -1e9)  # here
    return jax.nn.softmax(masked) @ x


@mistake(
    "kv_heads group",
    q="batch=2 position=6 kv_heads=2 group=3 size=8",
    k="batch=2 position=6 kv_heads=2 size=8",
)
def keys_tiled_for_groups_of_queries(wrong, q, k):
    q = q.reshape(2, 6, 6, 8)
    k = jnp.tile(k, (1, 1, 3, 1)) if wrong else jnp.repeat(k, 3, axis=2)  # here
    weights = jax.nn.softmax(jnp.einsum("bqhs,bkhs->bhqk", q, k))  # here
    return jnp.einsum("bhqk,bkhs->bqhs", weights, k)


@mistake(
    "kv_heads group",
    x="batch=2 position=6 embed=16",
    wq="embed=16 kv_heads=2 group=3 size=4",
    wk="embed=16 kv_heads=2 size=4",
)
def groups_of_queries_on_the_wrong_side(wrong, x, wq, wk):
    q, k = x @ wq.reshape(16, 24), (x @ wk.reshape(16, 8)).reshape(2, 6, 2, 4)
    q = q.reshape(2, 6, 3, 2, 4).swapaxes(2, 3) if wrong else q.reshape(2, 6, 2, 3, 4)  # here
    return jax.nn.softmax(jnp.einsum("bqngs,bkns->bngqk", q, k))  # here


def _halves_turned(x):
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([-second, first], axis=-1)


def _pairs_turned(x):
    return jnp.stack([-x[..., 1::2], x[..., ::2]], axis=-1).reshape(x.shape)


@mistake("size", x="batch=2 position=6 size=8", frequencies="half=4")
def rotary_angles_repeated_for_halves(wrong, x, frequencies):
    angles = jnp.outer(jnp.arange(6), frequencies)
    angles = jnp.repeat(angles, 2, axis=-1) if wrong else jnp.concatenate([angles, angles], axis=-1)  # here
    return x * jnp.cos(angles) + _halves_turned(x) * jnp.sin(angles)  # here


@mistake("size", x="batch=2 position=6 size=8", frequencies="half=4")
def rotary_angles_concatenated_for_pairs(wrong, x, frequencies):
    angles = jnp.arange(6.0)[:, None] * frequencies
    angles = jnp.concatenate([angles, angles], axis=-1) if wrong else jnp.repeat(angles, 2, -1)  # here
    return x * jnp.cos(angles) + _pairs_turned(x) * jnp.sin(angles)  # here


@mistake(
    "heads length",
    cache="batch=2 heads=6 length=6 size=4",
    key="batch=2 heads=6 size=4",
    at=ids(""),
)
def a_cache_written_at_the_heads(wrong, cache, key, at):
    if wrong:
        return cache.at[:, at].set(key)  # here
    return cache.at[:, :, at].set(key)


@mistake(
    "cache new",
    cache="batch=2 heads=2 cache=6 size=4",
    key="batch=2 heads=2 new=6 size=4",
)
def keys_appended_to_the_heads(wrong, cache, key):
    keys = jnp.concatenate([cache, key], axis=1 if wrong else 2)  # here
    return keys.sum(axis=(1, 2))


@mistake("heads position", x="batch=2 position=4 heads=4 size=8", bias="heads=4 position=4 key_position=4")
def a_bias_with_heads_at_the_end(wrong, x, bias):
    scores = jnp.einsum("bqhs,bkhs->bhqk", x, x)
    return jax.nn.softmax(scores + (jnp.moveaxis(bias, 0, -1) if wrong else bias))  # here


@mistake("heads", scores="batch=2 heads=6 position=6 key_position=6", table="distance=11 heads=6")
def relative_positions_looked_up_and_not_transposed(wrong, scores, table):
    apart = jnp.arange(6)[:, None] - jnp.arange(6)[None] + 5
    bias = table[apart]
    return scores + (bias if wrong else bias.transpose(2, 0, 1))  # here


@mistake("position memory", x="batch=2 position=6 size=8", memory="batch=2 memory=6 size=8")
def values_of_the_other_sequence(wrong, x, memory):
    weights = jax.nn.softmax(jnp.matmul(x, memory.mT))
    return jnp.matmul(weights, x if wrong else memory)  # here


@mistake("batch heads", scores="batch=2 heads=4 position=6 key_position=6", mask=flags("batch=2 key_position=6"))
def a_mask_tiled_over_heads(wrong, scores, mask):
    scores = scores.reshape(8, 6, 6)
    mask = jnp.tile(mask, (4, 1)) if wrong else jnp.repeat(mask, 4, axis=0)  # here
    return jax.nn.softmax(jnp.where(mask[:, None], scores, -1e9))  # here


def attended(query, key, value, mask=None):
    """`haliax.nn.attention.attend` to what is remembered."""
    out = attend(query, key, value, Key="size", KPos="memory", mask=mask)
    return out.rearrange(("batch", "position", "heads", "size")).array


QUERY, KEY = ("batch", "position", "heads", "size"), ("batch", "memory", "heads", "size")
HEADS = "batch=2 position=6 heads=6 size=8"
MEMORY = "batch=2 memory=6 heads=6 size=8"


@mistake("heads position", q="batch=2 heads=6 position=6 size=8", k=MEMORY)
def queries_given_to_attend_with_heads_in_the_place_of_positions(wrong, q, k):
    query = hax.named(q if wrong else q.swapaxes(1, 2), QUERY)  # here
    return attended(query, hax.named(k, KEY), hax.named(k, KEY))


@mistake("position memory", q=HEADS, k=MEMORY, real=flags("batch=2 position=6"), seen=flags("batch=2 memory=6"))
def attend_with_the_padding_of_the_queries(wrong, q, k, real, seen):
    mask = hax.named(real if wrong else seen, ("batch", "memory"))  # here
    return attended(hax.named(q, QUERY), hax.named(k, KEY), hax.named(k, KEY), mask)


@mistake("context memory", q=HEADS, k=MEMORY, v="batch=2 context=6 heads=6 size=8")
def attend_to_the_values_of_something_else(wrong, q, k, v):
    value = hax.named(v if wrong else 2.0 * k, KEY)  # here
    return attended(hax.named(q, QUERY), hax.named(k, KEY), value)
