"""The search: the fastest plan of the space that fits in memory, with proof.

Branch and bound over single decisions: whether a name wishes for a mesh axis. The name that is stored on more mesh axes
is fixed first, each with tables of its own (`passes.planner.tables`). The smallest entries of all tables under what is
decided add up to a bound that no completion can beat, and smallest sizes at each moment to memory that none can do
without (`passes.planner.peaks`). Both are known for either answer to each open decision as well: an answer that cannot
beat the second best plan, or cannot fit, is ruled out at once, and the decision that raises the bound most comes next.
What is never looked at is proven slower than what was kept, or not to fit, so the result is the optimum of the whole
space. The runner-up is the next distinct price, unless too many plans are as fast as the best to look at them all.
Where nothing fits, the same search finds the smallest peak, but for a thousandth.

With a time limit the search ends with the best that it has found, and with the least that what it left out could take.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from math import fsum, prod
from time import process_time
from typing import Any

import numpy as np

from passes.hardware.chip import Chip
from passes.planner.branch import BOUNDS, Branch, Part
from passes.planner.first import Choice, near_plans, prices, usual_plans
from passes.planner.groups import Function, Group, grouped, legal_group
from passes.planner.leanest import LEANEST, Leanest
from passes.planner.memory import MemoryProgram
from passes.planner.peaks import Moments, sizes
from passes.planner.space import PlanSpace, StorageAxes
from passes.planner.tables import EXTRA, Asked, Float, able_names
from passes.planner.terms import Term
from passes.sharding.mesh import IntArray
from passes.sharding.rules import OrderWhere, ShardingRules

DISTINCT = 1e-6
"""How much slower a plan must be to have another price."""
_ROUNDING = 1e-12
_MORE = 50
"""Branches that are looked at for the next price in any case."""
_NEAR = 1
"""How often what is near the best of the first plans is priced."""
_DENSE = 1 << 15
"""Plans of a branch that are priced one by one."""
_HEAVY = 1e-2
"""Of the heaviest group, how much another one weighs that is taken in before the small ones."""
_SOME = 1 << 12
"""Plans that are looked at together; sets that are made before it is worth to rule out what can be."""
_A_TABLE = 200
"""Sets that are worth a table."""
_DIGITS = 1e9
"""To how many parts of the largest two prices are the same."""

Spaces = PlanSpace | Sequence[PlanSpace]


@dataclass(frozen=True)
class Candidate:
    """A complete plan: predicted seconds, peak bytes, storage choice, mask of every name with options, and where the
    order of names is another one than that of the space."""

    seconds: float
    peak: int
    stored: StorageAxes
    masks: dict[str, int]
    order_where: OrderWhere = field(default_factory=dict[str, tuple[str, ...]])


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        best: at most two candidates in order of price, the second slower than the first. Empty where nothing fits.
        leanest: the candidate with the smallest peak, where nothing fits.
        bound: seconds that no plan that fits can beat; those of the best where it is provably optimal.
    """

    best: list[Candidate]
    leanest: Candidate | None
    bound: float


def search(
    spaces: Spaces,
    terms: list[Term],
    memory: MemoryProgram,
    chip: Chip,
    time_limit: float | None = None,
    limit: float = np.inf,
) -> Found:
    """The best candidates.

    Args:
        spaces: one, or several that are searched as one; of plans that are as fast those of the first.
        time_limit: seconds of this process's time after which the search ends with what it has.
        limit: seconds of a plan that is known already. Only faster ones are looked for; where there is none, nothing is
            found.
    """
    several = [spaces] if isinstance(spaces, PlanSpace) else list(spaces)
    return _Search(several, terms, memory, chip, time_limit, limit).run()


@dataclass(frozen=True)
class _Root:
    """A part of a space, where storage axes go to one name: what is added up there, and for each mesh axis the names
    that can wish for it, and those that cannot but do so."""

    space: PlanSpace
    place: int
    stored: str | None
    able: list[tuple[int, int]]
    groups: list[Group]


