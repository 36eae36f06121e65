"""From a graph, a mesh and a chip to the best plan, its runner-up and the reasons."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from time import perf_counter

from ir.graph import Graph
from passes import errors
from passes.hardware.chip import Chip, chip_of
from passes.placing import placed
from passes.planner.candidate import Candidate, Found
from passes.planner.constraints import Constraints
from passes.planner.cost import step_seconds
from passes.planner.errors import nothing_fits_with
from passes.planner.explain import reason_of_order, reasons
from passes.planner.fastest import fastest
from passes.planner.layouts import ROUNDING, Search
from passes.planner.orders import ORDER, in_each_order, orders
from passes.planner.plan import Plan, RunnerUp
from passes.planner.problem import Problem
from passes.planner.search import search
from passes.planner.subject import subject_of
from passes.sharding.mesh import DeviceMesh
from passes.sharding.once import once_in_loops
from passes.sharding.state import StateKind
from passes.summary import times

__all__ = ["Problem", "solve"]

Axes = Mapping[str, tuple[str, ...]]


def solve(
    graph: Graph,
    layout: DeviceMesh,
    hardware: str | Chip,
    time_limit: float | None = None,
    constraints: Constraints | None = None,
) -> Plan:
    """The fastest plan of a canonical graph as it is; see `passes.plan`. Raises `PlanError` where nothing fits."""
    given = constraints or Constraints()
    storing = partial(_solved_storing, graph, layout, hardware, time_limit, given)
    try:
        if len(given.levels) == 1:
            return storing(*given.levels)
        # Of those that are as fast the first, which stores the most.
        best, _ = fastest({stored: partial(storing, stored) for stored in given.levels})
        return best
    except OverflowError:
        largest = max(graph.values(), key=lambda value: value.type.elements)
        raise errors.too_large_to_price(str(largest), largest.type.elements) from None


def _searched(
    graph: Graph,
    layout: DeviceMesh,
    chip: Chip,
    regather: bool,
    time_limit: float | None,
    constraints: Constraints,
    stored: tuple[StateKind, ...],
    once: bool = True,
) -> tuple[Problem, Found]:
    problem = Problem.of(graph, layout, chip, regather, once, stored)
    allowed = [problem.space]
    if constraints.of_names:
        allowed = constraints.allowed(problem.space, problem.shapes, graph.axis_sizes(), graph.name)
    spaces = in_each_order(allowed, orders(graph, problem.roles, problem.space)[1:])
    found = search(spaces, problem.terms, problem.memory, chip, time_limit)
    if len(spaces) > 1 or constraints.of_names:
        problem = replace(problem, space=replace(problem.space, parts=tuple(spaces)))
    return problem, found


def _plan(
    problem: Problem,
    best: list[Candidate],
    hardware: str,
    chip: Chip | None,
    regather: bool,
    stored: tuple[StateKind, ...],
) -> Plan:
    """The best of some candidates, with the next as its runner-up."""
    compute, storage = problem.named(best[0])
    runner_up = None
    if len(best) > 1:
        runner_up = RunnerUp(*problem.named(best[1]), best[1].seconds, best[1].peak, best[1].order_where)
    return Plan(
        problem.network.mesh,
        problem.space.order,
        compute,
        storage,
        hardware,
        custom_chip=chip,
        runner_up=runner_up,
        regather=regather,
        stored=stored,
        order_where=best[0].order_where,
    )


def _solved_storing(
    graph: Graph,
    layout: DeviceMesh,
    hardware: str | Chip,
    time_limit: float | None,
    constraints: Constraints,
    stored: tuple[StateKind, ...],
) -> Plan:
    """The best plan that stores some kinds of state."""
    started, chip = perf_counter(), chip_of(hardware)
    own = chip if isinstance(hardware, Chip) else None
    regather = False
    problem, found = _searched(graph, layout, chip, regather, time_limit, constraints, stored)
    if not found.best:
        regather = True
        problem, found = _searched(graph, layout, chip, regather, time_limit, constraints, stored)
    if not found.best:
        refused = problem.does_not_fit(found.leanest)
        raise nothing_fits_with(constraints.described(layout), refused) if constraints else refused
    best = _plan(problem, found.best, chip.name, own, regather, stored)
    made, bound = found.best[0].seconds, found.bound
    if once_in_loops(graph, problem.roles):
        # The search took it that all that loops may do once is done so. There may be no room for that.
        made = times(graph, placed(graph, best), best).step
        if made > bound * (1 + ROUNDING):
            other, others = _searched(graph, layout, chip, regather, time_limit, constraints, stored, once=False)
            second = _plan(other, others.best, chip.name, own, regather, stored)
            made_by_second = times(graph, placed(graph, second), second).step
            if made_by_second < made:
                problem, found, best, made = other, others, second, made_by_second
    best = replace(best, search=Search.of(problem.space.plans, perf_counter() - started, made, bound))
    why = _reasons(problem, best, found.best[0].seconds)
    return replace(best, reasons=constraints.reasons(why, layout), subject=subject_of(graph))


def _reasons(problem: Problem, plan: Plan, seconds: float) -> dict[str, str]:
    """Of every name, why it is where it is."""
    chip, order = problem.network.chip, problem.space.order

    def reprice(compute: Axes, storage: Axes) -> tuple[float, int]:
        return price(replace(plan, order=order, compute=compute, storage=storage))

    def price(other: Plan) -> tuple[float, int]:
        cost, peak = problem.price(other.rules)
        return float(step_seconds(cost.compute, cost.activations, cost.hidden, chip.overlap)), peak

    found = reasons(order, problem.space.fixed, plan.compute, plan.storage, seconds, chip.capacity, reprice)
    if not plan.order_where:
        return found
    without = price(replace(plan, order_where={}))
    return {**found, ORDER: reason_of_order(*without, seconds, chip.capacity)}


def with_reasons(graph: Graph, plan: Plan) -> Plan:
    """A plan that was not searched for, with the reason of every name: what it would cost to undo the choice alone."""
    problem = Problem.of(
        graph, plan.mesh, plan.chip, bool(plan.regather), stored=plan.stored, order_where=plan.order_where
    )
    cost, _ = problem.price(plan.rules)
    seconds = float(step_seconds(cost.compute, cost.activations, cost.hidden, plan.chip.overlap))
    return replace(plan, reasons=_reasons(problem, plan, seconds))
