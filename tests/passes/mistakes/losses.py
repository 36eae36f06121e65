"""Mistakes in norms, statistics and losses."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from mistakes.pair import flags, ids, mistake


@mistake("position embed", x="batch=6 position=6 embed=6", scale="embed=6")
def a_layer_norm_that_lost_its_axis(wrong, x, scale):
    mean = x.mean(axis=-1, keepdims=not wrong)
    return (x - mean) * scale  # here


@mistake("batch channels", x="batch=4 height=5 width=6 channels=4", mean="channels=4")
def averages_of_a_batch_norm_over_the_channels(wrong, x, mean):
    return 0.9 * mean + 0.1 * x.mean((1, 2, 3) if wrong else (0, 1, 2))  # here


@mistake("batch features", x="batch=6 features=6")
def rows_divided_by_norms_of_columns(wrong, x):
    return x / jnp.linalg.norm(x, axis=1, keepdims=not wrong)  # here


@mistake("position vocab", logits="batch=2 position=6 vocab=6", labels=ids("batch=2 position=6"))
def labels_one_hot_along_the_positions(wrong, logits, labels):
    chosen = jax.nn.one_hot(labels, 6, axis=1 if wrong else -1)
    return -(chosen * jax.nn.log_softmax(logits)).sum(-1).mean()  # here


@mistake("position vocab", logits="batch=2 position=6 vocab=6", labels=ids("batch=2 position=6"))
def labels_smoothed_over_the_positions(wrong, logits, labels):
    logs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(logs, labels[..., None], axis=-1)[..., 0]
    return -(0.9 * chosen + 0.1 * logs.mean(axis=1 if wrong else 2)).mean()  # here


@mistake("batch vocab", logits="batch=6 vocab=6", labels=ids("batch=6"))
def log_softmax_over_the_batch(wrong, logits, labels):
    logs = jax.nn.log_softmax(logits, axis=0 if wrong else 1)  # here
    return -logs[jnp.arange(6), labels].mean()  # here


@mistake("position vocab", logits="batch=2 position=6 vocab=6", targets="batch=2 position=6 vocab=6")
def a_cross_entropy_over_the_positions(wrong, logits, targets):
    logs = jax.nn.log_softmax(logits, axis=1 if wrong else 2)  # here
    return -jnp.einsum("bpv,bpv->bp", logs, targets).mean()  # here


@mistake("batch negatives", x="batch=6 embed=4", others="batch=6 negatives=6 embed=4")
def negatives_of_other_queries(wrong, x, others):
    logits = jnp.einsum("be,bne->bn", x, others)
    return -jax.nn.log_softmax(logits, axis=0 if wrong else 1)[:, 0].mean()  # here


@mistake("batch position", loss="batch=4 position=6", real="batch=4 position=6")
def a_mean_of_means_of_unequal_weight(wrong, loss, real):
    if wrong:
        return ((loss * real).sum(1) / real.sum(1)).mean()  # here
    return (loss * real).sum() / real.sum()


@mistake("batch", a="batch=4 height=5 width=6", b="batch=4 height=5 width=6")
def a_mean_of_masked_means(wrong, a, b):
    if wrong:
        each = (a * b).sum((1, 2)) / b.sum((1, 2))  # here
        return each.mean()  # here
    return (a * b).sum() / b.sum()


@mistake("micro", loss="micro=4 batch=4 position=6", real="micro=4 batch=4 position=6")
def means_of_microbatches_averaged(wrong, loss, real):
    def of_one(total, now):
        one, weight = now
        if wrong:
            return total + (one * weight).sum() / weight.sum(), None  # here
        return total + (one * weight).sum() / real.sum(), None

    return lax.scan(of_one, 0.0, (loss, real))[0] / (4 if wrong else 1)  # here


@mistake("batch position", x="batch=4 position=6 embed=8", y="batch=4 position=6 embed=8")
def a_loss_that_grows_with_the_length(wrong, x, y):
    each = jnp.square(x - y).mean(axis=(0, 2))
    return each.sum() if wrong else each.mean()  # here


@mistake("batch", x="batch=6 embed=4", w="embed=4 out=1", target="batch=6")
def a_column_minus_a_row(wrong, x, w, target):
    prediction = x @ w
    return jnp.square((prediction if wrong else prediction[:, 0]) - target).mean()  # here


@mistake("batch position", loss="batch=6 position=6", weight="batch=6")
def weights_of_examples_given_to_positions(wrong, loss, weight):
    return (loss * (weight if wrong else weight[:, None])).mean()  # here


@mistake("position batch", logits="batch=6 position=6 vocab=5", labels=ids("position=6 batch=6"))
def labels_with_the_time_first(wrong, logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels if wrong else labels.T).mean()  # here


@mistake("batch position", loss="batch=6 position=6", real=flags("batch=6 position=6"))
def a_masked_mean_divided_by_counts_of_the_other_axis(wrong, loss, real):
    count = real.sum(axis=0 if wrong else 1)
    return (jnp.where(real, loss, 0.0).sum(axis=1) / count).sum()  # here


@mistake("members classes", logits="members=5 batch=4 classes=5", labels=ids("batch=4"))
def a_vote_over_the_classes(wrong, logits, labels):
    votes = jax.nn.softmax(logits).mean(axis=2 if wrong else 0)  # here
    votes = votes.T if wrong else votes
    return -jnp.take_along_axis(jnp.log(votes), labels[:, None], axis=1).mean()  # here


@mistake("student teacher", x="batch=4 student=6", y="batch=4 teacher=6", w="student=6 teacher=6")
def a_student_compared_with_the_teacher_unprojected(wrong, x, y, w):
    return optax.cosine_similarity(x if wrong else x @ w, y).mean()  # here
