"""Mistakes in products and sums of arrays."""

import jax
import jax.numpy as jnp
from jax import lax

from mistakes.pair import mistake


@mistake("batch features", x="batch=6 features=6", b="features=6")
def a_bias_along_the_batch(wrong, x, b):
    return x + (b[:, None] if wrong else b)  # here


@mistake("embed mlp", x="batch=2 embed=6", w="embed=6 mlp=6")
def a_square_weight_transposed(wrong, x, w):
    return jax.nn.relu(x @ (w.T if wrong else w))  # here


@mistake("embed mlp", x="batch=2 position=3 embed=6", w="embed=6 mlp=6")
def a_dot_general_over_the_wrong_axis(wrong, x, w):
    return lax.dot_general(x, w, (((2,), (1 if wrong else 0,)), ((), ())))  # here


@mistake("vocab embed", x="batch=2 position=3 embed=6", table="vocab=6 embed=6")
def tied_embeddings_that_are_not_transposed(wrong, x, table):
    return jax.nn.log_softmax(x @ (table if wrong else table.T))  # here


@mistake("samples features", x="samples=6 features=6", direction="features=6")
def a_covariance_of_the_samples(wrong, x, direction):
    centered = x - x.mean(axis=0)
    spread = (centered @ centered.T if wrong else centered.T @ centered) / 5.0  # here
    return spread @ direction  # here


@mistake("samples features", x="samples=6 features=6", y="samples=6")
def a_kernel_of_the_features(wrong, x, y):
    kernel = x.T @ x if wrong else x @ x.T  # here
    return jnp.tanh(kernel) @ y  # here


@mistake("tokens expert", gates="tokens=6 expert=6", outputs="expert=6 tokens=6 embed=4")
def experts_combined_along_the_tokens(wrong, gates, outputs):
    return jnp.einsum("et,etd->td" if wrong else "te,etd->td", gates, outputs)  # here


@mistake("tokens expert", send="tokens=6 expert=6 capacity=3", x="tokens=6 embed=4")
def tokens_sent_by_the_expert(wrong, send, x):
    return jnp.einsum("etc,td->ecd" if wrong else "tec,td->ecd", send, x)  # here


@mistake("position embed", x="batch=2 position=6 embed=6", w="position=6 mixed=6", back="mixed=6 position=6")
def a_residual_of_transposed_values(wrong, x, w, back):
    mixed = jnp.tanh(jnp.swapaxes(x, 1, 2) @ w) @ back
    return x + (mixed if wrong else jnp.swapaxes(mixed, 1, 2))  # here


@mistake("rank embed", x="batch=2 embed=6", a="embed=6 rank=6", b="rank=6 embed=6")
def a_low_rank_update_in_the_wrong_order(wrong, x, a, b):
    return x + (x @ b @ a if wrong else x @ a @ b)  # here


@mistake("batch classes", x="batch=6 features=5", w="features=5 classes=6", b="classes=6")
def logits_that_are_transposed(wrong, x, w, b):
    logits = jnp.einsum("bf,fc->cb" if wrong else "bf,fc->bc", x, w)
    return logits + b  # here


@mistake("source target", adjacency="target=6 source=6", x="source=6 embed=4", skip="target=6 embed=4")
def messages_sent_against_the_edges(wrong, adjacency, x, skip):
    return skip + (adjacency.T if wrong else adjacency) @ x  # here


@mistake("heads size", x="batch=2 heads=6 size=6", w="heads=6 size=6")
def a_weight_of_each_head_transposed(wrong, x, w):
    return (x * jnp.moveaxis(w, 0, 1 if wrong else 0)).sum(-1)  # here


@mistake("embed mlp", w="embed=6 mlp=6", m="embed=6 mlp=6", x="batch=3 embed=6", y="batch=3 mlp=6")
def a_gradient_by_hand_that_is_transposed(wrong, w, m, x, y):
    error = x @ w - y
    gradient = error.T @ x if wrong else x.T @ error
    return w - 0.1 * (0.9 * m + gradient)  # here
