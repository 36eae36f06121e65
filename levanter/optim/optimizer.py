"""What a training step needs of an optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optax

from levanter.optim.schedule import Schedule

Decays = Callable[[Any], Any]
"""From parameters (or gradients, in their structure) to a tree that says for each whether weight decay applies."""


def trained_parameters(opt_state: Any, parameters: Any) -> Any:
    """The parameters as they are trained, which most optimizers evaluate as well."""
    return parameters


@dataclass(frozen=True)
class Optimizer:
    """A gradient transformation, and the rate that it applies at a step, for people to read.

    Attributes:
        transform: its `update` may take further arguments by name: `loss`, from parameters to the loss of a part of the
            step's batch, `key`, a random key of the step, and `norm`, the global norm of the gradients in an elastic
            run, where no other way to it has the same bits, else None.
        eval_params: from the optimizer's state and the parameters to those that are evaluated, sampled and exported.
    """

    transform: optax.GradientTransformation
    learning_rate: Schedule
    eval_params: Callable[[Any, Any], Any] = trained_parameters
