"""What the optimizer keeps its running means in, where that is left to the planner: float32, or bfloat16 where nothing
else fits the memory of a device.

It changes what is trained, if little, so it is no matter of speed: a plan takes it only to have one at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ir
from levanter.compiler import errors
from levanter.compiler.pins import taken
from levanter.errors import UserError
from levanter.optim.config import MOMENT_DTYPES, MomentsConfig, with_moments_in
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes import PlanError, pipeline
from passes.alternatives import Explanation, of_graphs
from passes.as_planned import as_planned
from passes.errors import gib
from passes.planner.constraints import ANY, MOMENTS, Given
from passes.summary import memory

if TYPE_CHECKING:
    from ir.graph import Graph
    from levanter.config.schema import TrainConfig
    from passes import Plan

WIDE, NARROW = MOMENT_DTYPES


@dataclass(frozen=True)
class ChosenMoments:
    """The dtype of moments in a plan, and why."""

    dtype: str
    reason: str
    needs: Mapping[str, int]

    @property
    def said(self) -> str:
        """The choice as a run says it."""
        return errors.chosen_moments(self.dtype, self.reason)

    def on(self, plan: Plan) -> Plan:
        """The plan with this choice."""
        return dataclasses.replace(plan, moments=self.dtype, reasons={**plan.reasons, MOMENTS: self.reason})


def with_moments(
    config: TrainConfig, plan: Plan | None, pin: Given | None, planned: Callable[..., Any]
) -> tuple[TrainConfig, Given | None, ChosenMoments | None]:
    """The config with a dtype of moments: that of the plan, that which is pinned, or where `any` is pinned or the
    config has null the widest that fits. The pins without it, and the choice, where it is not the config's.

    Args:
        planned: plans the step of a config, with these pins.

    Raises:
        UserError: nothing fits; or the optimizer keeps nothing whose dtype could be chosen, or the run is elastic.
        PlanError: what is pinned is no dtype, or there is a plan besides.
    """
    pinned, rest = taken(MOMENTS, config, plan, pin, errors.elastic_moments)
    if pinned is not None and pinned not in (*MOMENT_DTYPES, ANY):
        raise errors.pinned_moments(pinned)
    if plan is not None and plan.moments:
        return with_dtype(config, plan.moments, plan.document.source if plan.document else ""), rest, None
    if pinned is not None and pinned != ANY:
        return with_dtype(config, pinned), rest, ChosenMoments(pinned, "pinned", {})
    if not pinned and not _is_open(config):
        return config, rest, None
    wide, why = with_dtype(config, WIDE), ""
    try:
        needs = _needs(planned(wide, rest))
        if needs["peak"] <= needs["capacity"]:
            return wide, rest, ChosenMoments(WIDE, "it fits the memory of a device", needs)
        why = f", a device needs {gib(needs['peak'])} of {gib(needs['capacity'])}"
    except (PlanError, UserError):
        pass
    narrow = with_dtype(config, NARROW)
    needs = _needs(planned(narrow, rest))
    return narrow, rest, ChosenMoments(NARROW, f"with {WIDE} nothing fits{why}", needs)


def with_dtype(config: TrainConfig, dtype: str, source: str = "") -> TrainConfig:
    """The config whose optimizer keeps its moments so; see `levanter.optim.config.with_moments_in`."""
    return dataclasses.replace(config, optimizer=with_moments_in(config.optimizer, dtype, source))


def explained_moments(config: TrainConfig, result: pipeline.Result) -> Explanation:
    """What other dtypes of moments cost under the same layouts."""

    def others() -> Iterator[tuple[tuple[str, ...], Graph]]:
        for dtype in MOMENT_DTYPES:
            if dtype != now and not config.trainer.elastic:
                other = with_dtype(wide, dtype)
                graph = pipeline.prepare(ir.trace(train_step_of(other), state_shape(other), batch_shape(other)))
                yield (dtype,), as_planned(graph, result.plan)

    wide = with_dtype(config, WIDE)  # which refuses an optimizer without moments
    now = getattr(config.optimizer, "moments_dtype", None) or WIDE
    here = ((now,), result.plan.reasons.get(MOMENTS, ""), result.graph, dataclasses.replace(result.plan, moments=""))
    return of_graphs(MOMENTS, *here, others())


def _is_open(config: TrainConfig) -> bool:
    return isinstance(config.optimizer, MomentsConfig) and config.optimizer.moments_dtype is None


def _needs(result: pipeline.Result) -> Mapping[str, int]:
    return memory(result.graph, result.plan, result.placed)
