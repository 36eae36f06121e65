"""AdamW over named parameters: gradient clipping, Adam, weight decay where the model says so, and a schedule.

It is an `optax` chain and nothing else: a `NamedArray` is a pytree of one array, so optax needs to know nothing of
names. The stages are named, so a checkpoint calls a moment `opt_state.adam.mu.blocks.mlp.up.weight`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import optax

from levanter.optim.optimizer import Decays, Optimizer
from levanter.optim.schedule import learning_rate

if TYPE_CHECKING:
    from levanter.optim.adamw.config import AdamWConfig


def adamw(config: AdamWConfig, num_train_steps: int, decays: Decays) -> Optimizer:
    """The optimizer that `config` describes, for a run of `num_train_steps` steps; `decays` says what decays."""
    schedule = learning_rate(config, num_train_steps)
    clip = optax.identity() if config.max_grad_norm is None else optax.clip_by_global_norm(config.max_grad_norm)
    transform = optax.named_chain(
        ("clip", clip),
        ("adam", optax.scale_by_adam(config.beta1, config.beta2, config.epsilon)),
        ("decay", optax.add_decayed_weights(config.weight_decay, mask=decays)),
        ("rate", optax.scale_by_learning_rate(schedule)),
    )
    return Optimizer(transform, schedule)
