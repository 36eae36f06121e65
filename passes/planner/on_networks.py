"""The search over how mesh axes are assigned to the physical network (`passes.hardware.assignment`).

The plan on the usual network is known when it begins. On each other one only plans that are faster than the best so far
are looked for, on that first on which the collectives of the known plan take least: where there are none, that is
proven as the optimum of one network is.
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
Bounded = Callable[[Network, float], tuple[bool, float]]
"""From a network and a limit: whether there is a plan that takes less, and the seconds that none can beat."""


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
    for network in _ranked(graph, first, others):
        limit = step * (1 - ROUNDING)
        faster, least = bounded(network, limit)
        if not faster:
            bound = min(bound, least if least < limit else step)
            continue
        plan = solved(network)
        assert plan.search is not None
        made = step_of(plan)
        bound = min(bound, made * (1 - plan.search.gap))
        if made < limit:
            best, step = plan, made
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
