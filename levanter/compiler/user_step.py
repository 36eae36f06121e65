"""The compiler on a step of the user's own: its graph, its axis mistakes, its names, its plan.

The same that `levanter.compiler.compile` does for the training step of a configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

import ir
import passes
from ir.errors import names_missing
from levanter.compiler.compile import ByHand, explained, explanations, plan_by_hand, planned_graph, requested
from levanter.compiler.errors import two_plans
from levanter.compiler.graphs import findings_of, traced
from levanter.compiler.plan_files import PlanFile
from levanter.compiler.question import PlanConfig, check_hardware
from levanter.compiler.target import Target, UserStep, load_step
from levanter.compiler.user_errors import user_errors
from levanter.compiler.verifying import (
    Platform,
    plan_request,
    platform_written_for,
    requested_devices,
    verified_plan,
)
from passes.planner.constraints import Given
from passes.planner.errors import gradients_are_traced, microbatches_are_traced, moments_are_traced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ir.graph import Graph

LOWER_USER_STEP = "levanter.compiler.user_step:lower_for_verify"


def graph_of(step: UserStep) -> Graph:
    """The graph of a step. Raises `UserError` where it cannot be traced or its names do not fit."""
    return traced(step.function, step.arguments, step.name, step.names)


def check(target: Target, ignore: Sequence[str]) -> tuple[list[dict[str, Any]], str | None]:
    """The axis mistakes of a step (see `levanter.compiler.graphs.findings_of`), and which arrays have no names.

    Raises:
        UserError: there is no such step, or it cannot be traced, or a code is no warning's.
    """
    graph = graph_of(load_step(target))
    return findings_of(graph, ignore), missing_names(graph)


def missing_names(graph: Graph) -> str | None:
    """Which arguments have dims that nothing names; None where there are none."""
    found = ir.unnamed(graph)
    return names_missing(found) if found else None


def text(target: Target) -> str:
    """The graph of a step as text."""
    return ir.print_graph(graph_of(load_step(target)))


def report(
    target: Target,
    mesh: Mapping[str, int],
    hardware: str,
    *,
    by_hand: ByHand = ({}, {}),
    time_limit: float | None = None,
    plan: PlanConfig | None = None,
    pin: Given | None = None,
    forbid: Given | None = None,
    plan_file: PlanFile | None = None,
    explain: Sequence[str] = (),
    dump_ir: Path | None = None,
    verify: bool = False,
    platform: Platform = "cpu",
    values: bool = False,
    partitioner: passes.Partitioner = "explicit",
) -> dict[str, Any]:
    """All that `levanter compile` says of a step; see `levanter.compiler.compile.report`. `plan` is that of a file.

    `verify` compiles the step and runs nothing, so shapes do for arguments; `values` makes up numbers for them.
    """
    check_hardware(hardware)
    graph = graph_of(load_step(target))
    written_for = platform_written_for(platform, partitioner)
    with user_errors():
        given = plan_by_hand(mesh, hardware, by_hand)
        if plan is not None:
            if given is not None:
                raise two_plans(plan.source)
            if plan.microbatches is not None:
                raise microbatches_are_traced(plan.source)
            if plan.moments:
                raise moments_are_traced(plan.source)
            if plan.gradients:
                raise gradients_are_traced(plan.source)
            given = passes.Plan.of_document(plan, hardware)
        asked = {"plan": given, "dump_ir": dump_ir, "time_limit": time_limit, "pin": pin, "forbid": forbid}
        result, found = explained(lambda: planned_graph(graph, mesh, hardware, platform=written_for, **asked))
    answer: dict[str, Any] = {"model": target.step, **found}
    if plan_file is not None:
        answer["notes"] = [*answer["notes"], *plan_file.notes(result)]
        with user_errors():
            answer |= plan_file.write(result, answer)
    if explain:
        answer["explained"] = explanations(result, explain)
    nameless = missing_names(graph)
    answer["notes"] = [*answer["notes"], *([nameless] if nameless else [])]
    if verify:
        answer["verify"] = verified_plan(
            {"target": asdict(target), "partitioner": partitioner},
            LOWER_USER_STEP,
            result,
            answer,
            platform,
        )
    if values:
        from levanter.compiler.verify.values import STEP_VALUES, checked_values

        request = plan_request({"target": asdict(target), "platform": written_for}, result.plan)
        answer["values"] = checked_values(request, result.plan.mesh.devices, STEP_VALUES, partitioner)
    return answer


def lower_for_verify(request: dict[str, Any]) -> jax.stages.Lowered:
    """The verifying process's part of `report`: the step of the request, laid out by its plan, lowered."""
    step = load_step(Target(**request["target"]))
    result = requested(graph_of(step), request)
    how = {"donate": True, "partitioner": request.get("partitioner", "explicit")}
    function = passes.lower_placed(result.placed, result.plan, requested_devices(request), **how)
    lowered: jax.stages.Lowered = function.lower(*step.arguments)  # type: ignore[attr-defined]
    return lowered
