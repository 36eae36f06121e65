"""The search over how mesh axes are assigned to the physical network (`passes.hardware.assignment`).

The plan on the usual network is known when it begins. All others are bounded together by one on which each collective
takes the least that it takes on any of them: where no plan on that is faster, none is on any of them. Where one is, the
network on which it comes out fastest is searched by itself, and the rest are bounded in halves.
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
from passes.summary import awaited, collectives, times

_EVEN = 0.005
Bounded = Callable[[Sequence[Network], float], tuple[Plan | None, float]]
"""From networks and a limit to a plan that takes less where each collective takes the least that it takes on any of
them, if there is one, and the seconds that none can beat."""


def over_networks(
    graph: Graph, first: Plan, others: Sequence[Network], solved: Callable[[Network], Plan], bounded: Bounded
) -> Plan:
    """The fastest plan on any of several networks of a mesh; of equal ones that on the first.

    Args:
        first: the best plan on the usual network.
        others: the other networks.
        solved: the best plan on one of them.
    """
    assert first.search is not None
    started, best, step = perf_counter(), first, step_of(first)
    bound = step * (1 - first.search.gap)
    waiting = [list(others)]
    while waiting:
        group = waiting.pop()
        limit = step * (1 - ROUNDING)
        near, least = bounded(group, limit)
        if near is None:
            bound = min(bound, least if least < limit else step)
            continue
        best_first = _ranked(graph, near, group)
        plan = solved(best_first[0])
        assert plan.search is not None
        made = step_of(plan)
        bound = min(bound, made * (1 - plan.search.gap))
        if made < step * (1 - ROUNDING):
            best, step = plan, made
        rest, middle = best_first[1:], len(best_first) // 2
        waiting += [half for half in (rest[middle:], rest[:middle]) if half]
    plans, seconds = first.search.plans * (1 + len(others)), first.search.seconds + perf_counter() - started
    best = replace(best, search=Search.of(plans, seconds, step, bound))
    return best if best.network == first.network else with_reason(graph, best)


def with_reason(graph: Graph, plan: Plan, before: str = "") -> Plan:
    """A plan of a canonical graph with the reason of its network: what a step takes on the usual one under the same
    layouts.

    Args:
        before: words in front.
    """
    usual = replace(plan, network=())
    step, other = (times(graph, placed(graph, each), each).step for each in (plan, usual))
    change = other / step - 1 if step else 0.0
    slower = longer(change) if change > 0 else f"{-change:.0%} less"
    why = f"as usual, a step takes {slower if abs(change) > _EVEN else 'as long'}"
    return replace(plan, reasons={**plan.reasons, NETWORK: before + why})


def _ranked(graph: Graph, plan: Plan, several: Sequence[Network]) -> list[Network]:
    """Networks by what the collectives of a plan take on them, the least first."""
    sent = collectives(placed(graph, plan), plan)
    overlap, mesh = plan.chip.overlap, plan.mesh

    def taken(network: Network) -> float:
        total = 0.0
        for each in sent:
            share = 1.0 - (overlap.activations if awaited(each.moving) else overlap.state)
            mask = mesh.mask(each.mesh_axes)
            total += share * each.count * float(network.seconds(each.kind, mask, each.bytes, awaited(each.moving)))
        return total

    return sorted(several, key=taken)
