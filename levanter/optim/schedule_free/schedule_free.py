"""Schedule-free AdamW over named parameters: optax's, around the stages of every optimizer without Adam's momentum.

The parameters of a state are y, where gradients are taken; the optimizer keeps z, which steps are added to; the mean x
of all z is what is evaluated, and follows from the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optax
from optax import contrib

from levanter.optim.chain import stages
from levanter.optim.optimizer import Decays, Optimizer
from levanter.optim.schedule import learning_rate

if TYPE_CHECKING:
    from levanter.optim.schedule_free.config import ScheduleFreeConfig


def schedule_free(config: ScheduleFreeConfig, num_train_steps: int, decays: Decays) -> Optimizer:
    """The optimizer that `config` describes, for a run of `num_train_steps` steps; `decays` says what decays."""
    rate = learning_rate(config, num_train_steps)
    adam = optax.scale_by_adam(0.0, config.beta2, config.epsilon)
    transform = contrib.schedule_free(
        stages(config, rate, decays, "adam", adam), rate, config.beta1, config.weight_lr_power
    )

    def evaluated(state: Any, parameters: Any) -> Any:
        return contrib.schedule_free_eval_params(state["schedule_free"], parameters)

    return Optimizer(optax.named_chain(("schedule_free", transform)), rate, evaluated)
