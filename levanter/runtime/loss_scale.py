"""A loss that is scaled up before its gradient is taken, so that float16 holds small gradients (`trainer.loss_scale`).

Gradients are scaled down again before anything else sees them, and scales are powers of two, so nothing is rounded. A
dynamic scale follows Micikevicius et al., 2018, section 3.2: where a gradient overflows, the update is left out and the
scale halved; after `period` steps without that it is doubled. It is part of the state, so a resumed run has the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

from levanter.runtime.nonfinite import where

if TYPE_CHECKING:
    from levanter.runtime.config import LossScaleConfig

SMALLEST = 1.0
"""A gradient that overflows at this scale is no matter of the scale: it is reported as it is, and ends the run."""


class LossScale(eqx.Module):
    """A dynamic scale, between two steps."""

    scale: Any  # float32 scalar
    good_steps: Any  # int32 scalar: since the scale last changed


def initial(config: LossScaleConfig) -> LossScale | None:
    """The scale before the first step; None where it is not dynamic."""
    if config.kind != "dynamic":
        return None
    return LossScale(jnp.float32(config.initial), jnp.zeros((), jnp.int32))


class Scaling:
    """The scale of one step.

    Args:
        now: the dynamic scale in the state; None where there is none.
    """

    def __init__(self, config: LossScaleConfig | None, now: LossScale | None) -> None:
        self._config, self._now = config, now
        static = None if config is None or config.kind != "static" else jnp.float32(config.initial)
        self._scale = static if now is None else now.scale

    def scaled(self, loss_of: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        """A loss, scaled up."""
        scale = self._scale
        return loss_of if scale is None else lambda *arguments: loss_of(*arguments) * scale

    def unscaled(self, loss: jax.Array, gradients: Any) -> tuple[jax.Array, Any]:
        """The loss and its gradients as they are without a scale."""
        if self._scale is None:
            return loss, gradients
        down = 1.0 / self._scale
        return loss * down, jax.tree.map(lambda each: (each * down).astype(each.dtype), gradients)

    def update(self, norm: jax.Array, new: Any, old: Any) -> tuple[Any, LossScale | None, dict[str, Any]]:
        """What the step leaves: parameters and the optimizer's state, the next scale, and metrics.

        Args:
            norm: of all unscaled gradients, a float32 scalar.
            new, old: parameters and the optimizer's state with the update and without it.
        """
        if self._now is None or self._config is None:
            return new, None, {}
        finite = jnp.isfinite(norm)
        kept = where(finite, new, old)
        scale, good = self._now.scale, self._now.good_steps + 1
        grown = good >= self._config.period
        raised = jnp.where(grown, scale * 2.0, scale)
        after = LossScale(
            jnp.where(finite, raised, jnp.maximum(scale / 2.0, SMALLEST)),
            jnp.where(finite & ~grown, good, 0),
        )
        skipped = ~finite & (scale > SMALLEST)
        metrics = {
            "loss_scale": scale,
            "update_skipped": skipped.astype(jnp.float32),
            "grad_norm": jnp.where(skipped, 0.0, norm),
        }
        return kept, after, metrics
