"""Lion over named parameters: optax's, between clipping and weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optax

from levanter.optim.chain import chained
from levanter.optim.moments import kept_as
from levanter.optim.optimizer import Decays, Optimizer

if TYPE_CHECKING:
    from levanter.optim.lion.config import LionConfig


def lion(config: LionConfig, num_train_steps: int, decays: Decays) -> Optimizer:
    """The optimizer that `config` describes, for a run of `num_train_steps` steps; `decays` says what decays."""
    direction = kept_as(config.moments_dtype, optax.scale_by_lion(config.beta1, config.beta2))
    return chained(config, num_train_steps, decays, "lion", direction)
