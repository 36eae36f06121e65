"""The same mistakes as others write them: classes of per-example functions under `vmap`, fused projections, einsums,
channels-first code, `take_along_axis`, functional recurrent cells.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from mistakes.pair import flags, ids, mistake

B, T, H, D = 2, 4, 4, 4
X = "batch=2 position=4 embed=16"


# --- attention -------------------------------------------------------------------------------------------------------


@mistake("position", x=X, c_attn="embed=16 packed=48", c_proj="inner=16 embed=16")
def heads_that_are_merged_before_positions(wrong, x, c_attn, c_proj):
    q, k, v = (each.reshape(B, T, H, D).transpose(0, 2, 1, 3) for each in jnp.split(x @ c_attn, 3, axis=-1))
    weights = jax.nn.softmax((q @ k.transpose(0, 1, 3, 2)) / 2.0, axis=-1)
    y = weights @ v
    y = y if wrong else y.transpose(0, 2, 1, 3)
    return x + y.reshape(B, T, H * D) @ c_proj  # here


@mistake("position", x=X, c_attn="embed=16 packed=48", c_proj="inner=16 embed=16")
def softmax_over_queries_of_a_fused_projection(wrong, x, c_attn, c_proj):
    q, k, v = jnp.split(x @ c_attn, 3, axis=-1)
    q, k, v = (jnp.moveaxis(each.reshape(B, T, H, D), 2, 1) for each in (q, k, v))
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k)
    scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-2 if wrong else -1)  # here
    return jnp.moveaxis(weights @ v, 1, 2).reshape(B, T, H * D) @ c_proj


@mistake("position", x=X, wq="embed=16 heads=4 size=4", wk="embed=16 heads=4 size=4", wv="embed=16 heads=4 size=4")
def values_summed_by_the_index_of_the_query(wrong, x, wq, wk, wv):
    q, k, v = (jnp.einsum("btm,mhd->bthd", x, w) for w in (wq, wk, wv))
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))  # here
    return jnp.einsum("bhqk,bqhd->bkhd" if wrong else "bhqk,bkhd->bqhd", weights, v)  # here


@mistake("heads size", x=X, w="embed=16 three=3 heads=4 size=4", wo="heads=4 size=4 embed=16")
def qkv_with_the_heads_in_front(wrong, x, w, wo):
    packed = x @ w.reshape(16, -1)
    if wrong:
        q, k, v = jnp.moveaxis(packed.reshape(B, T, H, 3, D), 3, 0)  # here
    else:
        q, k, v = jnp.moveaxis(packed.reshape(B, T, 3, H, D), 2, 0)
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
    return jnp.einsum("bqhd,hde->bqe", jnp.einsum("bhqk,bkhd->bqhd", weights, v), wo)  # here


@mistake("heads size", x=X, w="embed=16 kv=2 heads=4 size=4", q="batch=2 position=4 heads=4 size=4")
def keys_and_values_packed_the_other_way(wrong, x, w, q):
    packed = x @ w.reshape(16, 32)
    shape = (B, T, H, 2, D) if wrong else (B, T, 2, H, D)
    k, v = jnp.split(packed.reshape(shape), 2, axis=3 if wrong else 2)  # here
    k, v = k.reshape(B, T, H, D), v.reshape(B, T, H, D)  # here
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))  # here
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v)  # here


@mistake("heads position", x=X, w="embed=16 three=3 heads=4 size=4", wo="inner=16 embed=16")
def attention_of_one_example_under_vmap(wrong, x, w, wo):
    def attend(row):
        q, k, v = jnp.einsum("tm,mchd->chtd", row, w)
        mixed = jax.vmap(lambda a, b, c: jax.nn.softmax(a @ b.T) @ c)(q, k, v)
        mixed = mixed if wrong else jnp.swapaxes(mixed, 0, 1)
        return row + mixed.reshape(T, H * D) @ wo  # here

    return jax.vmap(attend)(x)


@mistake("kv_heads group", q="batch=2 position=4 kv_heads=4 group=4 size=4", k="batch=2 memory=6 kv_heads=4 size=4")
def queries_grouped_by_the_other_factor(wrong, q, k):
    flat = q.reshape(B, T, 16, D)
    if wrong:
        return jnp.einsum("btgkd,bskd->bkgts", flat.reshape(B, T, 4, 4, D), k)  # here
    return jnp.einsum("btkgd,bskd->bkgts", flat.reshape(B, T, 4, 4, D), k)


@mistake("kv_heads group", q="batch=2 position=4 kv_heads=2 group=3 size=4", k="batch=2 memory=6 kv_heads=2 size=4")
def shared_keys_that_are_broadcast_in_front(wrong, q, k):
    shape = (B, 6, 3, 2, D) if wrong else (B, 6, 2, 3, D)
    wide = jnp.broadcast_to(jnp.expand_dims(k, 2 if wrong else 3), shape).reshape(B, 6, 6, D)
    return jnp.einsum("bthd,bshd->bhts", q.reshape(B, T, 6, D), wide)  # here


@mistake("kv_heads group", q="batch=2 kv_heads=2 group=3 position=4 size=4", k="batch=2 kv_heads=2 memory=6 size=4")
def shared_keys_that_are_concatenated(wrong, q, k):
    copies = jnp.concatenate([k] * 3, axis=1) if wrong else jnp.repeat(k, 3, axis=1)
    return q.reshape(B, 6, T, D) @ copies.swapaxes(-1, -2)  # here


@mistake("position", x=X, wq="embed=16 size=8", wk="embed=16 size=8", keep=flags("batch=2 position=4"))
def padding_mask_of_the_queries(wrong, x, wq, wk, keep):
    scores = jnp.einsum("bqd,bkd->bqk", x @ wq, x @ wk)
    mask = keep[:, :, None] if wrong else keep[:, None, :]
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e9), axis=-1)  # here
    return weights @ x


@mistake("heads position", scores="batch=2 heads=4 position=4 key_position=4", slopes="heads=4")
def slopes_of_heads_along_the_queries(wrong, scores, slopes):
    distance = -jnp.arange(4.0)
    bias = slopes[None, :, None] * distance if wrong else slopes[:, None, None] * distance
    return jax.nn.softmax(scores + bias)  # here


@mistake("heads position", q="batch=2 position=4 heads=4 size=8", cos="position=4 size=8")
def angles_along_the_heads(wrong, q, cos):
    turned = jnp.concatenate([-q[..., 4:], q[..., :4]], -1)
    angles = cos[None, None] if wrong else cos[None, :, None]
    return q * angles + turned * angles  # here


@mistake("size", q="batch=2 position=4 heads=3 size=8", angles="position=4 half=4")
def pairs_turned_by_angles_of_halves(wrong, q, angles):
    every = jnp.concatenate([angles, angles], -1) if wrong else jnp.repeat(angles, 2, -1)
    pairs = q.reshape(2, 4, 3, 4, 2)
    turned = jnp.stack([-pairs[..., 1], pairs[..., 0]], -1).reshape(q.shape)
    return q * jnp.cos(every)[:, None] + turned * jnp.sin(every)[:, None]  # here


@mistake("size", q="batch=2 position=4 heads=3 size=8", angles="position=4 half=4")
def halves_turned_by_angles_of_pairs(wrong, q, angles):
    first, second = jnp.split(q, 2, axis=-1)
    turned = jnp.concatenate([-second, first], axis=-1)
    every = jnp.stack([angles, angles], -1).reshape(4, 8) if wrong else jnp.tile(angles, (1, 2))
    return q * jnp.cos(every)[:, None] + turned * jnp.sin(every)[:, None]  # here


@mistake("position size", q="batch=2 position=4 size=4", k="batch=2 position=4 size=4", v="batch=2 position=4 out=6")
def normalizer_of_linear_attention(wrong, q, k, v):
    summary = jnp.einsum("btd,bte->bde", k, v)
    total = k.sum(2) if wrong else k.sum(1)
    return jnp.einsum("btd,bde->bte", q, summary) / jnp.einsum("btd,bd->bt", q, total)[..., None]  # here


@mistake("position", x="batch=2 position=4 embed=4", query="embed=4")
def pooling_weights_over_features(wrong, x, query):
    scores = jnp.einsum("btd,d->bt", x, query)
    weights = jax.nn.softmax(scores, axis=0 if wrong else 1)  # here
    return jnp.einsum("bt,btd->bd", weights, x)


@mistake("position memory", q="batch=2 position=4 size=8", k="batch=2 memory=4 size=8", v="batch=2 memory=4 size=8")
def scores_transposed_before_the_values(wrong, q, k, v):
    scores = lax.dot_general(q, k, (((2,), (2,)), ((0,), (0,))))
    scores = scores.mT if wrong else scores
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    return lax.batch_matmul(weights, v)  # here


# --- packed weights --------------------------------------------------------------------------------------------------


@mistake("mlp", x="batch=2 embed=6", w="embed=6 two=2 mlp=4", down="mlp=4 embed=6")
def gate_taken_from_every_second_place(wrong, x, w, down):
    h = x @ w.reshape(6, 8)
    gate, up = (h[..., ::2], h[..., 1::2]) if wrong else (h[..., :4], h[..., 4:])
    return (jax.nn.silu(gate) * up) @ down  # here


@mistake("gates", x="batch=2 inputs=6", h="batch=2 hidden=4", wi="inputs=6 gates=12", wh="hidden=4 gates=12")
def reset_and_update_exchanged(wrong, x, h, wi, wh):
    from_x, from_h = x @ wi, h @ wh
    first, second = (slice(4, 8), slice(0, 4)) if wrong else (slice(0, 4), slice(4, 8))
    r = jax.nn.sigmoid(from_x[:, :4] + from_h[:, first])  # here
    z = jax.nn.sigmoid(from_x[:, 4:8] + from_h[:, second])  # here
    n = jnp.tanh(from_x[:, 8:] + r * from_h[:, 8:])
    return (1 - z) * n + z * h


@mistake("gate hidden", x="batch=2 inputs=6", w="inputs=6 gate=4 hidden=4", c="batch=2 hidden=4")
def gates_unpacked_behind_the_hidden_units(wrong, x, w, c):
    packed = x @ w.reshape(6, 16)
    i, f, g, o = jnp.moveaxis(packed.reshape(2, 4, 4), 2 if wrong else 1, 0)  # here
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)  # here
    return jax.nn.sigmoid(o) * jnp.tanh(c)


@mistake("gate hidden", x="batch=2 inputs=6", w="inputs=6 gate=3 hidden=4", b="gate=3 hidden=4")
def bias_flattened_in_the_other_order(wrong, x, w, b):
    flat = b.T.reshape(-1) if wrong else b.reshape(-1)
    return x @ w.reshape(6, 12) + flat  # here


@mistake("experts capacity", dispatch="tokens=6 experts=4 capacity=4", outputs="experts=4 capacity=4 embed=8")
def experts_combined_along_their_capacity(wrong, dispatch, outputs):
    return jnp.einsum("tec,ced->td" if wrong else "tec,ecd->td", dispatch, outputs)  # here


@mistake("rank embed", x="batch=2 embed=4", a="embed=4 rank=4", b="rank=4 mlp=6", scale="rank=4")
def scale_of_the_rank_along_the_inputs(wrong, x, a, b, scale):
    return x @ (a * (scale[:, None] if wrong else scale)) @ b  # here


@mistake("heads size", y="batch=2 position=4 heads=4 size=4", wo="heads=4 size=4 embed=16")
def output_projection_with_swapped_labels(wrong, y, wo):
    return jnp.einsum("bthd,dhe->bte" if wrong else "bthd,hde->bte", y, wo)  # here


@mistake("heads size", y="batch=2 heads=4 position=5 size=4", wo="heads=4 size=4 embed=16")
def heads_merged_behind_their_size(wrong, y, wo):
    order = (0, 2, 3, 1) if wrong else (0, 2, 1, 3)
    return y.transpose(order).reshape(2, 5, 16) @ wo.reshape(16, 16)  # here


# --- norms, images, losses -------------------------------------------------------------------------------------------


@mistake("position embed", x="batch=2 position=4 embed=4", scale="embed=4")
def scale_along_the_positions(wrong, x, scale):
    normed = (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)
    return normed * (scale[:, None] if wrong else scale)  # here


@mistake("width channels", x="batch=2 height=6 width=4 channels=4", mean="channels=4")
def running_mean_of_channels_first_code(wrong, x, mean):
    batch_mean = x.mean((0, 1, 3) if wrong else (0, 1, 2))
    return 0.9 * mean + 0.1 * batch_mean  # here


@mistake("height filters", x="batch=2 grid=4 height=4 width=4 filters=4", bias="filters=4")
def bias_of_filters_along_the_rows(wrong, x, bias):
    return x + (bias.reshape(1, 1, 4, 1, 1) if wrong else bias.reshape(1, 1, 1, 1, 4))  # here


@mistake("rows", x="batch=2 rows=4 columns=6 up=2 across=2 channels=3", w="tall=8 wide=12 channels=3")
def pixels_shuffled_without_a_transpose(wrong, x, w):
    x = x if wrong else x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(2, 8, 12, 3) * w  # here


@mistake("height width", x="batch=2 height=8 width=12 channels=3", w="pixels=12 embed=5")
def patches_without_a_transpose(wrong, x, w):
    blocks = x.reshape(2, 4, 2, 6, 2, 3)
    blocks = blocks if wrong else blocks.transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(2, 24, 12) @ w  # here


@mistake("vocab position", logits="batch=2 position=6 vocab=6", labels=ids("batch=2 position=6"))
def log_probabilities_picked_along_the_positions(wrong, logits, labels):
    logp = jax.nn.log_softmax(logits, axis=-1)  # here
    if wrong:
        return -jnp.take_along_axis(logp, labels[:, None, :], axis=1).mean()  # here
    return -jnp.take_along_axis(logp, labels[..., None], axis=2).mean()


@mistake("classes", logits="batch=6 classes=6", labels=ids("batch=6"))
def one_hot_labels_summed_over_the_batch(wrong, logits, labels):
    logp = logits - jax.nn.logsumexp(logits, axis=0 if wrong else 1, keepdims=True)  # here
    return -(jax.nn.one_hot(labels, 6) * logp).sum(axis=1).mean()  # here


@mistake("position batch", loss="batch=4 position=8", weight="batch=4 position=8")
def sequences_that_count_alike(wrong, loss, weight):
    if wrong:
        of_each = jnp.sum(loss * weight, axis=-1) / jnp.maximum(jnp.sum(weight, axis=-1), 1.0)  # here
        return jnp.mean(of_each)  # here
    return jnp.sum(loss * weight) / jnp.maximum(jnp.sum(weight), 1.0)


@mistake("batch position", rewards="batch=4 position=4", last="batch=4")
def returns_along_the_batch(wrong, rewards, last):
    def back(carry, reward):
        total = reward + 0.9 * carry  # here
        return total, total

    return lax.scan(back, last, rewards if wrong else rewards.T, reverse=True)[1]  # here


@mistake("batch position", x="batch=4 position=4 embed=8", table="position=4 embed=8")
def positions_added_along_the_batch(wrong, x, table):
    return x + (table[:, None, :] if wrong else table[None, :, :])  # here


@mistake("position channels", x="batch=2 position=6 channels=6", kernel="width=3 channels=6 filters=5")
def features_in_the_place_of_time(wrong, x, kernel):
    numbers = ("NCW" if wrong else "NWC", "WIO", "NWC")
    return lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=numbers)  # here


@mistake("batch position", h="batch=4 position=4 embed=8", last=ids("batch=4"))
def last_state_with_exchanged_indices(wrong, h, last):
    rows = jnp.arange(h.shape[0])
    return h[last, rows] if wrong else h[rows, last]  # here


@mistake("batch position", x="batch=4 position=4 embed=8", scale="batch=4")
def mapped_over_the_other_axis(wrong, x, scale):
    return jax.vmap(lambda row, s: row * s, in_axes=(1 if wrong else 0, 0))(x, scale)  # here


@mistake("position embed", x="batch=2 position=6 embed=6", up="position=6 mixed=8", down="mixed=8 position=6")
def tokens_mixed_without_a_swap(wrong, x, up, down):
    y = x if wrong else jnp.swapaxes(x, -1, -2)
    y = jax.nn.gelu(y @ up) @ down  # here
    return x + (y if wrong else jnp.swapaxes(y, -1, -2))


@mistake("embed mlp", w="embed=4 mlp=4", average="embed=4 mlp=4")
def average_of_the_transposed_weight(wrong, w, average):
    return 0.99 * average + 0.01 * (w.T if wrong else w)  # here


@mistake("embed mlp", gradient="embed=4 mlp=4", rows="embed=4", columns="mlp=4")
def factored_moments_exchanged(wrong, gradient, rows, columns):
    moment = jnp.outer(columns, rows) if wrong else jnp.outer(rows, columns)
    return gradient / jnp.sqrt(moment + 1e-8)  # here


@mistake("batch embed", x="batch=6 embed=6", basis="embed=6 kept=3")
def covariance_of_the_examples(wrong, x, basis):
    centred = x - x.mean(0)
    covariance = (centred @ centred.T if wrong else centred.T @ centred) / 5.0
    return covariance @ basis  # here


@mistake("frames features", audio="batch=2 frames=8 features=8", w="stacked=16 embed=4", scale="features=8")
def features_scaled_along_the_frames(wrong, audio, w, scale):
    scaled = audio * (scale[None, :, None] if wrong else scale)  # here
    return scaled.reshape(2, 4, 16) @ w


@mistake("nodes mlp", nodes="nodes=6 embed=6", w="embed=6 mlp=6", senders=ids("edges=9"), weight="edges=9")
def messages_picked_from_features(wrong, nodes, w, senders, weight):
    h = nodes @ w
    sent = jnp.take(h, senders, axis=1).T if wrong else jnp.take(h, senders, axis=0)
    received = jax.ops.segment_sum(sent * weight[:, None], senders, num_segments=6)
    return received + h  # here