class _Search:
    def __init__(
        self,
        spaces: list[PlanSpace],
        terms: list[Term],
        memory: MemoryProgram,
        chip: Chip,
        time_limit: float | None,
        known: float,
    ) -> None:
        self.spaces = spaces
        self.chip = chip
        self.capacity = chip.capacity
        self.names = (*spaces[0].names, EXTRA)
        self.terms = [asked_of(term, spaces[0], chip) for term in terms]
        self.arithmetic = [arithmetic_of(term, spaces[0]) for term in terms]
        self.weights = [np.inf for _ in terms]
        self.entries = sizes(memory, chip.memory, spaces[0])
        self.moments = Moments.of(memory, chip.memory).ordered([i for _, group in self.entries for i in group])
        self.memory = memory
        self.known = known
        self.deadline = None if time_limit is None else process_time() + time_limit
        self.begun: list[tuple[int, Candidate]] = []
        self.begun_lean: Candidate | None = None
        self.best: list[tuple[int, Candidate]] = []
        self.leanest: Candidate | None = None
        self.left_out = np.inf
        self.looked_at = self.until_best = 0
        self.list_of_roots: list[_Root] = []

    def run(self) -> Found:
        for place, space in enumerate(self.spaces):
            self.begin(place, space)
        if not self.begun and np.isinf(self.known) and self.begun_lean is not None:
            # Nothing fits that anyone would think of: whether anything does, decides memory alone.
            self.leanest = self.leaner(self.begun_lean)
            if self.leanest.peak * (1 - LEANEST) > self.capacity:
                return Found([], self.leanest, np.inf)
        self.search()
        kept = self.best or ([] if np.isinf(self.left_out) else self.begun)
        best = [self.checked(candidate) for _, candidate in kept]
        bound = min(self.left_out, best[0].seconds) if best else self.left_out
        return Found(best, None if best else self.leanest, bound)

    def price_of(self, candidate: Candidate) -> float:
        """Seconds of a candidate."""
        rows = np.array([asked.rows(self.rules(candidate)) for asked in self.terms], dtype=float)
        return float(rows.sum(axis=0).max()) if len(rows) else 0.0

    def rules(self, candidate: Candidate) -> ShardingRules:
        """The sharding rules of a candidate."""
        stored, space = candidate.stored, self.spaces[0]
        extra = {stored.name: stored.mask} if stored.name is not None else {}
        return ShardingRules(space.mesh, space.order, candidate.masks, extra, candidate.order_where)

    def checked(self, candidate: Candidate) -> Candidate:
        """A candidate with the peak that its rules have."""
        peak, _ = self.memory.peak(self.rules(candidate), self.chip.memory)
        return replace(candidate, peak=int(peak))

    def leaner(self, known: Candidate) -> Candidate:
        """The candidate that needs the least memory."""
        space = next(each for each in self.spaces if each.order_where == known.order_where)
        masks = {**known.masks, EXTRA: known.stored.mask}
        lean = (float(known.peak), space, known.stored.name, masks)
        peak, space, stored, masks = Leanest(self.spaces, self.entries, self.moments, self.names, lean).run()
        mask = masks.pop(EXTRA)
        found = Candidate(np.inf, round(peak), StorageAxes(stored, mask), masks, space.order_where)
        if found.peak <= self.capacity:
            cost = self.price_of(found)
            place = next(i for i, each in enumerate(self.spaces) if each is space)
            self.begun = ranked([*self.begun, (place, replace(found, seconds=cost))])
        return found

    def begin(self, place: int, space: PlanSpace) -> None:
        """Notes the best of some plans that are priced at once, and of those near it."""
        choices = list(usual_plans(space))
        for _ in range(_NEAR + 1):
            seconds, peaks, least = prices(space, choices, self.terms, self.entries, self.moments)
            self.weights = [min(each) for each in zip(self.weights, least, strict=True)]
            lean = int(np.argmin(peaks))
            if self.begun_lean is None or peaks[lean] < self.begun_lean.peak:
                self.begun_lean = _candidate(space, choices[lean], seconds[lean], peaks[lean])
            seconds = np.where(peaks <= self.capacity, seconds, np.inf)
            first = int(np.argmin(seconds))
            if np.isinf(seconds[first]):
                choices = list(near_plans(space, choices[lean]))
                continue
            for i in np.argsort(seconds, kind="stable")[:_SOME].tolist():
                if seconds[i] < np.inf:
                    self.begun = ranked([*self.begun, (place, _candidate(space, choices[i], seconds[i], peaks[i]))])
            choices = list(near_plans(space, choices[first]))

    def search(self) -> None:
        """From the branch with the smallest bound down to plans, again and again, as long as one can be better."""
        waiting: list[tuple[float, int, Branch]] = []
        numbers = count()

        def dive(branch: Branch) -> None:
            """Down to plans at once: what they cost rules out others."""
            children = self.children(branch)
            while children:
                children.sort(key=lambda child: child[0])
                for bound, other in children[1:]:
                    heappush(waiting, (bound, next(numbers), other))
                children = self.children(children[0][1])

        for place, space in enumerate(self.spaces):
            for branch in self.roots(place, space):
                if self.best or self.late:
                    heappush(waiting, (self.bound(branch), next(numbers), branch))
                else:
                    dive(branch)
        while waiting:
            bound, _, branch = heappop(waiting)
            if bound >= self.limit or self.enough(bound):
                return
            if self.late:
                self.left_out = bound
                return
            dive(branch)

    def enough(self, bound: float) -> bool:
        """Whether nothing can be faster than the best, which all that is left could only be as fast as, and the search
        for the next price has taken as long as that for the best."""
        if not self.best or bound < self.best[0][1].seconds * (1 - _ROUNDING):
            return False
        if not self.until_best:
            self.until_best = self.looked_at
        return self.looked_at > 2 * self.until_best + _MORE

    @property
    def found(self) -> bool:
        return bool(self.best or self.begun) or np.isfinite(self.known)

    @property
    def late(self) -> bool:
        return self.deadline is not None and process_time() > self.deadline and self.found

    def roots(self, place: int, space: PlanSpace) -> Iterator[Branch]:
        """A branch for every name that storage axes may go to. What no storage axes have a part in is taken in once, for
        all of them."""
        stored = list(dict.fromkeys(choice.name for choice in space.storage_choices))
        each_term = list(zip(self.terms, self.weights, self.arithmetic, strict=True))
        functions = [Function(asked, None, weight) for asked, weight, _ in each_term]
        floors = [
            Function(alone, None, weight)
            for asked, weight, alone in each_term
            if alone is not None and asked.stored & {*stored}
        ]
        start = 0
        for asked, group in self.entries:
            functions.append(Function(asked, tuple(range(start, start + len(group)))))
            start += len(group)
        plain = grouped(space, functions, self.names)
        legal = [group for name in space.names if (group := legal_group(space, name, None, self.names)) is not None]
        shared = [*legal, *(group for group in plain if not group.asked[0].stored & {*stored})]
        others = [group for group in plain if group.asked[0].stored & {*stored}]
        at_least = grouped(space, floors, self.names)
        common = self.taken_in(self.root(place, space, None, [*shared, *at_least]))
        if common is None:
            return
        if self.late:
            yield common
            return
        # What arithmetic alone takes is part of what is taken in next.
        parts = [replace(part, times=tuple(t for t in part.times if t.group not in at_least)) for part in common.parts]
        common = replace(common, parts=tuple(part.renewed() for part in parts)).split()
        begun = [each.stored.name for _, each in self.begun]
        for name in sorted(reversed(stored), key=lambda name: begun.index(name) if name in begun else len(begun)):
            own: list[Group] = []
            if name is not None:
                own = grouped(space, [each for each in functions if name in each.asked.stored], self.names, name)
                allowed = legal_group(space, EXTRA, name, self.names)
                own += [allowed] if allowed is not None else []
            rest = [group for group in others if name not in group.asked[0].stored]
            root = self.root(place, space, name, [*rest, *own], shared)
            ready = self.ready(replace(common, root=root.root, waiting=root.waiting))
            if ready is not None:
                yield ready

    def root(
        self, place: int, space: PlanSpace, stored: str | None, groups: list[Group], shared: Sequence[Group] = ()
    ) -> Branch:
        """A branch with nothing taken in yet."""
        names = self.names if stored is not None else self.names[:-1]
        able = [able_names(space, names, stored, axis) for axis in range(len(space.mesh.axes))]
        self.list_of_roots.append(_Root(space, place, stored, able, [*shared, *groups]))
        most = max((group.weight for group in groups), default=0.0)

        def last(group: Group) -> tuple[float, int, int]:
            """What adds most to every plan first, then what is small."""
            heavy = group.weight if group.weight > _HEAVY * most else 0.0
            return (-heavy, prod(len(side.chosen) for side in group.sides), group.number)

        waiting = sorted(groups, key=last)
        return replace(Branch.empty(len(self.list_of_roots) - 1, len(space.mesh.axes)), waiting=tuple(waiting))

    def taken_in(self, branch: Branch) -> Branch | None:
        """A branch with all groups that are not too large; None where nothing in it can be better."""
        able = self.list_of_roots[branch.root].able
        waiting: list[Group] = []
        heavy = _HEAVY * max((group.weight for group in branch.waiting), default=0.0)
        since = 0
        for group in branch.waiting:
            more = branch.taken_in(group, able)
            if more is None:
                waiting.append(group)
                continue
            since += more.width - branch.width
            branch = more
            since += _A_TABLE if group.weight <= heavy else _SOME
            if since >= _SOME:
                cut, since = self.cut(branch, memory=False), 0
                if cut is None:
                    return None
                branch = cut
        renewed = tuple(part.renewed() for part in branch.parts)
        return self.cut(replace(branch, parts=renewed, waiting=tuple(waiting)))

    def ready(self, branch: Branch) -> Branch | None:
        """A branch with its groups taken in and tight bounds; None where nothing in it can be better."""
        found, first = self.taken_in(branch), bool(branch.waiting)
        while found is not None:
            before = found.plans
            if not found.waiting:
                if found.sized and found.most(self.moments) <= self.capacity:
                    found = found.without_sizes()
                found = found.split() if first else found
                found = replace(found, parts=tuple(part.merged() for part in found.parts))
                first = False
            found = self.cut(replace(found, parts=tuple(part.tightened() for part in found.parts)))
            if found is None or found.plans > before / 2:
                return found
        return None

    def cut(self, branch: Branch, memory: bool = True) -> Branch | None:
        """A branch without the sets that no better plan has; None where none is left."""
        kept = [[each < self.limit for each in of_part] for of_part in branch.bounds()]
        if memory and branch.sized:
            peaks = branch.peaks(self.moments)
            for of_part, its in zip(kept, peaks, strict=True):
                of_part[:] = [keep & (peak <= self.capacity) for keep, peak in zip(of_part, its, strict=True)]
        if not all(keep.any() for of_part in kept for keep in of_part):
            return None
        parts = [
            part.keep([None if keep.all() else np.flatnonzero(keep) for keep in of_part])
            for part, of_part in zip(branch.parts, kept, strict=True)
        ]
        return replace(branch, parts=tuple(parts))

    @property
    def limit(self) -> float:
        """What a branch must beat: the second best so far, or the plan that is known."""
        begun = self.begun[1][1].seconds * (1 + _ROUNDING) if len(self.begun) > 1 else np.inf
        return min(self.known, begun, self.best[1][1].seconds if len(self.best) > 1 else np.inf)

    def bound(self, branch: Branch) -> float:
        """Seconds that no plan of a branch can beat."""
        return float(branch.least.max())

    def children(self, branch: Branch) -> list[tuple[float, Branch]]:
        """The two branches of one that may have a better plan, with their bounds; none where its plans are priced one by
        one, of which the best are kept."""
        self.looked_at += 1
        after = self.cut(branch)
        if after is None:
            return []
        few = after.plans if after.sized else max(part.plans for part in after.parts)
        if not after.waiting and few <= _DENSE:
            self.price(after)
            return []
        found: list[tuple[float, Branch]] = []
        for side in self.halves(after):
            ready = self.ready(side)
            if ready is not None and (bound := self.bound(ready)) < self.limit:
                found.append((bound, ready))
        return found

    def halves(self, branch: Branch) -> list[Branch]:
        """A branch in two: whether a name wishes for a mesh axis. The decision that raises the bound most, whichever way
        it is made."""
        found: list[tuple[float, float, int, int, int]] = []
        for i, (part, bounds) in enumerate(zip(branch.parts, branch.bounds(), strict=True)):
            if not branch.sized and not branch.waiting and part.plans <= _DENSE:
                continue
            for axis, (sets, bound) in enumerate(zip(part.sets, bounds, strict=True)):
                for bit in range(len(self.names)):
                    wishes = (sets >> bit & 1).astype(bool)
                    if wishes.any() and not wishes.all():
                        least, most = sorted((float(bound[wishes].min()), float(bound[~wishes].min())))
                        found.append((least, most, -bit, -axis, i))
        _, _, bit, axis, i = max(found)
        part = branch.parts[i]
        wishes = (part.sets[-axis] >> -bit & 1).astype(bool)
        sides: list[Branch] = []
        for answer in (False, True):
            kept = [np.flatnonzero(wishes == answer) if each == -axis else None for each in range(len(part.sets))]
            parts = (*branch.parts[:i], part.keep(kept).renewed(), *branch.parts[i + 1 :])
            sides.append(replace(branch, parts=parts))
        return sides

    def price(self, branch: Branch) -> None:
        """Prices the plans of a branch one by one, and keeps the best."""
        if branch.sized:
            branch = branch.whole()
        root = self.list_of_roots[branch.root]
        total, plans = self.combined(branch)
        seconds = total.max(axis=0)
        order = np.argsort(seconds, kind="stable")
        for start in range(0, len(order), _SOME):
            some = order[start : start + _SOME]
            if seconds[some[0]] >= self.limit * (1 + DISTINCT):
                return
            if branch.sized:
                some = some[self.peaks(branch.parts[0], plans[:, 0, some]) <= self.capacity]
            for these in _two_prices(seconds[some]):
                chosen = some[these]
                wishing = self.wishing(branch, plans[:, :, chosen])
                found = self.candidate(root, [each[self.simplest(root, wishing)] for each in wishing])
                if found.seconds < self.known:
                    self.best = ranked([*self.best, (root.place, found)])

    def combined(self, branch: Branch) -> tuple[Float, IntArray]:
        """[bound, plan] the seconds of the plans that may be better, and [axis, part, plan] the position of the set of
        each part. Of plans of one part that cost the same the simplest stands for all where memory does not matter."""
        root, rest = self.list_of_roots[branch.root], branch.least
        total: Float = np.zeros((BOUNDS, 1))
        plans: IntArray = np.zeros((len(branch.parts[0].sets), 0, 1), np.int64)
        for i, part in enumerate(branch.parts):
            rest = rest - part.least
            prices, limit = part.prices(), self.limit * (1 + _ROUNDING)
            there = np.flatnonzero((prices + (branch.least - part.least)[:, None]).max(axis=0) < limit)
            sets = np.stack(np.unravel_index(there, tuple(len(each) for each in part.sets)))
            prices = prices[:, there]
            if not branch.sized:
                kept = self.one_of_each(root, part, prices, sets)
                prices, sets = prices[:, kept], sets[:, kept]
            both = (total[:, :, None] + prices[:, None, :]).reshape(BOUNDS, -1)
            better = np.flatnonzero((both + rest[:, None]).max(axis=0) < limit)
            mine, its = np.divmod(better, max(1, prices.shape[1]))
            total = both[:, better]
            plans = np.concatenate([plans[:, :, mine], sets[:, None, its]], axis=1)
            if i and len(better) > _SOME:
                keys = np.rint(total / total.max() * _DIGITS)
                _, first = np.unique(keys, axis=1, return_index=True)
                total, plans = total[:, first], plans[:, :, first]
        return total, plans

    def one_of_each(self, root: _Root, part: Part, prices: Float, sets: IntArray) -> IntArray:
        """Of plans of a part that cost the same the simplest."""
        if not prices.shape[1]:
            return np.zeros(0, np.int64)
        wishing = [own[mine] for own, mine in zip(part.sets, sets, strict=True)]
        order = self.by_simplicity(root, wishing)
        scale = max(float(prices.max()), 1e-300) / _DIGITS
        _, first = np.unique(np.rint(prices[:, order] / scale), axis=1, return_index=True)
        return order[first]

    def peaks(self, part: Part, sets: IntArray) -> Float:
        """[plan] the peaks of some plans, each given by the position of its set for each mesh axis."""
        rows = np.zeros((self.moments.entries, sets.shape[1]))
        for table in part.sizes:
            rows[table.at] = table.of(list(sets))
        return self.moments.peak(rows)

    def wishing(self, branch: Branch, plans: IntArray) -> list[IntArray]:
        """[plan] for each mesh axis, the names that wish for it as bits."""
        found: list[IntArray] = []
        for axis, places in enumerate(plans):
            total = np.zeros(plans.shape[2], np.int64)
            for part, place in zip(branch.parts, places, strict=True):
                total |= part.sets[axis][place]
            found.append(total)
        return found

    def masks(self, root: _Root, wishing: Sequence[IntArray]) -> list[IntArray]:
        """[plan] for each name, the mesh axes that it wishes for."""
        # What a name wishes for in each of its options may be nowhere open to be decided.
        found: list[IntArray] = []
        for bit, name in enumerate(self.names):
            always = 0 if name == EXTRA else int(np.bitwise_and.reduce(root.space.options[name]))
            mask = np.full(len(wishing[0]), always)
            for axis, sets in enumerate(wishing):
                mask |= (sets >> bit & 1) << axis
            found.append(mask)
        return found

    def by_simplicity(self, root: _Root, wishing: Sequence[IntArray]) -> IntArray:
        """The positions of some plans, the simplest first: that of the fewest axes."""
        masks = self.masks(root, wishing)
        uses = sum((np.bitwise_count(mask).astype(np.int64) for mask in masks), np.zeros(len(masks[0]), np.int64))
        by_name = sorted(range(len(masks) - 1), key=lambda bit: self.names[bit])
        return np.lexsort([masks[-1], *(masks[bit] for bit in reversed(by_name)), uses])

    def simplest(self, root: _Root, wishing: Sequence[IntArray]) -> int:
        """The position of the simplest of some plans."""
        return int(self.by_simplicity(root, wishing)[0])

    def candidate(self, root: _Root, wishing: Sequence[int]) -> Candidate:
        """A plan with its price, of the names that wish for each mesh axis; its peak is added when it is handed out."""
        alone = [np.array([each]) for each in wishing]
        masks = dict(zip(self.names, (int(mask[0]) for mask in self.masks(root, alone)), strict=True))
        # A name of which nothing was open wishes for what it has in each of its options.
        sets = [
            np.array([sum((mask >> axis & 1) << bit for bit, mask in enumerate(masks.values()))])
            for axis in range(len(wishing))
        ]
        parts = [group.of(sets) for group in root.groups if group.at is None]
        seconds = max(fsum(part[row] for part in parts) for row in range(BOUNDS))
        return Candidate(seconds, 0, StorageAxes(root.stored, masks.pop(EXTRA)), masks, root.space.order_where)


