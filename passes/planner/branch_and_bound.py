"""Branch and bound over the plans of some spaces: what takes least of all that has room.

A branch is a set of names for each mesh axis that may wish for it (`passes.planner.branch`), with bounds on the seconds
and the bytes of each; it is cut in two, whether a name wishes for a mesh axis, until few plans are left, which are
priced one by one (`passes.planner.complete`). There is a branch to begin with for each name that storage axes may go
to, in each space. What is never looked at is proven slower than what was kept, or not to fit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from time import process_time

import numpy as np

from passes.planner.branch import Branch
from passes.planner.bundles import Bundles
from passes.planner.candidate import DISTINCT, SAME, Candidate, Kept, Ranked, distinct_prices
from passes.planner.complete import by_simplicity, combined, masks_of, peaks_of, wishing
from passes.planner.first import WORTH, First, near_plans
from passes.planner.frontier import Frontier
from passes.planner.fullest import Fullest
from passes.planner.groups import Function, Group, Known, by_network, worst
from passes.planner.parts import added
from passes.planner.peaks import Moments
from passes.planner.roots import Root, Shared, heavy_weight, in_turn, with_mean
from passes.planner.space import PlanSpace, StorageAxes, widened
from passes.planner.tables import EXTRA, Asked
from passes.sharding.mesh import IntArray

_ROUNDING = 1e-12
_MORE = 50
"""Branches that are looked at for the next price in any case."""
_DENSE = 1 << 15
"""Plans of a branch that are priced one by one."""
_SOME = 1 << 12
"""Plans that are looked at together; sets that are made before it is worth to rule out what can be."""
_ROUNDS = 4
"""Of tight bounds, as long as each leaves no more than half of the plans."""
_OF_THE_BETTER = 0.2
"""Of a decision, what counts of how much it raises the bound one way more than the other."""
_SOON = 1 << 14
"""Classes of a group that are priced even if there is no time left, so that bounds say something."""
_A_TABLE = 200
"""Sets that are worth a table."""


class BranchAndBound:
    """Attributes:
    first: plans that are known before.
    left_out: the least that what was not looked at for want of time could take; infinite where nothing was left out.
    """

    def __init__(
        self,
        spaces: Sequence[PlanSpace],
        functions: Sequence[Asked],
        entries: Sequence[tuple[Asked, list[int]]],
        moments: Moments,
        capacity: float,
        known: float = np.inf,
        deadline: float | None = None,
        margin: float | None = None,
        networks: int = 1,
    ) -> None:
        """Args:
        functions: each gives what is computed and what is sent; what a plan takes is the larger of the two sums.
        entries: of memory, with the moments at which they count.
        known: what a plan is known to take: only better ones are looked for.
        deadline: of this process's time, after which the search ends with what it has.
        margin: the share by which a plan must be better than the best so far; left out, the next best of another
            price is looked for too.
        networks: on how many what is sent is priced at once, one of which a plan is on.
        """
        self.spaces = spaces
        self.names = (*spaces[0].names, EXTRA)
        self.by_name = [*sorted(range(len(self.names) - 1), key=lambda bit: self.names[bit]), len(self.names) - 1]
        self.functions = functions
        self.entries = entries
        self.moments = moments
        self.capacity = capacity
        self.known = known
        self.deadline = deadline
        self.margin = margin
        self.networks = networks
        self.first = First(functions, entries, moments, capacity, networks)
        self.kept = Kept()
        self.left_out = np.inf
        self.looked_at = self.until_best = 0
        self.all_roots: list[Root] = []
        self.groups: Known = {}
        self.bundles = Bundles()
        self.priced = widened(spaces)

    def run(self) -> None:
        """From the branch with the smallest bound down to plans, again and again, as long as one can be better."""
        frontier = Frontier(self.children, lambda: self.late)
        for place in self.in_turn():
            for branch in self.roots(place, self.spaces[place]):
                if self.best or self.late:
                    frontier.add(self.bound(branch), branch)
                else:
                    self.dive(frontier, branch)
        while frontier:
            bound, branch = frontier.next()
            if bound >= self.limit or self.enough(bound):
                return
            if self.late:
                self.left_out = bound
                return
            self.dive(frontier, branch)

    def dive(self, frontier: Frontier[Branch], branch: Branch) -> None:
        """Goes from a branch to plans, and from one that is better than all that were known to what is near it."""
        frontier.dive(branch)
        known = min((each.seconds for _, each in self.first.best), default=np.inf)
        if self.best and self.best[0][1].seconds < known * (1 - WORTH):
            place, plan = self.best[0]
            choice, space = (plan.stored, plan.masks), self.spaces[place]
            self.first.climb(place, space, [choice, *near_plans(space, choice)])

    def in_turn(self) -> list[int]:
        """The spaces, that of the best known plan first: with what is found there less is looked at in others."""
        first = [place for place, _ in self.first.best]
        return sorted(range(len(self.spaces)), key=lambda place: first.index(place) if place in first else len(first))

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
        return bool(self.best or self.first.best) or np.isfinite(self.known)

    @property
    def late(self) -> bool:
        return self.deadline is not None and process_time() > self.deadline and self.found

    @cached_property
    def fullest(self) -> Fullest | None:
        """The moment at which memory is a bound."""
        return self.first.fullest if self.entries else None

    @cached_property
    def added(self) -> list[Function]:
        """All that is added up."""
        share = self.first.share
        means = [with_mean(asked, share, self.networks) for asked in self.functions]
        each_term = zip(means, self.first.weights, self.first.spreads, strict=True)
        functions = [Function(asked, None, weight, spread) for asked, weight, spread in each_term]
        start = 0
        for asked, group in self.entries:
            functions.append(Function(asked, tuple(range(start, start + len(group)))))
            start += len(group)
        return functions

    def roots(self, place: int, space: PlanSpace) -> Iterator[Branch]:
        """A branch for every name that storage axes may go to. What no storage axes have a part in is taken in once for
        all of them."""
        known = self.groups, self.bundles
        shared = Shared.of(space, place, self.priced[place], self.names, self.added, *known, self.networks)
        common = self.taken_in(self.branch(shared.before, shared.before.groups), memory=False)
        if common is None:
            return
        if self.late:
            yield common
            return
        apart = common.split()
        begun = [each.stored.names for _, each in self.first.best]
        stored = reversed(dict.fromkeys(choice.names for choice in space.storage_choices))
        for names in sorted(stored, key=lambda names: begun.index(names) if names in begun else len(begun)):
            root, groups = shared.root(names)
            waiting = in_turn([*apart.waiting, *groups])
            ready = self.ready(replace(apart, root=self.branch(root, ()).root, waiting=waiting))
            if self.late:  # of this root and all that follow, what is taken in of it may be little
                yield common
                return
            if ready is not None:
                yield from [ready] if len(ready.networks) == 1 else self.on_each(ready)

    def on_each(self, branch: Branch) -> Iterator[Branch]:
        """A branch on each of its networks."""
        each = [branch.on([network]) for network in branch.networks]
        for one in sorted(each, key=self.bound):
            ready = self.ready(one)
            if ready is not None:
                yield ready

    def branch(self, root: Root, groups: Sequence[Group]) -> Branch:
        """A branch of a root with nothing taken in yet."""
        self.all_roots.append(root)
        empty = Branch.empty(len(self.all_roots) - 1, len(root.space.mesh.axes), self.networks, self.fullest)
        return replace(empty, waiting=in_turn(groups))

    def taken_in(self, branch: Branch, memory: bool = True) -> Branch | None:
        """A branch with all groups that are not too large, without those that take long to price where no time is left;
        None where nothing in it can be better."""
        able = self.all_roots[branch.root].able
        waiting: list[Group] = []
        heavy = heavy_weight(branch.waiting)
        since = 0
        for group in branch.waiting:
            more = None if self.late and group.grid > _SOON else branch.taken_in(group, able)
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
        for group in waiting:
            branch = branch.opened(group, able)
        renewed = tuple(part.renewed() for part in branch.parts)
        return self.cut(replace(branch, parts=renewed, waiting=tuple(waiting)), memory)

    def ready(self, branch: Branch) -> Branch | None:
        """A branch with its groups taken in and tight bounds; None where nothing in it can be better."""
        first = bool(branch.waiting)
        found = self.taken_in_turn(branch) if first else branch
        while found is not None and not self.late:
            before = found.plans
            if not found.waiting:
                if found.sized and found.most(self.moments) <= self.capacity:
                    found = found.without_sizes()
                found = found.split() if first else found
                found = found.merged(self.by_name)
                first = False
            limit = self.limit
            found = self.cut(replace(found, parts=tuple(part.tightened() for part in found.parts)))
            if found is not None and found.plans > before / 2:
                return replace(found, under=limit)
        return found

    def taken_in_turn(self, branch: Branch) -> Branch | None:
        """A branch with its groups taken in, those of memory for what the others leave alone."""
        sized = tuple(group for group in branch.waiting if group.at is not None)
        if not sized:
            return self.taken_in(branch, memory=False)
        rest = tuple(group for group in branch.waiting if group.at is None)
        found = self.taken_in(replace(branch, waiting=rest), memory=False)
        found = self.narrowed(found) if found is not None else None
        if found is None:
            return None
        return self.taken_in(replace(found, waiting=(*found.waiting, *sized)), memory=False)

    def narrowed(self, branch: Branch) -> Branch | None:
        """A branch without the sets that tight bounds rule out, its tables as they are; None where none is left."""
        tight = branch
        for _ in range(_ROUNDS):
            before = tight.plans
            parts = (replace(part, times=tuple(added(part.times))).tightened() for part in tight.parts)
            found = self.cut(replace(tight, parts=tuple(parts)), memory=False)
            if found is None:
                return None
            tight = found
            if tight.plans > before / 2:
                break
        pairs = list(zip(branch.parts, tight.parts, strict=True))
        return branch.on(tight.networks).kept(
            [[np.isin(mine, its) for mine, its in zip(part.sets, small.sets, strict=True)] for part, small in pairs]
        )

    def cut(self, branch: Branch, memory: bool = True) -> Branch | None:
        """A branch without the sets and the networks that no better plan has; None where none is left."""
        if len(branch.networks) > 1:
            able = np.flatnonzero(by_network(branch.least) < self.limit)
            if not len(able):
                return None
            branch = branch.on([branch.networks[i] for i in able]) if len(able) < len(branch.networks) else branch
        within = branch.kept([[each < self.limit for each in of_part] for of_part in branch.bounds])
        if within is None or not memory or not within.sized:
            return within
        return within.kept([[each <= self.capacity for each in of_part] for of_part in within.peaks(self.moments)])

    @property
    def best(self) -> list[Ranked]:
        """The best plan that was found, and the next of another price."""
        return self.kept.best

    @property
    def limit(self) -> float:
        """What a branch must beat: the second best so far, or the plan that is known."""
        first = self.first.best
        if self.margin is not None:
            return min([self.known, *(each.seconds * (1 - self.margin) for _, each in (*first, *self.best))])
        begun = first[1][1].seconds * (1 + SAME) if len(first) > 1 else np.inf
        return min(self.known, begun, self.best[1][1].seconds if len(self.best) > 1 else np.inf)

    def bound(self, branch: Branch) -> float:
        """Seconds that no plan of a branch can beat."""
        return float(worst(branch.least))

    def children(self, branch: Branch) -> list[tuple[float, Branch]]:
        """The two branches of one that may have a better plan, with their bounds; none where its plans were priced one
        by one."""
        self.looked_at += 1
        after = branch if branch.under <= self.limit else self.cut(branch)
        if after is not None and after.waiting and after.plans == 1:
            after = self.ready(after)
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
        """A branch in two: whether a name wishes for a mesh axis, the decision that raises the bound most, whichever
        way it is made."""
        limit = self.limit
        found: list[tuple[float, float, int, int, int]] = []
        for i, (part, bounds) in enumerate(zip(branch.parts, branch.bounds, strict=True)):
            if not branch.sized and not branch.waiting and part.plans <= _DENSE:
                continue
            for axis, (sets, bound) in enumerate(zip(part.sets, bounds, strict=True)):
                some, every = part.wishing[axis]
                bits = np.array([bit for bit in range(len(self.names)) if (some & ~every) >> bit & 1], np.int64)
                wishes = (sets >> bits[:, None] & 1).astype(bool)
                with_it, without = (np.where(each, bound, np.inf).min(axis=1).tolist() for each in (wishes, ~wishes))
                for bit, one, other in zip(bits.tolist(), with_it, without, strict=True):
                    less, more = sorted((one, other))
                    found.append((less + _OF_THE_BETTER * (min(more, limit) - less), less, -bit, -axis, i))
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
        root = self.all_roots[branch.root]
        total, plans = combined(branch, root, self.limit)
        seconds = total[:2].max(axis=0)
        order = np.argsort(seconds, kind="stable")
        for start in range(0, len(order), _SOME):
            some = order[start : start + _SOME]
            if seconds[some[0]] >= self.limit * (1 + DISTINCT):
                return
            if branch.sized:
                some = some[peaks_of(branch.parts[0], self.moments, plans[:, 0, some]) <= self.capacity]
            for these in distinct_prices(seconds[some]):
                sets = wishing(branch, plans[:, :, some[these]])
                simplest = by_simplicity(root, sets)[:1]
                found = self.candidate(root, [each[simplest] for each in sets], branch.networks[0])
                if found.seconds < self.known * (1 - SAME):
                    self.kept.note(root.place, found)

    def candidate(self, root: Root, sets: Sequence[IntArray], network: int) -> Candidate:
        """A plan with its price on a network, of the one set of names that wishes for each mesh axis; its peak is added
        when it is handed out."""
        masks = dict(zip(self.names, (int(mask[0]) for mask in masks_of(root, sets)), strict=True))
        # A name of which nothing was open wishes for what it has in each of its options.
        whole = [
            np.array([sum((mask >> axis & 1) << bit for bit, mask in enumerate(masks.values()))])
            for axis in range(len(sets))
        ]
        stored = StorageAxes(root.stored, masks.pop(EXTRA))
        return Candidate(root.seconds(whole, network), 0, stored, masks, root.space.order_where, network)
