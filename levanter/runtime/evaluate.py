"""Held-out loss: how well the model predicts text it was not trained on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from levanter.config.schema import TrainConfig
from levanter.models.lm_model import LmModel
from levanter.runtime.accumulate import sharded_loss
from levanter.runtime.state import VIRTUAL_SHARD, LmBatch, TrainState, evaluated_model, segments_of

EvalStep = Callable[[Any, LmBatch], jax.Array]
AHEAD = 2
"""Batches that are dispatched before the result of the first of them is waited for. A device of XLA for CPUs has at
most 32 programs in flight, and the thread that would start another waits until one has ended: with all threads at that,
those are missing that must meet in a collective, and nothing ends any more."""


def eval_step(model: LmModel, batch: LmBatch) -> jax.Array:
    """Mean loss of a batch in nats per target, a float32 scalar; nothing is dropped."""

    def loss_of(part: LmBatch) -> jax.Array:
        return model.evaluation_loss(part.tokens, part.targets, **segments_of(model, "evaluation_loss", part))

    sharded = batch.tokens.axes[0].name == VIRTUAL_SHARD
    return sharded_loss(loss_of, batch) if sharded else loss_of(batch)


def eval_step_of(config: TrainConfig) -> Callable[[TrainState, LmBatch], jax.Array]:
    """`eval_step` of the model that a state evaluates, which is not always the one that it trains."""

    def step(state: TrainState, batch: LmBatch) -> jax.Array:
        return eval_step(evaluated_model(config, state), batch)

    return step


def heldout_loss(
    evaluate: EvalStep, model: Any, batches: Iterable[LmBatch], check: Callable[[], None] = lambda: None
) -> float:
    """Mean loss over the targets of all batches, in nats per target; negative targets do not count.

    Args:
        evaluate: `eval_step`, jitted, or that of a state.
        model: its first argument.
        check: called between batches; what it raises ends the evaluation.
    """
    running: deque[tuple[jax.Array, jax.Array]] = deque()
    sums: list[float] = []
    counts: list[int] = []

    def fetch() -> None:
        loss, count = running.popleft()
        counts.append(int(count))
        sums.append(float(loss) * counts[-1])

    for batch in batches:
        check()
        running.append((evaluate(model, batch), jnp.sum(batch.targets.array >= 0)))
        if len(running) > AHEAD:
            fetch()
    while running:
        check()
        fetch()
    return math.fsum(sums) / max(sum(counts), 1)
