"""What of a training step is a choice of the plan, and not the config's: what the backward pass computes again, and in
how many parts the batch is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import ir
import passes
from levanter.compiler import errors
from levanter.compiler.elastic import BATCH_AXES
from levanter.compiler.microbatches import counts, with_count
from levanter.compiler.pins import taken
from levanter.models.config import is_left_to_the_plan, left_to_the_plan
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes import pipeline
from passes.alternatives import Explanation, of_graphs
from passes.as_planned import as_planned
from passes.planner.constraints import ANY, MICROBATCHES, REMAT, Given

if TYPE_CHECKING:
    from ir.graph import Graph
    from levanter.config.schema import TrainConfig


def remat_asked(config: TrainConfig, plan: passes.Plan | None, pin: Given | None) -> tuple[TrainConfig, Given | None]:
    """A config and pins in which the plan alone says what the backward pass computes again, where it is to say that:
    by a pin, by a plan that does, or because the config has null.

    Raises:
        UserError: the run is elastic, and its bits would depend on the plan.
    """
    asked = REMAT in (pin or {})
    if asked and config.trainer.elastic:
        raise errors.elastic_remat()
    if asked or plan is not None and plan.remat:
        return replace(config, model=left_to_the_plan(config.model)), pin
    if is_left_to_the_plan(config.model) and plan is None and config.trainer.plan is None:
        return config, {**(pin or {}), REMAT: ANY}
    return config, pin


def asked_microbatches(
    config: TrainConfig, plan: passes.Plan | None, pin: Given | None
) -> tuple[int | str | None, Given | None]:
    """The number of micro-batches that is pinned, `any`, or None; and the other pins.

    Raises:
        UserError: it is no number, or the run is elastic.
        PlanError: there is a plan besides.
    """
    written, rest = taken(MICROBATCHES, config, plan, pin, errors.elastic_microbatches)
    if written is None:
        return None, rest
    if written == ANY:
        return ANY, rest
    if not written.isascii() or not written.isdigit() or int(written) < 1:
        raise errors.pinned_microbatches(written)
    return int(written), rest


def explained_microbatches(config: TrainConfig, result: pipeline.Result) -> Explanation:
    """What other numbers of micro-batches cost under the same layouts."""
    shards = math.prod(result.plan.mesh.as_dict().get(axis, 1) for axis in BATCH_AXES)
    count, reason = config.trainer.microbatches or 1, result.plan.reasons.get(MICROBATCHES, "")

    def others() -> Iterator[tuple[tuple[str, ...], Graph]]:
        for each in counts(config.trainer.train_batch_size, shards):
            if each != count and not config.trainer.elastic:
                other = with_count(config, each)
                graph = pipeline.prepare(ir.trace(train_step_of(other), state_shape(other), batch_shape(other)))
                yield (str(each),), as_planned(graph, result.plan)

    here = ((str(count),), reason, result.graph, replace(result.plan, microbatches=None))
    return of_graphs(MICROBATCHES, *here, others())
