"""How many parts a batch is cut into, where that is left to the planner: as few as fit a device's memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from levanter.compiler import errors
from passes import PlanError
from passes.summary import memory

if TYPE_CHECKING:
    from levanter.config.schema import TrainConfig


def fewest(config: TrainConfig, shards: int, planned: Callable[..., Any]) -> tuple[TrainConfig, Mapping[str, int]]:
    """The config with the fewest micro-batches (1, 2, 4, …) whose step fits the memory of a device, and what it needs.

    Args:
        shards: that the batch axes of the mesh cut each micro-batch into.
        planned: plans the step of a config.

    Raises:
        UserError: no number of them fits.
    """
    tried: list[tuple[int, str]] = []
    for count in counts(config.trainer.train_batch_size, shards):
        now = with_count(config, count)
        try:
            result = planned(now)
        except PlanError as error:
            tried.append((count, str(error)))
            continue
        needs = memory(result.graph, result.plan, result.placed)
        if needs["peak"] <= needs["capacity"]:
            return now, needs
        tried.append((count, ""))
    raise errors.no_microbatches_fit([count for count, _ in tried], config.trainer.hardware, tried[-1][1])


def counts(batch: int, shards: int) -> Iterator[int]:
    """Powers of two, from 1 on, into as many parts of which a batch divides over `shards`; 1 in any case."""
    yield 1
    count = 2
    while batch % (count * shards) == 0:
        yield count
        count *= 2


def with_count(config: TrainConfig, count: int) -> TrainConfig:
    """The config with so many micro-batches."""
    return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, microbatches=count))
