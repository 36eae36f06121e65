"""How many parts a batch is cut into, where that is left to the planner: as many as make the fastest step that fits.

The plan of each number is searched for by itself. Cutting a batch makes no step faster but by the memory that it
frees, so no number can beat the step of the whole batch on a chip of unlimited memory: where that is reached, the rest
need not be tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.compiler import errors
from passes import PlanError
from passes.errors import gib
from passes.planner.constraints import MICROBATCHES
from passes.planner.explain import longer
from passes.summary import memory, times

if TYPE_CHECKING:
    from levanter.config.schema import TrainConfig
    from passes import Plan

_ROUNDING = 1e-6
"""Two ways to the same price add its parts in other orders."""
_EVEN = 0.005


@dataclass(frozen=True)
class Tried:
    """A number of micro-batches with its best plan: seconds of a step, None where nothing fits; and what a device needs
    and has."""

    count: int
    step: float | None
    needs: Mapping[str, int]


@dataclass(frozen=True)
class Chosen:
    """The number of micro-batches of a plan, and why."""

    count: int
    reason: str
    needs: Mapping[str, int]

    @property
    def said(self) -> str:
        """The choice as a run says it."""
        return errors.chosen_microbatches(self.count, self.reason, self.needs["peak"], self.needs["capacity"])

    def on(self, plan: Plan) -> Plan:
        """The plan with this choice."""
        return dataclasses.replace(plan, microbatches=self.count, reasons={**plan.reasons, MICROBATCHES: self.reason})


def fastest(
    config: TrainConfig, shards: int, planned: Callable[..., Any], unlimited: Callable[..., float]
) -> tuple[TrainConfig, Chosen]:
    """The config with the number of micro-batches (1, 2, 4, …) whose step is fastest of those that fit the memory of a
    device; of equal ones the fewest.

    Args:
        shards: that the batch axes of the mesh cut each micro-batch into.
        planned: plans the step of a config.
        unlimited: seconds of the step of a config on a chip of unlimited memory.

    Raises:
        UserError: no number of them fits.
    """
    tried: list[Tried] = []
    said, bound = "", None
    for count in counts(config.trainer.train_batch_size, shards):
        now = with_count(config, count)
        try:
            result = planned(now)
        except PlanError as error:
            said = str(error)
            tried.append(Tried(count, None, {}))
            continue
        needs = memory(result.graph, result.plan, result.placed)
        step = times(result.graph, result.placed, result.plan).step
        tried.append(Tried(count, step if needs["peak"] <= needs["capacity"] else None, needs))
        best = min((each.step for each in tried if each.step is not None), default=None)
        if best is not None:
            bound = unlimited(with_count(config, 1)) if bound is None else bound
            if best <= bound * (1 + _ROUNDING):
                break
    fitting = [each for each in tried if each.step is not None]
    if not fitting:
        raise errors.no_microbatches_fit([each.count for each in tried], config.trainer.hardware, said)
    least = min(each.step for each in fitting if each.step is not None)
    best_one = next(each for each in fitting if each.step is not None and each.step <= least * (1 + _ROUNDING))
    return with_count(config, best_one.count), Chosen(best_one.count, _reason(best_one, tried), best_one.needs)


def _reason(chosen: Tried, tried: list[Tried]) -> str:
    """What fewer of them would cost; of one alone, what more would."""
    fewer = [each for each in tried if each.count < chosen.count]
    if not fewer:
        return "the whole batch at once fits, and nothing is faster"
    before = fewer[-1]
    if before.step is None or chosen.step is None:
        needs = (
            f", a device needs {gib(before.needs['peak'])} of {gib(before.needs['capacity'])}" if before.needs else ""
        )
        return f"with {before.count} nothing fits{needs}"
    change = before.step / chosen.step - 1
    return f"with {before.count} a step takes {longer(change) if change > _EVEN else 'as long'}"


def counts(batch: int, shards: int) -> Iterator[int]:
    """Powers of two, from 1 on, into as many parts of which a batch divides over `shards`; 1 in any case."""
    yield 1
    count = 2
    while batch % (count * shards) == 0:
        yield count
        count *= 2


def with_count(config: TrainConfig, count: int | None) -> TrainConfig:
    """The config with so many micro-batches; None leaves them to the planner."""
    return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, microbatches=count))
