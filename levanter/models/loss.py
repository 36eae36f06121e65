"""The loss of a language model: how surprised it is by the next token."""

from __future__ import annotations

import haliax as hax
import jax
from haliax import Axis, NamedArray


def next_token_loss(logits: NamedArray, targets: NamedArray, Vocab: Axis) -> NamedArray:
    """Cross entropy in nats, one number per target.

    The target's logit is picked by comparison and not by indexing: that stays local where `vocab` is sharded, and its
    gradient joins the softmax's in one pass over the logits.

    Args:
        logits: float32 [..., vocab].
        targets: int32 [...], token ids.

    Returns: float32 [...].
    """
    highest = jax.lax.stop_gradient(hax.max(logits, Vocab))
    shifted = logits - highest
    picked = hax.sum(hax.where(hax.nn.one_hot(targets, Vocab, dtype=bool), shifted, 0.0), Vocab)
    return hax.log(hax.sum(hax.exp(shifted), Vocab)) - picked
