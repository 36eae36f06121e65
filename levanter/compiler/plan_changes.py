"""What changes from one plan of a step to another, each read from a file."""

from __future__ import annotations

from typing import Any, TypeAlias

import passes
from levanter.compiler.compile import planned, planned_graph
from levanter.compiler.question import PlanConfig
from levanter.compiler.target import Target, load_step
from levanter.compiler.user_errors import user_errors
from levanter.compiler.user_step import graph_of
from levanter.config.schema import TrainConfig
from passes.report.changes import changes

Step: TypeAlias = Target | TrainConfig
"""What a plan is for."""


def compared(step: Step, before: PlanConfig, after: PlanConfig, hardware: str | None = None) -> dict[str, Any]:
    """What changes from one plan of a step to another, priced on `hardware`, or each on its own: the keys of
    `passes.report.changes`, and `names_of` the two.

    Raises:
        UserError: a plan is none of this step.
    """
    with user_errors():
        reports = [_priced(step, plan, hardware or plan.hardware) for plan in (before, after)]
    return {"names_of": [before.source, after.source], **changes(*reports)}


def _priced(step: Step, document: PlanConfig, hardware: str) -> dict[str, Any]:
    plan = passes.Plan.of_document(document, hardware)
    mesh = plan.mesh.as_dict()
    if isinstance(step, Target):
        result = planned_graph(graph_of(load_step(step)), mesh, hardware, plan=plan)
    else:
        result = planned(step, mesh, hardware, plan=plan)
    return result.facts()
