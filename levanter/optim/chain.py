"""What optimizers share: gradients are clipped, turned into a direction, decay is added, and the rate multiplies all.

It is an `optax` chain: a `NamedArray` is a pytree of one array, so optax needs to know nothing of names. The stages are
named, so a checkpoint calls a moment `opt_state.adam.mu.blocks.mlp.up.weight`.
"""

from __future__ import annotations

from typing import Any

import jax
import optax

from haliax.jax_utils import is_named
from levanter.optim.config import ChainedConfig, ParameterGroup
from levanter.optim.groups import Settings, decay_rates, settings_of
from levanter.optim.norm import clipped_by_global_norm
from levanter.optim.optimizer import Decays, Optimizer
from levanter.optim.schedule import learning_rate


def chained(
    config: ChainedConfig,
    num_train_steps: int,
    decays: Decays,
    name: str,
    direction: optax.GradientTransformation,
) -> Optimizer:
    """The optimizer that goes the way of `direction`, for a run of `num_train_steps` steps.

    Args:
        decays: what weight decay applies to.
        name: of the stage of `direction`, in checkpoints.
        direction: from clipped gradients to what is to be added to the parameters, but for rate and sign.
    """
    schedule = learning_rate(config, num_train_steps)
    return Optimizer(stages(config, schedule, decays, name, direction), schedule)


def stages(
    config: ChainedConfig, rate: Any, decays: Decays, name: str, direction: optax.GradientTransformation
) -> optax.GradientTransformation:
    """The transformation of `chained`; `rate` is a schedule or a number."""
    clip = optax.identity() if config.max_grad_norm is None else clipped_by_global_norm(config.max_grad_norm)
    parts = [
        ("clip", clip),
        (name, direction),
        ("decay", _decay(config, decays)),
        ("rate", optax.scale_by_learning_rate(rate)),
    ]
    if any(group.learning_rate is not None for group in config.groups):
        parts.append(("groups", _group_rates(config.groups)))
    return optax.named_chain(*parts)


def _decay(config: ChainedConfig, decays: Decays) -> optax.GradientTransformation:
    if all(group.weight_decay is None for group in config.groups):
        return optax.add_decayed_weights(config.weight_decay, mask=decays)

    def update(updates: Any, parameters: Any) -> Any:
        rates = decay_rates(config.groups, config.weight_decay, decays, parameters)
        return jax.tree.map(
            lambda update, parameter, rate: update if rate == 0 else update + rate * parameter,
            updates,
            parameters,
            rates,
            is_leaf=is_named,
        )

    return optax.stateless(update)


def _group_rates(groups: list[ParameterGroup]) -> optax.GradientTransformation:
    def update(updates: Any, parameters: Any) -> Any:
        def scaled(settings: Settings, update: Any) -> Any:
            return update if settings.learning_rate is None else settings.learning_rate * update

        settings = settings_of(groups, updates)
        return jax.tree.map(scaled, settings, updates, is_leaf=lambda leaf: isinstance(leaf, Settings))

    return optax.stateless(update)
