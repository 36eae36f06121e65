"""From a graph, a mesh and a chip to the best plan, its runner-up and the reasons."""

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter

from ir.graph import Graph
from passes import errors, require
from passes.canonicalize import canonicalize
from passes.hardware.chip import Chip, chip_of
from passes.planner.cost import step_seconds
from passes.planner.explain import reasons
from passes.planner.plan import Plan, RunnerUp, Search
from passes.planner.problem import Problem
from passes.planner.search import search
from passes.planner.subject import subject_of
from passes.sharding.mesh import DeviceMesh, MeshLike

__all__ = ["Problem", "plan", "solve"]

Axes = Mapping[str, tuple[str, ...]]


def plan(graph: Graph, mesh: MeshLike, hardware: str | Chip = "v5e") -> Plan:
    """The fastest plan of the space (see `passes.planner.space`) that fits in the chip's memory.

    Raises `PlanError` for a bad mesh, unknown hardware, or where nothing fits.
    """
    layout = DeviceMesh.of(mesh)
    return solve(canonicalize(require.graph(graph, "plan")), layout, hardware)


def solve(graph: Graph, layout: DeviceMesh, hardware: str | Chip) -> Plan:
    """The fastest plan of a canonical graph. Raises `PlanError` where nothing fits."""
    try:
        return _solved(graph, layout, hardware)
    except OverflowError:
        largest = max(graph.values(), key=lambda value: value.type.elements)
        raise errors.too_large_to_price(str(largest), largest.type.elements) from None


def _solved(graph: Graph, layout: DeviceMesh, hardware: str | Chip) -> Plan:
    started, chip = perf_counter(), chip_of(hardware)
    problem = Problem.of(graph, layout, chip)
    best, leanest = search(problem.space, problem.terms, problem.memory, chip)
    regather = not best
    if regather:
        problem = Problem.of(graph, layout, chip, regather)
        best, leanest = search(problem.space, problem.terms, problem.memory, chip)
    if not best:
        raise problem.does_not_fit(leanest)
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
        custom_chip=chip if isinstance(hardware, Chip) else None,
        search=Search(problem.space.plans, perf_counter() - started, optimal=True),
        runner_up=runner_up,
        regather=regather,
    )

    def reprice(changed_compute: Axes, changed_storage: Axes) -> tuple[float, int]:
        changed = Plan(layout, problem.space.order, changed_compute, changed_storage, chip.name)
        cost, peak = problem.price(changed.rules)
        return float(step_seconds(cost.compute, cost.activations, cost.hidden, chip.overlap)), peak

    why = reasons(problem.space.order, problem.space.fixed, compute, storage, best[0].seconds, chip.capacity, reprice)
    return replace(found, reasons=why, subject=subject_of(graph))
