"""AdamW over named parameters: gradient clipping, Adam, weight decay on matrices, and a schedule.

It is an `optax` chain and nothing else: a `NamedArray` is a pytree of one array, so optax needs to know nothing of
names. The stages are named, so a checkpoint calls a moment `opt_state.adam.mu.blocks.mlp.up.weight`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import optax

from haliax import NamedArray
from levanter.optim.optimizer import Optimizer
from levanter.optim.schedule import learning_rate

if TYPE_CHECKING:
    from levanter.optim.adamw.config import AdamWConfig


def adamw(config: AdamWConfig, num_train_steps: int) -> Optimizer:
    """The optimizer that `config` describes, for a run of `num_train_steps` steps."""
    schedule = learning_rate(config, num_train_steps)
    clip = optax.identity() if config.max_grad_norm is None else optax.clip_by_global_norm(config.max_grad_norm)
    transform = optax.named_chain(
        ("clip", clip),
        ("adam", optax.scale_by_adam(config.beta1, config.beta2, config.epsilon)),
        ("decay", optax.add_decayed_weights(config.weight_decay, mask=decays)),
        ("rate", optax.scale_by_learning_rate(schedule)),
    )
    return Optimizer(transform, schedule)


def decays(parameters: Any) -> Any:
    """A tree that says for each parameter whether weight decay applies: true for matrices only.

    A matrix maps to or from the residual stream: it has the axis `embed` and another one besides `layers` (which only
    stacks blocks). So embeddings and the weights of `Linear` decay; biases and the weights of norms do not.
    """
    return jax.tree.map(_is_matrix, parameters, is_leaf=lambda leaf: isinstance(leaf, NamedArray))


def _is_matrix(parameter: Any) -> bool:
    names = {axis.name for axis in parameter.axes} - {"layers"} if isinstance(parameter, NamedArray) else set()
    return "embed" in names and len(names) > 1
