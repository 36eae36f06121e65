"""From a graph, a mesh and a chip to the best plan, its runner-up and the reasons."""

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter

from ir.graph import Graph
from passes import errors, require
from passes.canonicalize import canonicalize
from passes.hardware.chip import Chip, chip_of
from passes.placing import placed
from passes.planner.cost import step_seconds
from passes.planner.explain import reasons
from passes.planner.plan import Plan, RunnerUp, Search
from passes.planner.problem import Problem
from passes.planner.search import Candidate, search
from passes.planner.subject import subject_of
from passes.sharding.mesh import DeviceMesh, MeshLike
from passes.sharding.once import once_in_loops
from passes.summary import times

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


_ROUNDING = 1e-6
"""Two ways to the same price add its parts in other orders."""


def _searched(
    graph: Graph, layout: DeviceMesh, chip: Chip, regather: bool, once: bool = True
) -> tuple[Problem, list[Candidate], Candidate | None]:
    problem = Problem.of(graph, layout, chip, regather, once)
    return problem, *search(problem.space, problem.terms, problem.memory, chip)


def _plan(problem: Problem, best: list[Candidate], hardware: str, chip: Chip | None, regather: bool) -> Plan:
    """The best of some candidates, with the next as its runner-up."""
    compute, storage = problem.named(best[0])
    runner_up = None
    if len(best) > 1:
        runner_up = RunnerUp(*problem.named(best[1]), best[1].seconds, best[1].peak)
    return Plan(
        problem.network.mesh,
        problem.space.order,
        compute,
        storage,
        hardware,
        custom_chip=chip,
        runner_up=runner_up,
        regather=regather,
    )


def _solved(graph: Graph, layout: DeviceMesh, hardware: str | Chip) -> Plan:
    started, chip = perf_counter(), chip_of(hardware)
    own = chip if isinstance(hardware, Chip) else None
    regather = False
    problem, best, leanest = _searched(graph, layout, chip, regather)
    if not best:
        regather = True
        problem, best, leanest = _searched(graph, layout, chip, regather)
    if not best:
        raise problem.does_not_fit(leanest)
    found = _plan(problem, best, chip.name, own, regather)
    optimal = True
    if once_in_loops(graph, problem.roles):
        # The search took it that all that loops may do once is done so. There may be no room for that.
        least, made = best[0].seconds, times(graph, placed(graph, found), found).step
        if made > least * (1 + _ROUNDING):
            other, others, _ = _searched(graph, layout, chip, regather, once=False)
            second = _plan(other, others, chip.name, own, regather)
            made_by_second = times(graph, placed(graph, second), second).step
            if made_by_second < made:
                problem, best, found, made = other, others, second, made_by_second
            optimal = made <= least * (1 + _ROUNDING)
    compute, storage = found.compute, found.storage
    found = replace(found, search=Search(problem.space.plans, perf_counter() - started, optimal))

    def reprice(changed_compute: Axes, changed_storage: Axes) -> tuple[float, int]:
        changed = Plan(layout, problem.space.order, changed_compute, changed_storage, chip.name)
        cost, peak = problem.price(changed.rules)
        return float(step_seconds(cost.compute, cost.activations, cost.hidden, chip.overlap)), peak

    why = reasons(problem.space.order, problem.space.fixed, compute, storage, best[0].seconds, chip.capacity, reprice)
    return replace(found, reasons=why, subject=subject_of(graph))
