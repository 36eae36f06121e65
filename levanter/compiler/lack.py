"""What a device of a run is predicted to hold, for when its memory has run out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import passes
from levanter.compiler.compile import planned
from levanter.compiler.user_errors import user_errors
from levanter.errors import UserError, WorkFailed
from passes.errors import shard_next, what_fills
from passes.planner.filling import MOST
from passes.summary import advice
from passes.summary import what_fills as filling

if TYPE_CHECKING:
    from levanter.config.schema import TrainConfig


def what_a_device_holds(config: TrainConfig) -> str:
    """Lines of what fills a device by name, and what to shard next; empty where the step cannot be planned."""
    try:
        with user_errors():
            result = planned(config, config.mesh.as_dict(), config.trainer.hardware)
    except (UserError, WorkFailed, passes.PlanError):
        return ""  # what ran out of memory is told in any case
    rows = filling(result.graph, result.plan)
    text = what_fills([(each.kind, each.axes, each.arrays, each.bytes) for each in rows[:MOST]], len(rows))
    found = advice(result.graph, result.plan)
    if found is None:
        return text
    fits = found.peak <= result.plan.chip.capacity < found.peak + found.saves
    return text + shard_next(found.name, found.role, found.mesh_axis, found.saves, found.costs, fits)
