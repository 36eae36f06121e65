"""What a run does when its loss or its gradient is no finite number (`trainer.on_nonfinite`).

stop    it ends, with a report of where the first such number came from
skip    the update of that step is not applied; the step itself decides, so a resumed run decides the same
rewind  it goes back to a good state and leaves out the data that led there (`levanter.runtime.rewinds`)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console

from levanter.runtime import errors

WATCHED = ("loss", "grad_norm")
MOST_SKIPPED = 100
"""Updates in a row that are not applied: the weights stand still, and another batch does not help."""


class NotFinite(Exception):
    """The loss or the gradient of a step is not finite."""

    def __init__(self, step: int, name: str, value: float) -> None:
        super().__init__(errors.is_not_finite(step, name, value))
        self.step, self.name, self.value = step, name, value


class Watch:
    """Looks at the numbers of each step."""

    def __init__(self, policy: str, console: Console | None = None) -> None:
        self._skips = policy == "skip"
        self._console = console
        self._in_a_row = 0

    def problem(self, step: int, values: Mapping[str, Any]) -> NotFinite | None:
        """What ends these steps; None where all is finite, or the step has not applied its update."""
        name = next((name for name in WATCHED if not math.isfinite(values[name])), None)
        if name is None:
            self._in_a_row = 0
            return None
        found = NotFinite(step, name, float(values[name]))
        self._in_a_row += 1
        if not self._skips or self._in_a_row >= MOST_SKIPPED:
            return found
        if self._console is not None:
            self._console.print(errors.update_skipped(str(found)), markup=False, highlight=False, soft_wrap=True)
        return None


def unless_finite(loss: jax.Array, gradient_norm: jax.Array, update_norm: jax.Array, new: Any, old: Any) -> Any:
    """`new`, parameters and the optimizer's state after a step, where these numbers are finite; `old` where not."""
    finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm) & jnp.isfinite(update_norm)
    return where(finite, new, old)


def where(applied: jax.Array, new: Any, old: Any) -> Any:
    """`new`, parameters and the optimizer's state after a step, where its update is applied; `old` where not.

    The optimizer's count for its learning rate goes on in any case, so that the rate stays a function of the step.
    """

    def chosen(after: Any, before: Any) -> Any:
        if _counts_steps(after):
            return after
        return jax.lax.select_n(applied, before, after)

    return jax.tree.map(chosen, new, old, is_leaf=_counts_steps)


def from_the_first_step(opt_state: Any) -> Any:
    """The state of an optimizer with its moments as they are and its learning rate at the start of the schedule."""

    def started(part: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, part) if _counts_steps(part) else part

    return jax.tree.map(started, opt_state, is_leaf=_counts_steps)


def _counts_steps(part: Any) -> bool:
    return isinstance(part, optax.ScaleByScheduleState)
