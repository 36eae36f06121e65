"""A dtype of a training step that is left to the planner: float32, or bfloat16 where nothing else fits the memory of a
device.

It changes what is trained, if little, so it is no matter of speed: a plan takes bfloat16 only to have one at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import ir
from levanter.compiler import errors
from levanter.compiler.pins import taken
from levanter.errors import UserError
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes import PlanError, pipeline
from passes.alternatives import Explanation, of_graphs
from passes.as_planned import as_planned
from passes.errors import gib
from passes.planner.constraints import ANY, Given
from passes.planner.document import SHORT_DTYPES
from passes.summary import memory

if TYPE_CHECKING:
    from ir.graph import Graph
    from levanter.config.schema import TrainConfig
    from passes import Plan

WIDE, NARROW = SHORT_DTYPES


@dataclass(frozen=True)
class DtypeChoice:
    """A dtype that may be left to the planner.

    Attributes:
        name: of the choice in a plan, which is that of the field of `Plan` too.
        field: of the configuration, by its dotted name.
        in_dtype: the config with such a dtype, which the file of a plan may say; it refuses one that has no choice.
        own: what a config has; None where it leaves it open, and a word of another kind where there is no choice.
    """

    name: Literal["moments", "gradients"]
    field: str
    in_dtype: Callable[[TrainConfig, str, str], TrainConfig]
    own: Callable[[TrainConfig], str | None]


@dataclass(frozen=True)
class ChosenDtype:
    """The dtype in a plan, and why."""

    choice: DtypeChoice
    dtype: str
    reason: str
    needs: Mapping[str, int]

    @property
    def said(self) -> str:
        """The choice as a run says it."""
        return errors.chosen_dtype(self.choice.field, self.dtype, self.reason)

    def on(self, plan: Plan) -> Plan:
        """The plan with this choice."""
        name = self.choice.name
        changed: dict[str, Any] = {name: self.dtype, "reasons": {**plan.reasons, name: self.reason}}
        return dataclasses.replace(plan, **changed)


def with_dtype(
    choice: DtypeChoice, config: TrainConfig, plan: Plan | None, pin: Given | None, planned: Callable[..., Any]
) -> tuple[TrainConfig, Given | None, ChosenDtype | None]:
    """The config with a dtype: that of the plan, that which is pinned, or where `any` is pinned or the config has null
    the widest that fits. The pins without it, and the choice, where it is not the config's.

    Args:
        planned: plans the step of a config, with these pins.

    Raises:
        UserError: nothing fits; or the step has nothing whose dtype could be chosen, or the run is elastic.
        PlanError: what is pinned is no dtype, or there is a plan besides.
    """
    pinned, rest = taken(choice.name, config, plan, pin, lambda: errors.elastic_dtype(choice.name, choice.field))
    if pinned is not None and pinned not in (*SHORT_DTYPES, ANY):
        raise errors.pinned_dtype(choice.name, pinned)
    said = str(getattr(plan, choice.name)) if plan is not None else ""
    if plan is not None and said:
        source = plan.document.source if plan.document else ""
        return choice.in_dtype(config, said, source), rest, None
    if pinned is not None and pinned != ANY:
        return choice.in_dtype(config, pinned, ""), rest, ChosenDtype(choice, pinned, "pinned", {})
    if not pinned and choice.own(config) is not None:
        return config, rest, None
    wide, why = choice.in_dtype(config, WIDE, ""), ""
    try:
        needs = _needs(planned(wide, rest))
        if needs["peak"] <= needs["capacity"]:
            return wide, rest, ChosenDtype(choice, WIDE, "it fits the memory of a device", needs)
        why = f", a device needs {gib(needs['peak'])} of {gib(needs['capacity'])}"
    except (PlanError, UserError):
        pass
    narrow = choice.in_dtype(config, NARROW, "")
    needs = _needs(planned(narrow, rest))
    return narrow, rest, ChosenDtype(choice, NARROW, f"with {WIDE} nothing fits{why}", needs)


def explained_dtype(choice: DtypeChoice, config: TrainConfig, result: pipeline.Result) -> Explanation:
    """What other dtypes cost under the same layouts."""

    def others() -> Iterator[tuple[tuple[str, ...], Graph]]:
        for dtype in SHORT_DTYPES:
            if dtype != now and not config.trainer.elastic:
                other = choice.in_dtype(wide, dtype, "")
                graph = pipeline.prepare(ir.trace(train_step_of(other), state_shape(other), batch_shape(other)))
                yield (dtype,), as_planned(graph, result.plan)

    wide = choice.in_dtype(config, WIDE, "")  # which refuses a step that has no choice
    now = choice.own(config) or WIDE
    changed: dict[str, Any] = {choice.name: ""}
    plan = dataclasses.replace(result.plan, **changed)
    here = ((now,), result.plan.reasons.get(choice.name, ""), result.graph, plan)
    return of_graphs(choice.name, *here, others())


def _needs(result: pipeline.Result) -> Mapping[str, int]:
    return memory(result.graph, result.plan, result.placed)
