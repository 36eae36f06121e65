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
from passes.planner.branch import BOUNDS, HUGE, Branch
from passes.planner.first import Choice, near_plans, prices, usual_plans
from passes.planner.groups import Function, Group, grouped
from passes.planner.memory import MemoryProgram
from passes.planner.peaks import Moments, sizes
from passes.planner.space import PlanSpace, StorageAxes
from passes.planner.tables import EXTRA, Asked, Float, Side, able_names
from passes.planner.terms import Term
from passes.sharding.mesh import IntArray
from passes.sharding.rules import OrderWhere, ShardingRules

DISTINCT = 1e-6
"""How much slower a plan must be to have another price."""
_ROUNDING = 1e-12
_MORE = 50
"""Branches that are looked at for the next price in any case."""
_LEANEST = 1e-3
"""How much leaner a plan must be than the leanest so far to be looked for, where nothing fits."""
_NEAR = 1
"""How often what is near the best of the first plans is priced."""
_DENSE = 1 << 15
"""Plans of a branch that are priced one by one."""
_HEAVY = 1e-2
"""Of the heaviest group, how much another one weighs that is taken in before the small ones."""
_SOME = 1 << 12
"""Entries of a table before which it is worth to rule out what can be."""

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
        self.by_memory = False
        self.looked_at = self.until_best = 0
        self.list_of_roots: list[_Root] = []

    def run(self) -> Found:
        for place, space in enumerate(self.spaces):
            self.begin(place, space)
        self.search()
        if not self.best and np.isinf(self.known) and np.isinf(self.left_out):
            self.by_memory, self.leanest = True, self.begun_lean
            self.search()
        kept = self.best or ([] if np.isinf(self.left_out) else self.begun)
        best = [self.checked(candidate) for _, candidate in kept]
        bound = min(self.left_out, best[0].seconds) if best else self.left_out
        return Found(best, self.leanest, bound)

    def checked(self, candidate: Candidate) -> Candidate:
        """A candidate with the peak that its rules have."""
        stored = candidate.stored
        extra = {stored.name: stored.mask} if stored.name is not None else {}
        space = self.spaces[0]
        rules = ShardingRules(space.mesh, space.order, candidate.masks, extra, candidate.order_where)
        peak, _ = self.memory.peak(rules, self.chip.memory)
        return replace(candidate, peak=int(peak))

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
        for place, space in enumerate(self.spaces):
            for branch in self.roots(place, space):
                heappush(waiting, (self.bound(branch), next(numbers), branch))
        while waiting:
            bound, _, branch = heappop(waiting)
            if bound >= self.limit or self.enough(bound):
                return
            if self.late:
                self.left_out = bound
                return
            # Down to plans at once: what they cost rules out the others.
            children = self.children(branch)
            while children:
                children.sort(key=lambda child: child[0])
                for bound, other in children[1:]:
                    heappush(waiting, (bound, next(numbers), other))
                children = self.children(children[0][1])

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
        return bool(self.best or self.begun or self.leanest) or np.isfinite(self.known)

    @property
    def late(self) -> bool:
        return self.deadline is not None and process_time() > self.deadline and self.found

    def roots(self, place: int, space: PlanSpace) -> Iterator[Branch]:
        """A branch for every name that storage axes may go to. What no storage axes have a part in is taken in once, for
        all of them."""
        functions: list[Function] = []
        floors: list[Function] = []
        stored = list(dict.fromkeys(choice.name for choice in space.storage_choices))
        if not self.by_memory:
            both = zip(self.terms, self.weights, self.arithmetic, strict=True)
            functions = [Function(asked, None, weight) for asked, weight, _ in both]
            both = zip(self.terms, self.weights, self.arithmetic, strict=True)
            floors = [
                Function(each, None, weight)
                for asked, weight, each in both
                if each is not None and asked.stored & {*stored}
            ]
        start = 0
        for asked, group in self.entries:
            functions.append(Function(asked, tuple(range(start, start + len(group)))))
            start += len(group)
        plain = grouped(space, functions, self.names)
        legal = [_legal(space, name, None, self.names) for name in space.names]
        shared = [*legal, *(group for group in plain if not group.asked[0].stored & {*stored})]
        others = [group for group in plain if group.asked[0].stored & {*stored}]
        at_least = grouped(space, floors, self.names)
        common = self.taken_in(self.root(place, space, None, [*shared, *at_least]))
        if common is None:
            return
        # What arithmetic alone takes is part of what is taken in next.
        common = replace(common, times=tuple(table for table in common.times if table.group not in at_least))
        for name in reversed(stored):
            own: list[Group] = []
            if name is not None:
                own = grouped(space, [each for each in functions if name in each.asked.stored], self.names, name)
                own.append(_legal(space, EXTRA, name, self.names))
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
        seconds, rows = branch.seconds(), branch.bytes(self.moments.entries)
        entries = 0
        for group in branch.waiting:
            wider = any(not branch.names >> bit & 1 for bit in group.bits)
            if entries > _SOME or (wider and entries > 0):
                kept = self.kept(seconds, [self.moments.peak(each) for each in rows])
                if kept is None:
                    return None
                branch, entries = branch.keep(kept), 0
                seconds, rows = (
                    [_of(each, keep) for each, keep in zip(of, kept, strict=True)] for of in (seconds, rows)
                )
            if wider:
                extended = branch.extended(group, able)
                if extended is None:
                    waiting.append(group)
                    continue
                branch, repeated = extended
                seconds, rows = (
                    [_of(each, keep) for each, keep in zip(of, repeated, strict=True)] for of in (seconds, rows)
                )
            more = branch.taken_in(group)
            if more is None:
                waiting.append(group)
                continue
            branch = more
            table = branch.times[-1] if group.at is None else branch.sizes[-1]
            entries += table.values.size
            for axis, classes in enumerate(table.classes):
                least = table.least_of(axis)[:, classes]
                if group.at is None:
                    seconds[axis] = seconds[axis] + least
                else:
                    rows[axis][group.at] = np.minimum(least, HUGE)
        return self.cut(replace(branch, waiting=tuple(waiting)))

    def ready(self, branch: Branch) -> Branch | None:
        """A branch with its groups taken in and tight bounds; None where nothing in it can be better."""
        found = self.taken_in(branch)
        while found is not None:
            before = found.plans
            if not self.by_memory and not found.waiting and found.most(self.moments) <= self.capacity:
                found = replace(found, sizes=())
            found = found.merged()
            found = self.cut(found.tightened() if not self.by_memory else found)
            if found is None or found.plans > before / 2:
                return found
        return None

    def cut(self, branch: Branch) -> Branch | None:
        """A branch without the sets that no better plan has; None where none is left."""
        kept = self.kept(branch.seconds(), branch.peaks(self.moments) if branch.sizes else None)
        return None if kept is None else branch.keep(kept)

    def kept(self, seconds: Sequence[Float], peaks: Sequence[Float] | None) -> "list[IntArray | None] | None":
        """Of the sets for each mesh axis those that a better plan may have, None for all of them; None where there are
        none."""
        kept = [bounds.max(axis=0) < (np.inf if self.by_memory else self.limit) for bounds in seconds]
        if peaks is not None:
            fits = [each < self.limit if self.by_memory else each <= self.capacity for each in peaks]
            kept = [keep & fit for keep, fit in zip(kept, fits, strict=True)]
        if not all(keep.any() for keep in kept):
            return None
        return [None if keep.all() else np.flatnonzero(keep) for keep in kept]

    @property
    def limit(self) -> float:
        """What a branch must beat: the second best so far, or the plan that is known."""
        if self.by_memory:
            return self.leanest.peak * (1 - _LEANEST) if self.leanest is not None else np.inf
        begun = self.begun[1][1].seconds * (1 + _ROUNDING) if len(self.begun) > 1 else np.inf
        return min(self.known, begun, self.best[1][1].seconds if len(self.best) > 1 else np.inf)

    def children(self, branch: Branch) -> list[tuple[float, Branch]]:
        """The two branches of one that may have a better plan, with their bounds; none where its plans are priced one by
        one, of which the best are kept."""
        self.looked_at += 1
        after = self.cut(branch)
        if after is None:
            return []
        if not after.waiting and after.plans <= _DENSE:
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
        found: list[tuple[float, float, int, int]] = []
        for axis, (sets, bound) in enumerate(zip(branch.sets, self.bounds(branch), strict=True)):
            for bit in range(len(self.names)):
                wishes = (sets >> bit & 1).astype(bool)
                if wishes.any() and not wishes.all():
                    least, most = sorted((float(bound[wishes].min()), float(bound[~wishes].min())))
                    found.append((least, most, -bit, -axis))
        *_, bit, axis = max(found)
        wishes = (branch.sets[-axis] >> -bit & 1).astype(bool)
        kept = [
            [np.flatnonzero(wishes == answer) if i == -axis else None for i in range(len(branch.sets))]
            for answer in (False, True)
        ]
        return [branch.keep(each) for each in kept]

    def bounds(self, branch: Branch) -> list[Float]:
        """[set] for each mesh axis: what no plan of a branch with a set can beat, in seconds, or in bytes where the
        leanest is looked for."""
        if self.by_memory:
            return branch.peaks(self.moments)
        return [each.max(axis=0) for each in branch.seconds()]

    def bound(self, branch: Branch) -> float:
        """What no plan of a branch can beat."""
        return max(float(each.min()) for each in self.bounds(branch))

    def price(self, branch: Branch) -> None:
        """Prices the plans of a branch one by one, and keeps the best."""
        shape = tuple(len(sets) for sets in branch.sets)
        total: Any = np.zeros((BOUNDS, *shape))
        for axis, common in enumerate(branch.common):
            ones = [1] * len(shape)
            ones[axis] = -1
            total = total + common.reshape(BOUNDS, *ones)
        for table in branch.times:
            total = total + table.spread()
        seconds = np.broadcast_to(total, (BOUNDS, *shape)).max(axis=0).reshape(-1)
        if self.by_memory:
            self.leanest_of(branch, shape, np.flatnonzero(np.isfinite(seconds)))
            return
        better = np.flatnonzero(seconds < self.limit)
        better = better[np.argsort(seconds[better], kind="stable")]
        root = self.list_of_roots[branch.root]
        for start in range(0, len(better), _SOME):
            some = better[start : start + _SOME]
            if seconds[some[0]] >= self.limit * (1 + DISTINCT):
                return
            sets = np.unravel_index(some, shape)
            if branch.sizes:
                fits = self.peaks(branch, sets) <= self.capacity
                some, sets = some[fits], tuple(each[fits] for each in sets)
            for these in _two_prices(seconds[some]):
                chosen = these[self.simplest(branch, [each[these] for each in sets])]
                found = self.candidate(branch, [int(each[chosen]) for each in sets])
                if found.seconds < self.known:
                    self.best = ranked([*self.best, (root.place, found)])

    def leanest_of(self, branch: Branch, shape: tuple[int, ...], plans: IntArray) -> None:
        """Keeps the leanest of some plans."""
        for start in range(0, len(plans), _SOME):
            sets = np.unravel_index(plans[start : start + _SOME], shape)
            peaks = self.peaks(branch, sets)
            if (least := peaks.min()) < self.limit:
                same = np.flatnonzero(peaks == least)
                chosen = same[self.simplest(branch, [each[same] for each in sets])]
                found = self.candidate(branch, [int(each[chosen]) for each in sets])
                self.leanest = replace(found, peak=round(float(least)))

    def peaks(self, branch: Branch, sets: Sequence[IntArray]) -> Float:
        """[plan] the peaks of some plans, each given by the position of its set for each mesh axis."""
        rows = np.zeros((self.moments.entries, len(sets[0])))
        for table in branch.sizes:
            rows[table.at] = table.of(sets)
        return self.moments.peak(rows)

    def masks(self, branch: Branch, sets: Sequence[IntArray]) -> list[IntArray]:
        """[plan] for each name, the mesh axes that it wishes for."""
        space = self.list_of_roots[branch.root].space
        # What a name wishes for in each of its options may be nowhere open to be decided.
        found: list[IntArray] = []
        for bit, name in enumerate(self.names):
            always = 0 if name == EXTRA else int(np.bitwise_and.reduce(space.options[name]))
            mask = np.full(len(sets[0]), always)
            for axis, (own, mine) in enumerate(zip(branch.sets, sets, strict=True)):
                mask |= (own[mine] >> bit & 1) << axis
            found.append(mask)
        return found

    def simplest(self, branch: Branch, sets: Sequence[IntArray]) -> int:
        """Of some plans the position of the simplest: the fewest axes used."""
        masks = self.masks(branch, sets)
        uses = sum((np.bitwise_count(mask).astype(np.int64) for mask in masks), np.zeros(len(sets[0]), np.int64))
        sorted_names = sorted(range(len(masks) - 1), key=lambda bit: self.names[bit])
        keys = [uses, *(masks[bit] for bit in sorted_names), masks[-1]]
        return int(np.lexsort(keys[::-1])[0])

    def candidate(self, branch: Branch, sets: Sequence[int]) -> Candidate:
        """One plan of a branch, with its price; its peak is added when it is handed out."""
        root = self.list_of_roots[branch.root]
        own = [np.array([each]) for each in sets]
        masks = dict(zip(self.names, (int(mask[0]) for mask in self.masks(branch, own)), strict=True))
        wishing = [each[mine] for each, mine in zip(branch.sets, own, strict=True)]
        parts = [group.of(wishing) for group in root.groups if group.at is None]
        seconds = max(fsum(part[row] for part in parts) for row in range(BOUNDS)) if not self.by_memory else np.inf
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


