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
from passes.planner.search import Candidate, Found, search
from passes.planner.subject import subject_of
from passes.sharding.mesh import DeviceMesh, MeshLike
from passes.sharding.once import once_in_loops
from passes.summary import times

__all__ = ["Problem", "plan", "solve"]

Axes = Mapping[str, tuple[str, ...]]


def plan(graph: Graph, mesh: MeshLike, hardware: str | Chip = "v5e", *, time_limit: float | None = None) -> Plan:
    """The fastest plan of the space (see `passes.planner.space`) that fits in the chip's memory.

    Args:
        time_limit: seconds of this process's time after which the best plan so far is taken; `plan.search` says by how
            much it could be slower than the optimum. Left out, the search goes on until the optimum is proven: only
            so does the plan not depend on how fast a machine is.

    Raises `PlanError` for a bad mesh, unknown hardware, or where nothing fits.
    """
    layout = DeviceMesh.of(mesh)
    return solve(canonicalize(require.graph(graph, "plan")), layout, hardware, time_limit)


def solve(graph: Graph, layout: DeviceMesh, hardware: str | Chip, time_limit: float | None = None) -> Plan:
    """The fastest plan of a canonical graph; see `plan`. Raises `PlanError` where nothing fits."""
    try:
        return _solved(graph, layout, hardware, time_limit)
    except OverflowError:
        largest = max(graph.values(), key=lambda value: value.type.elements)
        raise errors.too_large_to_price(str(largest), largest.type.elements) from None


_ROUNDING = 1e-6
"""Two ways to the same price add its parts in other orders."""


def _searched(
    graph: Graph, layout: DeviceMesh, chip: Chip, regather: bool, time_limit: float | None, once: bool = True
) -> tuple[Problem, Found]:
    problem = Problem.of(graph, layout, chip, regather, once)
    return problem, search(problem.space, problem.terms, problem.memory, chip, time_limit)


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


def _solved(graph: Graph, layout: DeviceMesh, hardware: str | Chip, time_limit: float | None) -> Plan:
    started, chip = perf_counter(), chip_of(hardware)
    own = chip if isinstance(hardware, Chip) else None
    regather = False
    problem, found = _searched(graph, layout, chip, regather, time_limit)
    if not found.best:
        regather = True
        problem, found = _searched(graph, layout, chip, regather, time_limit)
    if not found.best:
        raise problem.does_not_fit(found.leanest)
    best = _plan(problem, found.best, chip.name, own, regather)
    made, bound = found.best[0].seconds, found.bound
    if once_in_loops(graph, problem.roles):
        # The search took it that all that loops may do once is done so. There may be no room for that.
        made = times(graph, placed(graph, best), best).step
        if made > bound * (1 + _ROUNDING):
            other, others = _searched(graph, layout, chip, regather, time_limit, once=False)
            second = _plan(other, others.best, chip.name, own, regather)
            made_by_second = times(graph, placed(graph, second), second).step
            if made_by_second < made:
                problem, found, best, made = other, others, second, made_by_second
    gap = max(0.0, 1.0 - bound / made) if made > bound * (1 + _ROUNDING) else 0.0
    compute, storage = best.compute, best.storage
    best = replace(best, search=Search(problem.space.plans, perf_counter() - started, gap == 0.0, gap))

    def reprice(changed_compute: Axes, changed_storage: Axes) -> tuple[float, int]:
        changed = Plan(layout, problem.space.order, changed_compute, changed_storage, chip.name)
        cost, peak = problem.price(changed.rules)
        return float(step_seconds(cost.compute, cost.activations, cost.hidden, chip.overlap)), peak

    why = reasons(
        problem.space.order, problem.space.fixed, compute, storage, found.best[0].seconds, chip.capacity, reprice
    )
    return replace(best, reasons=why, subject=subject_of(graph))
