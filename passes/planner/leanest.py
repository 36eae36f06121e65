"""The plan that needs the least memory: the proof that nothing fits, and what is told of it then.

The peak is the largest of sums over what is held at each moment, and no less than that at any two of them. At which two
of them most is held is known from a plan that is lean, and a plan that holds less at both is looked for as a fast one
is, bytes in the place of seconds (`passes.planner.branch_and_bound`). Where the one that is found holds more at another
moment, that one is taken in the place of the second.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from passes.planner.branch_and_bound import BranchAndBound
from passes.planner.candidate import Candidate, Ranked
from passes.planner.first import rules_of_plans, usual_plans
from passes.planner.peaks import Moments
from passes.planner.space import PlanSpace
from passes.planner.tables import Asked, Float
from passes.sharding.mesh import IntArray
from passes.sharding.rules import ShardingRules

LEANEST = 5e-3
"""How much leaner a plan must be than the leanest so far to be looked for."""
TOLD = 2e-2
"""How much more than the least that is proven a plan may need that is told of where nothing fits."""
_SMALL = 1e-3
"""Of the peak, what is left out of the bound."""
_ROUNDS = 4
"""Pairs of moments that are tried."""

Entries = Sequence[tuple[Asked, list[int]]]


def leanest(
    spaces: Sequence[PlanSpace], entries: Entries, moments: Moments, known: Ranked, capacity: int
) -> tuple[Ranked, float]:
    """The plan that needs the least memory, but for a share of `TOLD` and what a chip keeps on it of temporaries;
    and bytes that no plan can do without.

    Args:
        moments: with the entries in their order.
        known: a lean plan.
        capacity: what a proof is worth most of that nothing does with.
    """
    best: Ranked = known
    least = 0.0
    held = _held(best[1], spaces[0], entries, moments)
    pair = np.resize(np.argsort(-held, kind="stable")[:2], 2)
    spared = moments.chip.most_spared
    for _ in range(_ROUNDS):
        wanted = best[1].peak * (1 - LEANEST)
        if wanted - spared <= capacity < best[1].peak:
            wanted = capacity + 1.0 + spared
        limit = min(wanted, float(_held(best[1], spaces[0], entries, moments)[pair].max()))
        found = _leaner(spaces, entries, moments, pair, best, limit)
        if found is None:
            return best, max(least, limit - spared)
        place, plan = found
        least = max(least, plan.seconds * (1 - LEANEST) - spared)
        held = _held(plan, spaces[0], entries, moments)
        plan = replace(plan, seconds=np.inf, peak=int(moments.peak(_sizes(plan, spaces[0], entries))[0]))
        if plan.peak < best[1].peak:
            best = place, plan
        most = int(np.argmax(held))
        if most in pair or best[1].peak <= capacity or capacity < least >= best[1].peak / (1 + TOLD):
            break
        pair = np.array([pair[0], most])
    return best, least


def _leaner(
    spaces: Sequence[PlanSpace], entries: Entries, moments: Moments, pair: IntArray, known: Ranked, limit: float
) -> Ranked | None:
    """The plan that holds least at two moments, but for a share of `LEANEST`, its bytes as seconds; None where none
    holds less than a limit at both."""
    without = Moments.none(moments.chip)
    functions = _functions(spaces[0], entries, moments.counts[pair], limit)
    plans = BranchAndBound(spaces, functions, [], without, np.inf, limit, margin=LEANEST)
    place, plan = known
    plans.first.climb(place, spaces[place], [(plan.stored, plan.masks)])
    plans.run()
    kept = plans.best or [each for each in plans.first.best if each[1].seconds < limit]
    return kept[0] if kept else None


def _functions(space: PlanSpace, entries: Entries, counts: Float, limit: float) -> list[Asked]:
    """What entries hold at each of two moments, without those that together hold next to nothing where each holds most:
    what is left is a bound all the same."""
    choices = list(usual_plans(space))
    found: list[tuple[float, int, Asked]] = []
    start = 0
    rules = rules_of_plans(space, choices)
    for asked, group in entries:
        mine = counts[:, start : start + len(group)]
        start += len(group)
        if mine.any():
            each = _at(asked, mine)
            found.append((max(float(np.max(row)) for row in each.rows(rules)), start, each))
    found.sort(key=lambda each: each[:2])
    small = np.cumsum([most for most, _, _ in found]) < _SMALL * limit
    kept = [each for each, little in zip(found, small, strict=True) if not little]
    return [asked for _, _, asked in sorted(kept, key=lambda each: each[1])]


def _at(asked: Asked, counts: Float) -> Asked:
    """What some entries hold at each of two moments."""

    def rows(rules: ShardingRules) -> list[Any]:
        sizes = asked.rows(rules)
        return [sum((count * size for count, size in zip(of, sizes, strict=True)), np.float64(0.0)) for of in counts]

    return replace(asked, rows=rows)


def _held(plan: Candidate, space: PlanSpace, entries: Entries, moments: Moments) -> Float:
    """[moment] the bytes that a plan holds, on the chip as well."""
    return (moments.counts @ _sizes(plan, space, entries))[:, 0]


def _sizes(plan: Candidate, space: PlanSpace, entries: Entries) -> Float:
    """[entry, 1] the bytes of each entry under a plan."""
    rules = ShardingRules(space.mesh, space.order, plan.masks, plan.stored.extra, plan.order_where)
    return np.array([[float(size)] for asked, _ in entries for size in asked.rows(rules)])