def ranked(found: Sequence[tuple[int, Candidate]]) -> list[tuple[int, Candidate]]:
    """The best of some candidates and the next of another price. Of equal prices that of the first space is kept, and
    there the simplest: the fewest axes used."""
    best: list[tuple[int, Candidate]] = []
    rest = list(found)
    while rest and len(best) < 2:
        least = min(each.seconds for _, each in rest) * (1 + DISTINCT)
        equal = [each for each in rest if each[1].seconds <= least]
        best.append(min(equal, key=lambda each: (each[0], _simplicity(each[1]))))
        rest = [each for each in rest if each[1].seconds > least]
    return best


def _candidate(space: PlanSpace, choice: Choice, seconds: float, peak: float) -> Candidate:
    stored, masks = choice
    return Candidate(float(seconds), round(peak), stored, masks, space.order_where)


def _two_prices(seconds: Float) -> Iterator[IntArray]:
    """Positions of the least of some prices, and of the next distinct one."""
    rest = np.arange(len(seconds))
    for _ in range(2):
        if len(rest):
            equal = seconds[rest] <= seconds[rest].min() * (1 + DISTINCT)
            yield rest[equal]
            rest = rest[~equal]


def asked_of(term: Term, space: PlanSpace, chip: Chip) -> Asked:
    """A term as a function of rows: what it adds to each bound, and the three parts of its cost.

    A step takes as long as computing and what of the communication cannot hide, or as all of the communication,
    whichever is longer (`passes.planner.cost`). Each is a sum over the terms.
    """
    overlap = chip.overlap

    def rows(rules: ShardingRules) -> list[Any]:
        cost = term.price(rules)
        sent = cost.activations + cost.hidden
        computed = cost.compute + sent - overlap.activations * cost.activations - overlap.state * cost.hidden
        return [term.times * computed, term.times * sent]

    return Asked.of(rows, space, term.seen, term.lent)


def arithmetic_of(term: Term, space: PlanSpace) -> Asked | None:
    """What the arithmetic of a term alone adds to each bound, where it has any."""
    seconds = term.arithmetic
    if seconds is None:
        return None
    return Asked.of(lambda rules: [term.times * seconds(rules), 0.0], space, term.seen, term.lent)


def _uses(candidate: Candidate) -> int:
    return sum(mask.bit_count() for mask in (*candidate.masks.values(), candidate.stored.mask))


def _simplicity(candidate: Candidate) -> tuple[Any, ...]:
    name = candidate.stored.name or ""
    return (_uses(candidate), tuple(sorted(candidate.masks.items())), name, candidate.stored.mask)
