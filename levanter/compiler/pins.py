"""Pins that are choices of the configuration, not of names: they are read, and taken out, before a step is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from passes.planner.constraints import Given
from passes.planner.errors import pins_beside_a_plan

if TYPE_CHECKING:
    from levanter.config.schema import TrainConfig
    from levanter.errors import UserError
    from passes import Plan


def taken(
    name: str, config: TrainConfig, plan: Plan | None, pin: Given | None, elastic: Callable[[], UserError]
) -> tuple[str | None, Given | None]:
    """What is written for a choice, None where it is not pinned; and the other pins.

    Args:
        elastic: the error where the run is elastic.

    Raises:
        UserError: the run is elastic.
        PlanError: there is a plan besides.
    """
    if pin is None or name not in pin:
        return None, pin
    rest = {other: axes for other, axes in pin.items() if other != name} or None
    given = pin[name]
    written = given if isinstance(given, str) else ",".join(given)
    if plan is not None:
        raise pins_beside_a_plan(f"{name}={written} pinned")
    if config.trainer.elastic:
        raise elastic()
    return written, rest
