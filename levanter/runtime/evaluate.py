"""Held-out loss: how well the model predicts text it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

from levanter.models.lm_model import LmModel
from levanter.runtime.state import LmBatch

EvalStep = Callable[[Any, LmBatch], jax.Array]


def eval_step(model: LmModel, batch: LmBatch) -> jax.Array:
    """Mean loss of a batch in nats per token, a float32 scalar; nothing is dropped."""
    return model.loss(batch.tokens, batch.targets, key=None)


def heldout_loss(evaluate: EvalStep, model: Any, batches: Sequence[LmBatch]) -> float:
    """Mean loss over batches of one size, in nats per token.

    Args:
        evaluate: `eval_step`, jitted.
    """
    # Every batch is dispatched before the first result is waited for.
    losses = [evaluate(model, batch) for batch in batches]
    return math.fsum(float(loss) for loss in losses) / len(losses)
