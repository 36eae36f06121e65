"""The output head of a language model and its loss.

The logits are by far the largest array of a small model, and of a large one at short sequences, so each line here is
about how often they are read, written or copied. They are made once, read for the maximum, and turned into
exponentials; the gradient is the exponentials times one number a position, and needs no other copy.
"""

from __future__ import annotations

from functools import partial

import haliax as hax
import jax
import jax.numpy as jnp
from haliax import Axis, NamedArray


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def output_logits(x: NamedArray, head: NamedArray, Embed: Axis) -> NamedArray:
    """The scores of all tokens.

    Args:
        x: [..., embed].
        head: [vocab, embed].

    Returns: float32 [..., vocab].
    """
    return hax.dot(x, head, axis=Embed, preferred_element_type=jnp.float32)


def _forward(x: NamedArray, head: NamedArray, Embed: Axis) -> tuple[NamedArray, tuple[NamedArray, NamedArray]]:
    return output_logits(x, head, Embed), (x, head)


def _backward(Embed: Axis, saved: tuple[NamedArray, NamedArray], gradient: NamedArray) -> tuple[NamedArray, NamedArray]:
    x, head = saved
    Vocab = head.axes[0]
    gradient = gradient.astype(x.dtype)
    rows = tuple(axis for axis in x.axes if axis != Embed)
    # JAX's own rule has the gradient on the left of this product, and to contract an operand's rows on the left XLA for
    # the CPU writes a transposed copy of it. On the right it is used as it lies, and only the result is transposed.
    to_head = hax.dot(x, gradient, axis=rows).rearrange((Vocab, Embed))
    return hax.dot(gradient, head, axis=Vocab), to_head


output_logits.defvjp(_forward, _backward)


def next_token_loss(x: NamedArray, head: NamedArray, targets: NamedArray, Embed: Axis) -> NamedArray:
    """Cross entropy in nats, one number per target.

    The target's score is a product of two vectors, not an element of the logits: its gradient then never passes
    through an array of the logits' size, and where `vocab` is sharded it is a lookup like that of an embedding.

    Args:
        x: [..., embed], the model's output.
        head: [vocab, embed].
        targets: int32 [...], token ids.

    Returns: float32 [...].
    """
    Vocab = head.axes[0]
    logits = output_logits(x, head, Embed)
    highest = jax.lax.stop_gradient(hax.max(logits, Vocab))
    log_normalizer = hax.log(hax.sum(hax.exp(logits - highest), Vocab)) + highest
    of_targets = head.take(Vocab, targets)
    return log_normalizer - hax.dot(x, of_targets, axis=Embed, preferred_element_type=jnp.float32)
