"""Mistakes in lookups, updates and sorts."""

import jax
import jax.numpy as jnp

from mistakes.pair import flags, ids, mistake


@mistake("batch position", x="batch=6 position=6 embed=4", last=ids("batch=6"))
def the_last_state_of_each_with_its_indices_swapped(wrong, x, last):
    rows = jnp.arange(6)
    return x[last, rows] if wrong else x[rows, last]  # here


@mistake("position vocab", scores="batch=2 position=6 vocab=6", labels=ids("batch=2 position=6"))
def the_labels_taken_along_the_positions(wrong, scores, labels):
    if wrong:
        return jnp.take_along_axis(scores, labels[:, None, :], axis=1)[:, 0].sum(1)  # here
    return jnp.take_along_axis(scores, labels[..., None], axis=2)[..., 0].sum(1)


@mistake("vocab position", tokens=ids("batch=2 position=6"), words="vocab=6 embed=4", places="position=6 embed=4")
def tokens_in_the_table_of_positions(wrong, tokens, words, places):
    x = words[tokens]
    return x + (places[tokens] if wrong else places[jnp.arange(6)])  # here


@mistake("batch position", x="batch=6 position=6 embed=4", places="position=6 embed=4")
def positions_added_along_the_batch(wrong, x, places):
    return x + (places[:, None] if wrong else places[None, :])  # here


@mistake("expert embed", x="tokens=6 embed=6", choice=ids("tokens=6"), w="expert=6 embed=6 mlp=4")
def experts_taken_from_the_embedding(wrong, x, choice, w):
    chosen = jnp.take(w, choice, axis=1 if wrong else 0)  # here
    return jnp.einsum("te,tem->tm", x, chosen)  # here


@mistake("centers points", points="points=6 embed=3", centers="centers=6 embed=3")
def the_nearest_point_of_each_center(wrong, points, centers):
    apart = jnp.square(points[:, None] - centers[None]).sum(-1)
    nearest = apart.argmin(axis=0 if wrong else 1)  # here
    return jnp.square(points - centers[nearest]).sum()  # here


@mistake("centers points", points="points=6 embed=3", centers="centers=6 embed=3")
def points_added_to_the_sums_of_the_wrong_clusters(wrong, points, centers):
    apart = jnp.linalg.norm(points[:, None] - centers, axis=-1)
    nearest = jnp.argmin(apart, 0 if wrong else 1)  # here
    return jax.ops.segment_sum(points, nearest, 6)  # here


@mistake("nodes edges", x="nodes=6 embed=4", edges="edges=6 embed=4", senders=ids("edges=6"))
def nodes_added_to_edges(wrong, x, edges, senders):
    return jax.nn.relu((x if wrong else x[senders]) + edges)  # here


@mistake("position vocab", logits="batch=2 position=6 vocab=6", labels=ids("batch=2 position=6"))
def the_best_position_of_each_word(wrong, logits, labels):
    return (logits.argmax(axis=1 if wrong else -1) == labels).mean()  # here


@mistake("batch classes", each="batch=6", weights="classes=6", labels=ids("batch=6"))
def class_weights_multiplied_with_the_batch(wrong, each, weights, labels):
    return (each * (weights if wrong else weights[labels])).mean()  # here


@mistake("batch position", real=flags("batch=6 position=6"), places="position=6 embed=4")
def positions_counted_along_the_batch(wrong, real, places):
    counted = jnp.cumsum(real.astype(jnp.int32), axis=0 if wrong else 1) - 1  # here
    return places[counted]  # here


@mistake("heads position", x="batch=2 heads=5 position=5 size=3", values="batch=2 position=5 size=3", at=ids("batch=2"))
def values_written_into_a_head(wrong, x, values, at):
    rows = jnp.arange(2)
    if wrong:
        return x.at[rows, :, at].add(values)  # here
    return x.at[rows, at].add(values)


@mistake("batch features", x="batch=6 features=6", order=ids("batch=6"))
def a_batch_shuffled_by_its_features(wrong, x, order):
    shuffled = jnp.take(x, order, axis=1 if wrong else 0)  # here
    return jnp.square(shuffled - x[order]).sum()  # here
