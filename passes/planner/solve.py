"""From a graph, a mesh and a chip to the best plan, its runner-up and the reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from time import perf_counter
from typing import Any

from ir.graph import Graph
from passes import errors
from passes.hardware.assignment import assignment_of
from passes.hardware.chip import Chip, chip_of
from passes.hardware.network import Network
from passes.hardware.networks import Networks, networks
from passes.placing import placed
from passes.planner.candidate import Candidate, Found
from passes.planner.constraints import Constraints
from passes.planner.cost import step_seconds
from passes.planner.errors import nothing_fits_with
from passes.planner.explain import reason_of_order, reasons
from passes.planner.fastest import fastest, step_of
from passes.planner.layouts import ROUNDING, Search
from passes.planner.on_networks import over_networks, with_reason
from passes.planner.orders import ORDER, in_each_order, orders
from passes.planner.plan import Plan, RunnerUp
from passes.planner.problem import Problem
from passes.planner.search import search
from passes.planner.subject import subject_of
from passes.planner.time_left import TimeLeft, time_left
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
    limit: float = inf,
) -> Plan:
    """The fastest plan of a canonical graph as it is; see `passes.plan`.

    Args:
        limit: seconds of a step that is known already: only faster ones are looked for.

    Raises:
        DoesNotFit: nothing fits; `NothingFaster` where there is a limit and nothing that fits takes less.
        PlanError: see `passes.plan`.
    """
    given, left = constraints or Constraints(), time_left(time_limit)

    def storing(stored: tuple[StateKind, ...]) -> Plan:
        return _solved(_Question(graph, hardware, left, given, stored, limit), layout)

    try:
        if len(given.levels) == 1:
            return storing(*given.levels)
        # Of those that are as fast the first, which stores the most.
        best, _ = fastest({stored: partial(storing, stored) for stored in given.levels}, left)
        return best
    except OverflowError:
        largest = max(graph.values(), key=lambda value: value.type.elements)
        raise errors.too_large_to_price(str(largest), largest.type.elements) from None


@dataclass(frozen=True)
class _Question:
    """What is searched: plans of a canonical graph on a mesh that store some kinds of state."""

    graph: Graph
    hardware: str | Chip
    left: TimeLeft
    constraints: Constraints
    stored: tuple[StateKind, ...]
    limit: float = inf


def _searched(
    asked: _Question, network: Network, regather: bool, once: bool = True, limit: float = inf
) -> tuple[Problem, Found]:
    """The best plans on a network, or on one of several; where a `limit` is given, of those that take less.

    Args:
        once: what loops need not do in every trip is taken to be done once.
    """
    graph, constraints = asked.graph, asked.constraints
    count = len(network.several) if isinstance(network, Networks) else 1
    problem = Problem.of(graph, network.mesh, network.chip, regather, once, asked.stored, network=network)
    allowed = [problem.space]
    if constraints.of_names:
        allowed = constraints.allowed(problem.space, problem.shapes, graph.axis_sizes(), graph.name)
    spaces = in_each_order(allowed, orders(graph, problem.roles, problem.space)[1:])
    limit = min(limit, asked.limit)
    found = search(spaces, problem.terms, problem.memory, network.chip, asked.left(), limit, count)
    if len(spaces) > 1 or constraints.of_names:
        problem = replace(problem, space=replace(problem.space, parts=tuple(spaces)))
    return problem, found


def _plan(asked: _Question, problem: Problem, best: list[Candidate], regather: bool) -> Plan:
    """The best of some candidates, with the next as its runner-up."""
    compute, storage = problem.named(best[0])
    runner_up = None
    if len(best) > 1:
        runner_up = RunnerUp(*problem.named(best[1]), best[1].seconds, best[1].peak, best[1].order_where)
    network = problem.network
    return Plan(
        network.mesh,
        problem.space.order,
        compute,
        storage,
        network.chip.name,
        custom_chip=asked.hardware if isinstance(asked.hardware, Chip) else None,
        runner_up=runner_up,
        regather=regather,
        stored=asked.stored,
        order_where=best[0].order_where,
        network=network.given.words(network.mesh) if network.given is not None else (),
    )


def _solved(asked: _Question, layout: DeviceMesh) -> Plan:
    """The best plan on the best of the networks that the mesh may have, or on the one that is pinned.

    Raises:
        PlanError: nothing fits, or the chip has no such network.
    """
    chip, pinned = chip_of(asked.hardware), asked.constraints.network
    if pinned is not None:
        given = assignment_of(pinned, layout, chip) if pinned else None
        plan = _solved_on(asked, Network(layout, chip, given))
        return with_reason(asked.graph, plan, step_of(plan), "pinned; ") if given else plan
    usual, others = Network(layout, chip), networks(layout, chip, alike=not asked.constraints.of_names)[1:]
    if not others:
        return _solved_on(asked, usual)
    first, others = _first_of(asked, [usual, *others]) if asked.limit < inf else (_solved_on(asked, usual), others)
    faster = partial(_faster, asked, bool(first.regather))
    return over_networks(asked.graph, first, others, lambda network: _solved_on(asked, network), faster, asked.left)


def _faster(asked: _Question, regather: bool, several: Sequence[Network], limit: float) -> tuple[Network | None, float]:
    """Of some networks that of the fastest plan that takes less than a limit, None where there is none; and the seconds
    that no plan on any of them can beat."""
    every = Networks.of_all(several) if len(several) > 1 else several[0]
    _, found = _searched(asked, every, regather, limit=limit)
    return several[found.best[0].network] if found.best else None, min(found.bound, limit)


def _first_of(asked: _Question, several: Sequence[Network]) -> tuple[Plan, Sequence[Network]]:
    """The best plan on the best of some networks, where any takes less than the limit, and the other networks.

    Raises:
        NothingFaster: there is none.
    """
    bound = inf
    for regather in (False, True):
        network, least = _faster(asked, regather, several, asked.limit)
        bound = min(bound, least)
        if network is not None:
            plan = _solved_on(asked, network)
            assert plan.subject is not None
            plan = with_reason(plan.subject.graph, plan, step_of(plan)) if plan.network else plan
            return plan, [other for other in several if other is not network]
    raise errors.NothingFaster(bound)


def _solved_on(asked: _Question, network: Network) -> Plan:
    """The best plan on a network."""
    started, graph = perf_counter(), asked.graph
    regather = False
    problem, found = _searched(asked, network, regather)
    least = found.bound
    if not found.best:
        regather = True
        problem, found = _searched(asked, network, regather)
    if not found.best and asked.limit < inf:
        raise errors.NothingFaster(min(least, found.bound, asked.limit))
    if not found.best:
        refused, layout = problem.does_not_fit(found.leanest), network.mesh
        constraints = asked.constraints
        raise nothing_fits_with(constraints.described(layout), refused) if constraints else refused
    best = _plan(asked, problem, found.best, regather)
    made, bound = found.best[0].seconds, found.bound
    if once_in_loops(graph, problem.roles):
        # The search took it that all that loops may do once is done so. There may be no room for that.
        made = times(graph, placed(graph, best), best).step
        if made > bound * (1 + ROUNDING) and asked.left() != 0.0:
            other, others = _searched(asked, network, regather, once=False)
            if others.best:
                second = _plan(asked, other, others.best, regather)
                made_by_second = times(graph, placed(graph, second), second).step
                if made_by_second < made:
                    problem, found, best, made = other, others, second, made_by_second
    best = replace(best, search=Search.of(problem.space.plans, perf_counter() - started, made, bound))
    why = _reasons(problem, best, found.best[0].seconds)
    return replace(best, reasons=asked.constraints.reasons(why, network.mesh), subject=subject_of(graph))


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
    how: dict[str, Any] = {"stored": plan.stored, "order_where": plan.order_where, "network": plan.physical}
    problem = Problem.of(graph, plan.mesh, plan.chip, bool(plan.regather), **how)
    cost = problem.cost(plan.rules)
    seconds = float(step_seconds(cost.compute, cost.activations, cost.hidden, plan.chip.overlap))
    return replace(plan, reasons=_reasons(problem, plan, seconds))
