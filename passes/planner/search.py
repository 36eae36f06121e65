"""The search: the fastest plan of the space that fits in memory, with proof.

It begins with plans that people write down (`passes.planner.first`): what cannot beat the second best of all plans that
are known is ruled out, most of it before it is priced (`passes.planner.branch_and_bound`). What is never looked at is
proven slower than what was kept, or not to fit, so the result is the optimum of the whole space. The runner-up is the
next distinct price, unless too many plans are as fast as the best to look at them all. Where none of the first plans
fits, the leanest of all is searched first (`passes.planner.leanest`): where that does not fit either, nothing does.

With a time limit the search ends with the best that it has found, and with the least that what it left out could take.
"""

from collections.abc import Sequence
from dataclasses import replace
from time import process_time

import numpy as np

from passes.hardware.chip import Chip
from passes.planner.branch_and_bound import BranchAndBound
from passes.planner.candidate import DISTINCT, SAME, Candidate, Found
from passes.planner.first import exchanged_plans, near_plans, usual_plans
from passes.planner.leanest import leanest
from passes.planner.memory import MemoryProgram
from passes.planner.peaks import Moments, sizes
from passes.planner.roots import asked_of
from passes.planner.space import PlanSpace
from passes.planner.terms import Term
from passes.sharding.rules import ShardingRules

Spaces = PlanSpace | Sequence[PlanSpace]


def search(
    spaces: Spaces,
    terms: list[Term],
    memory: MemoryProgram,
    chip: Chip,
    time_limit: float | None = None,
    limit: float = np.inf,
    networks: int = 1,
) -> Found:
    """The best candidates.

    Args:
        spaces: one, or several that are searched as one; of plans that are as fast those of the first.
        time_limit: seconds of this process's time after which the search ends with what it has.
        limit: seconds of a plan that is known already. Only faster ones are looked for; where there is none, nothing is
            found.
        networks: on how many the terms are priced at once (`passes.hardware.networks.Networks`): where there are
            several, the best plan on any of them alone is found, and no runner-up.
    """
    several = [spaces] if isinstance(spaces, PlanSpace) else list(spaces)
    terms_asked = [asked_of(term, several[0], chip) for term in terms]
    entries = sizes(memory, chip.memory, several[0])
    moments = Moments.of(memory, chip.memory).ordered([i for _, group in entries for i in group])
    deadline = None if time_limit is None else process_time() + time_limit
    margin = None if networks == 1 else 0.0
    room = entries, moments, chip.capacity
    plans = BranchAndBound(several, terms_asked, *room, limit, deadline, margin, networks)
    for place, space in enumerate(several):
        near = [each for _, best in plans.first.best[:1] for each in near_plans(space, (best.stored, best.masks))]
        plans.first.climb(place, space, [*(near or usual_plans(space)), *exchanged_plans(space)])
    lean: Candidate | None = None
    if not plans.first.best and np.isinf(limit) and plans.first.leanest is not None:
        # Nothing fits that anyone would think of: whether anything does, decides memory alone.
        (place, lean), least = leanest(several, entries, moments, plans.first.leanest, chip.capacity)
        if least > chip.capacity:
            return Found([], lean, np.inf)
        plans.first.climb(place, several[place], [(lean.stored, lean.masks)])
    plans.run()
    kept = plans.best or ([] if np.isinf(plans.left_out) else plans.first.best)
    if networks > 1:
        every = sorted((*plans.first.best, *plans.best), key=lambda each: each[1].seconds)
        kept = [each for each in every if each[1].seconds < limit][:1]
    elif len(kept) == 1:
        # Too many plans are as fast as the best to look at all of them: the next that is known stands for the next.
        over, below = kept[0][1].seconds * (1 + DISTINCT), limit * (1 - SAME)
        kept = [*kept, *[each for each in plans.first.best if over < each[1].seconds < below][:1]]
    best = [_checked(candidate, several[0], memory, chip) for _, candidate in kept]
    bound = min(plans.left_out, best[0].seconds) if best else plans.left_out
    return Found(best, None if best else lean, bound)


def _checked(candidate: Candidate, space: PlanSpace, memory: MemoryProgram, chip: Chip) -> Candidate:
    """A candidate with the peak that its rules have."""
    rules = ShardingRules(space.mesh, space.order, candidate.masks, candidate.stored.extra, candidate.order_where)
    return replace(candidate, peak=int(memory.peak(rules, chip.memory)[0]))
