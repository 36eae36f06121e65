"""The loss of a language model, from its output to cross entropy, with its gradient by hand.

The logits are by far the largest array of a small model, and of a large one with short sequences, so what counts is how
often they are read, written or copied. Going forward they are made once, read for the maximum, and turned into
exponentials; going back those are read once and become the gradient. Left to automatic differentiation it takes twice
the memory: the target's pick becomes a second array of that size, and one more is a transposed copy (see `_backward`).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

import haliax as hax
from haliax import Axis, NamedArray

Saved = tuple[NamedArray, NamedArray, NamedArray, NamedArray, NamedArray]


def output_logits(x: NamedArray, head: NamedArray, Embed: Axis) -> NamedArray:
    """The scores of all tokens: x [..., embed] and head [vocab, embed] → float32 [..., vocab]."""
    return hax.dot(x, head, axis=Embed, preferred_element_type=jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def next_token_loss(x: NamedArray, head: NamedArray, targets: NamedArray, Embed: Axis) -> NamedArray:
    """Cross entropy in nats, one number per target.

    Args:
        x: [..., embed], the model's output.
        head: [vocab, embed].
        targets: int32 [...], token ids.

    Returns: float32 [...].
    """
    return _forward(x, head, targets, Embed)[0]


def _forward(x: NamedArray, head: NamedArray, targets: NamedArray, Embed: Axis) -> tuple[NamedArray, Saved]:
    Vocab = head.axes[0]
    logits = output_logits(x, head, Embed)
    highest = hax.max(logits, Vocab)
    exponentials = hax.exp(logits - highest)
    normalizer = hax.sum(exponentials, Vocab)
    # The target's score as a product of two vectors: one more pass over the logits would cost more, and where `vocab`
    # is sharded this is a lookup like that of the embedding.
    of_target = hax.dot(
        x, head.take(Vocab, targets, mode="promise_in_bounds"), axis=Embed, preferred_element_type=jnp.float32
    )
    return hax.log(normalizer) + highest - of_target, (x, head, targets, exponentials, normalizer)


def _backward(Embed: Axis, saved: Saved, gradient: NamedArray) -> tuple[NamedArray, NamedArray, None]:
    x, head, targets, exponentials, normalizer = saved
    Vocab = head.axes[0]
    is_target = hax.nn.one_hot(targets, Vocab, dtype=bool)
    to_logits = exponentials * (gradient / normalizer) - hax.where(is_target, gradient, 0.0)
    to_logits = to_logits.astype(x.dtype)
    # JAX's own rule has the gradient on the left of this product. To contract the rows of a left operand, XLA for the
    # CPU writes a transposed copy of it; on the right it is used as it lies and only the small result is transposed.
    # The barrier keeps XLA from swapping the two again.
    to_head = jax.lax.optimization_barrier(hax.dot(x, to_logits, axis=targets.axes)).rearrange((Vocab, Embed))
    return hax.dot(to_logits, head, axis=Vocab), to_head, None


next_token_loss.defvjp(_forward, _backward)
