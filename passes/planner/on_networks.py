"""The search over how mesh axes are assigned to the physical network (`passes.hardware.assignment`).

The plan on the usual network is known when it begins. On all others at once only plans that are faster than the best so
far are looked for: each operation and each collective is priced on all of them together, and a network is left out as
soon as no plan on it can be faster. Where there is none, that is proven as the optimum of one network is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter

from ir.graph import Graph
from passes.hardware.network import Network
from passes.placing import placed
from passes.planner.constraints import NETWORK
from passes.planner.explain import longer
from passes.planner.fastest import step_of
from passes.planner.layouts import ROUNDING, Search
from passes.planner.plan import Plan
from passes.planner.time_left import TimeLeft, unlimited
from passes.summary import times

_EVEN = 0.005
Faster = Callable[[Sequence[Network], float], tuple[Network | None, float]]
"""From networks and a limit: that of the fastest plan which takes less, None where there is none, and the seconds that
no plan on any of them can beat."""


def over_networks(
    graph: Graph,
    first: Plan,
    others: Sequence[Network],
    solved: Callable[[Network], Plan],
    faster: Faster,
    time: TimeLeft = unlimited,
) -> Plan:
    """The fastest plan on any of several networks of a mesh; of equal ones that on the first.

    Args:
        first: the best plan on the usual network.
        others: the other networks.
        solved: the best plan on one of them.
        time: where none is left, they are searched no more than once.
    """
    assert first.search is not None
    started, best, step = perf_counter(), first, step_of(first)
    bound, left = step * (1 - first.search.gap), list(others)
    while left:
        limit = step * (1 - ROUNDING)
        network, least = faster(left, limit)
        if network is None:
            bound = min(bound, least if least < limit else step)
            break
        plan = solved(network)
        assert plan.search is not None
        made = step_of(plan)
        bound = min(bound, made * (1 - plan.search.gap))
        if made < limit:
            best, step = plan, made
        if made <= least * (1 + ROUNDING):
            break
        if time() == 0.0:
            bound = min(bound, least)
            break
        # It takes longer than it seemed, so another network may be better.
        left.remove(network)
    plans, seconds = first.search.plans * (1 + len(others)), first.search.seconds + perf_counter() - started
    best = replace(best, search=Search.of(plans, seconds, step, bound))
    return best if best.network == first.network else with_reason(graph, best, step)


def with_reason(graph: Graph, plan: Plan, step: float, before: str = "") -> Plan:
    """A plan of a canonical graph with the reason of its network: what a step takes on the usual one under the same
    layouts.

    Args:
        step: seconds of a step under the plan.
        before: words in front.
    """
    usual = replace(plan, network=())
    other = times(graph, placed(graph, usual), usual).step
    change = other / step - 1 if step else 0.0
    slower = longer(change) if change > 0 else f"{-change:.0%} less"
    why = f"as usual, a step takes {slower if abs(change) > _EVEN else 'as long'}"
    return replace(plan, reasons={**plan.reasons, NETWORK: before + why})
