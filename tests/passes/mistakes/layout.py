"""Mistakes in reshapes: elements that come from elsewhere than they should."""

import jax
import jax.numpy as jnp

from mistakes.pair import ids, mistake


@mistake("position embed", x="batch=2 position=6 embed=8", w="position=6 hidden=6")
def a_reshape_where_a_transpose_is_meant(wrong, x, w):
    turned = x.reshape(2, 8, 6) if wrong else x.swapaxes(1, 2)  # here
    return jnp.tanh(turned @ w)  # here


@mistake("batch position", x="batch=3 position=5 embed=8", w="embed=8 hidden=6")
def time_major_by_a_reshape(wrong, x, w):
    by_time = x.reshape(5, 3, 8) if wrong else x.transpose(1, 0, 2)  # here
    return jnp.max(by_time @ w, axis=0)


@mistake("position embed", x="batch=2 position=6 embed=8")
def frames_stacked_across_the_embedding(wrong, x):
    if wrong:
        x = x.swapaxes(1, 2)
    frames = x.reshape(2, 3, 16)  # here
    return jnp.square(frames).mean(axis=1)


@mistake("batch", x="batch=8 features=5", labels=ids("batch=8"))
def labels_of_another_microbatch(wrong, x, labels):
    micro = x.reshape(4, 2, 5)
    of_each = labels.reshape(2, 4).T if wrong else labels.reshape(4, 2)  # here
    chosen = jnp.take_along_axis(micro, of_each[..., None], axis=2)  # here
    return chosen.sum()


@mistake("batch beam", states="batch=4 beam=3 embed=8", w="embed=8 vocab=9", scores="batch=4 beam=3")
def beams_before_batches(wrong, states, w, scores):
    logits = jax.nn.log_softmax(states.reshape(12, 8) @ w)
    logits = logits.reshape(3, 4, 9).swapaxes(0, 1) if wrong else logits.reshape(4, 3, 9)  # here
    return (scores[:, :, None] + logits).reshape(4, 27)  # here


@mistake("batch", x="batch=4 features=5", labels=ids("batch=4"))
def samples_repeated_and_labels_tiled(wrong, x, labels):
    x = jnp.repeat(x, 3, axis=0)
    labels = jnp.tile(labels, 3) if wrong else jnp.repeat(labels, 3)  # here
    return jnp.take_along_axis(x, labels[:, None], axis=1).mean()  # here


@mistake("batch position", logits="batch=4 position=6 vocab=9", labels=ids("position=6 batch=4"))
def labels_flattened_time_first(wrong, logits, labels):
    flat = (labels if wrong else labels.T).reshape(-1)  # here
    chosen = jnp.take_along_axis(logits.reshape(24, 9), flat[:, None], axis=1)  # here
    return chosen.mean()


@mistake("channels height", x="batch=2 height=4 width=6 channels=8", scale="channels=8")
def groups_in_front_of_an_image_with_channels_last(wrong, x, scale):
    if wrong:
        grouped = x.reshape(2, 4, 2, 4, 6)  # here
        centered = grouped - grouped.mean((2, 3, 4), keepdims=True)
    else:
        grouped = x.reshape(2, 4, 6, 4, 2)
        centered = grouped - grouped.mean((1, 2, 4), keepdims=True)
    return centered.reshape(2, 4, 6, 8) * scale


@mistake("channels height", x="batch=2 height=3 width=4 channels=5", w="height=3 width=4 channels=5 classes=7")
def an_image_flattened_channels_first(wrong, x, w):
    flat = (jnp.transpose(x, (0, 3, 1, 2)) if wrong else x).reshape(2, 60)  # here
    return flat @ w.reshape(60, 7)  # here


@mistake("mlp", x="batch=2 embed=6", gate="embed=6 mlp=8", up="embed=6 mlp=8", down="mlp=8 embed=6")
def gate_and_up_interleaved(wrong, x, gate, up, down):
    hidden = x @ jnp.concatenate([gate, up], axis=1)
    if wrong:
        first, second = hidden[:, ::2], hidden[:, 1::2]  # here
    else:
        first, second = hidden[:, :8], hidden[:, 8:]
    return (jax.nn.silu(first) * second) @ down  # here


@mistake("heads batch", x="batch=4 heads=3 position=5 size=6", y="batch=4 heads=3 size=6 position=5")
def heads_of_the_batch_in_another_order(wrong, x, y):
    first = x.reshape(12, 5, 6)
    second = (y.swapaxes(0, 1) if wrong else y).reshape(12, 6, 5)  # here
    return jnp.einsum("nps,nsq->npq", first, second)  # here
