"""From a graph, a mesh and a chip to the best plan, its runner-up and the reasons."""

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter

from ir.graph import Graph
from passes import errors
from passes.canonicalize import canonicalize
from passes.mesh import DeviceMesh
from passes.planner.cost import step_seconds
from passes.planner.explain import reasons
from passes.planner.hardware import Chip, chip_of
from passes.planner.plan import Plan, RunnerUp, Search
from passes.planner.problem import Problem
from passes.planner.search import search
from passes.planner.subject import subject_of

__all__ = ["Problem", "plan", "solve"]

Axes = Mapping[str, tuple[str, ...]]


def plan(graph: Graph, mesh: Mapping[str, int] | DeviceMesh, hardware: str | Chip = "v5e") -> Plan:
    """The fastest plan of the space (see `passes.planner.space`) that fits in the chip's memory.

    Raises `PlanError` for a bad mesh, unknown hardware, or where nothing fits.
    """
    layout, chip = DeviceMesh.of(mesh), chip_of(hardware)
    return solve(canonicalize(graph), layout, chip)


def solve(graph: Graph, layout: DeviceMesh, chip: Chip) -> Plan:
    """The fastest plan of a canonical graph. Raises `PlanError` where nothing fits."""
    started = perf_counter()
    problem = Problem.of(graph, layout, chip)
    best, smallest = search(problem.space, problem.terms, problem.memory, chip.capacity)
    if not best:
        raise errors.does_not_fit(smallest, chip.capacity, chip.name, layout.as_dict())
    compute, storage = problem.named(best[0])
    runner_up = None
    if len(best) > 1:
        runner_up = RunnerUp(*problem.named(best[1]), best[1].seconds, best[1].peak)
    found = Plan(
        layout,
        problem.space.order,
        compute,
        storage,
        chip.name,
        search=Search(problem.space.plans, perf_counter() - started, optimal=True),
        runner_up=runner_up,
    )

    def reprice(changed_compute: Axes, changed_storage: Axes) -> tuple[float, int]:
        changed = Plan(layout, problem.space.order, changed_compute, changed_storage)
        cost, peak = problem.price(changed.wish)
        return float(step_seconds(cost.compute, cost.activations, cost.hidden)), peak

    why = reasons(problem.space.order, problem.space.fixed, compute, storage, best[0].seconds, chip.capacity, reprice)
    return replace(found, reasons=why, subject=subject_of(graph))
