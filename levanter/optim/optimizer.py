"""What a training step needs of an optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optax

from levanter.optim.schedule import Schedule

Decays = Callable[[Any], Any]
"""From parameters (or gradients, in their structure) to a tree that says for each whether weight decay applies."""


@dataclass(frozen=True)
class Optimizer:
    """A gradient transformation, and the rate that it applies at a step, for people to read."""

    transform: optax.GradientTransformation
    learning_rate: Schedule