def _legal(space: PlanSpace, name: str, stored: str | None, names: Sequence[str]) -> Group:
    """What a name costs besides: nothing, and infinitely much where it cannot have all of the mesh axes it wishes for."""
    options = space.options[name] if stored is None else _storing(space, stored)
    shape = ((name if stored is None else stored, 1),)

    def rows(rules: ShardingRules) -> list[Any]:
        mask = rules.compute[name] if stored is None else rules.extra[stored]
        return [np.where(np.isin(mask, options), 0.0, np.inf)] * BOUNDS

    asked = Asked(rows, ((shape, "compute" if stored is None else "storage"),))
    able = [able_names(space, (name,), stored, axis) for axis in range(len(space.mesh.axes))]
    sides = tuple(_both(*each) for each in able)
    return Group(-1, space, stored, (name,), (names.index(name),), sides, (asked,), None)


def _storing(space: PlanSpace, name: str) -> IntArray:
    return np.array([choice.mask for choice in space.storage_choices if choice.name == name])


def _both(able: int, bound: int) -> Side:
    sets = [each for each in (0, 1) if each & ~able == 0 and each & bound == bound]
    classes = np.full(2, -1)
    classes[sets] = np.arange(len(sets))
    return Side(classes, np.array(sets))


def _of(rows: Float, sets: IntArray | None) -> Float:
    """[row, set] with some of the sets alone; None for all."""
    return rows if sets is None else rows[:, sets]


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
