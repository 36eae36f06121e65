"""The loss of a language model, from its output to cross entropy, with its gradient by hand.

The logits are by far the largest array of a small model, and of a large one with short sequences, so what counts is how
often they are read, written or copied. Going forward they are made once, read for the maximum, and turned into
exponentials; going back those are read once and become the gradient. Left to automatic differentiation it takes twice
the memory: the target's pick becomes a second array of that size, and one more is a transposed copy (see `_backward`).

A negative target is one that nothing is learned from: the prompt of a conversation, padding. Its loss is 0 and so is
its gradient, and a mean does not count it (`mean_loss`).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

import haliax as hax
from haliax import Axis, NamedArray

IGNORED = -1
"""The target of a place that nothing is learned from; any negative number means the same."""
LOWEST = float(jnp.finfo(jnp.float32).min)
"""The score of an id that is padding of the vocabulary: softmax turns it into exactly 0, and it is finite."""

Saved = tuple[NamedArray, NamedArray, NamedArray, NamedArray, NamedArray, NamedArray]


class _Options(NamedTuple):
    Embed: Axis
    vocab_size: int | None
    z_loss: float
    softcap: float | None
    dtype: str


def output_logits(
    x: NamedArray, head: NamedArray, Embed: Axis, vocab_size: int | None = None, softcap: float | None = None
) -> NamedArray:
    """The scores of all tokens: x [..., embed] and head [vocab, embed] → float32 [..., vocab].

    Args:
        vocab_size: ids from here on are padding and get `LOWEST`; None where there is no padding.
        softcap: scores are bounded by it, `softcap * tanh(scores / softcap)` (Gemma 2, 2024); None bounds nothing.
    """
    scores = hax.dot(x, head, axis=Embed, preferred_element_type=jnp.float32)
    return _without_padding(_capped(scores, softcap), head.axes[0], vocab_size)


def next_token_loss(
    x: NamedArray,
    head: NamedArray,
    targets: NamedArray,
    Embed: Axis,
    vocab_size: int | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    dtype: str = "float32",
) -> NamedArray:
    """Cross entropy in nats, one number per target; 0 where the target is negative.

    Args:
        x: [..., embed], the model's output.
        head: [vocab, embed].
        targets: int32 [...], token ids below `vocab_size`, or negative where nothing is to be learned.
        vocab_size, softcap: see `output_logits`.
        z_loss: this times the square of the logarithm of softmax's normalizer is added, which keeps it near 1 (PaLM,
            Chowdhery et al., 2022, section 5).
        dtype: what is kept of the scores for the backward pass. The loss itself does not depend on it.

    Returns: float32 [...].
    """
    return _loss(x, head, targets, _Options(Embed, vocab_size, z_loss, softcap, dtype))


def mean_loss(losses: NamedArray, targets: NamedArray) -> jax.Array:
    """The mean of losses [...] over the targets [...] that are not negative, a float32 scalar; 0 where all are."""
    learned = targets >= 0
    total = hax.sum(hax.where(learned, losses, 0.0)).scalar()
    return total / jnp.maximum(hax.sum(learned.astype(jnp.float32)).scalar(), 1.0)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _loss(x: NamedArray, head: NamedArray, targets: NamedArray, options: _Options) -> NamedArray:
    return _forward(x, head, targets, options)[0]


def _forward(x: NamedArray, head: NamedArray, targets: NamedArray, options: _Options) -> tuple[NamedArray, Saved]:
    Embed, vocab_size, z_loss, softcap, dtype = options
    Vocab = head.axes[0]
    logits = output_logits(x, head, Embed, vocab_size, softcap)
    highest = hax.max(logits, Vocab)
    exponentials = hax.exp(logits - highest)
    normalizer = hax.sum(exponentials, Vocab)
    # The target's score as a product of two vectors: one more pass over the logits would cost more, and where `vocab`
    # is sharded this is a lookup like that of the embedding.
    ids = hax.maximum(targets, 0)
    of_target = hax.dot(
        x, head.take(Vocab, ids, mode="promise_in_bounds"), axis=Embed, preferred_element_type=jnp.float32
    )
    log_normalizer = hax.log(normalizer) + highest
    losses = log_normalizer - _capped(of_target, softcap)
    if z_loss:
        losses = losses + z_loss * log_normalizer * log_normalizer
    # A capped score is needed again for its slope, and one exponential more is cheaper than two arrays of this size.
    kept = (exponentials if softcap is None else logits).astype(dtype)
    return hax.where(targets >= 0, losses, 0.0), (x, head, targets, kept, normalizer, log_normalizer)


def _backward(options: _Options, saved: Saved, gradient: NamedArray) -> tuple[NamedArray, NamedArray, None]:
    Embed, _, z_loss, softcap, _ = options
    x, head, targets, kept, normalizer, log_normalizer = saved
    Vocab = head.axes[0]
    gradient = hax.where(targets >= 0, gradient, 0.0)
    of_normalizer = gradient * (1.0 + 2.0 * z_loss * log_normalizer) if z_loss else gradient
    is_target = hax.nn.one_hot(targets, Vocab, dtype=bool)
    if softcap is None:
        to_logits = kept * (of_normalizer / normalizer) - hax.where(is_target, gradient, 0.0)
    else:
        to_logits = hax.exp(kept - log_normalizer) * of_normalizer - hax.where(is_target, gradient, 0.0)
        # The scores of padding are no capped ones, and of too large a square.
        height = hax.where(kept <= LOWEST, 0.0, kept / softcap)
        to_logits = to_logits * (1.0 - height * height)
    to_logits = to_logits.astype(x.dtype)
    # JAX's own rule has the gradient on the left of this product. To contract the rows of a left operand, XLA for the
    # CPU writes a transposed copy of it; on the right it is used as it lies and only the small result is transposed.
    # The barrier keeps XLA from swapping the two again.
    to_head = jax.lax.optimization_barrier(hax.dot(x, to_logits, axis=targets.axes)).rearrange((Vocab, Embed))
    return hax.dot(to_logits, head, axis=Vocab), to_head, None


_loss.defvjp(_forward, _backward)


def _capped(scores: NamedArray, softcap: float | None) -> NamedArray:
    return scores if softcap is None else softcap * hax.tanh(scores / softcap)


def _without_padding(scores: NamedArray, Vocab: Axis, vocab_size: int | None) -> NamedArray:
    if vocab_size is None or vocab_size >= Vocab.size:
        return scores
    # A sum, which XLA for the CPU does with vectors: choosing number by number makes the step of a small model a fifth
    # longer. No score is large enough to change `LOWEST`, and 0 changes none.
    return scores + hax.where(hax.arange(Vocab) < vocab_size, 0.0, LOWEST)
