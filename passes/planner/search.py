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
from itertools import chain, count
from time import process_time
from typing import Any

import numpy as np
import numpy.typing as npt

from passes.hardware.chip import Chip
from passes.planner.cost import step_seconds
from passes.planner.memory import MemoryProgram
from passes.planner.peaks import Moments, sizes
from passes.planner.shifts import common_tables, tightened
from passes.planner.space import PlanSpace, StorageAxes
from passes.planner.tables import EXTRA, Asked, Decisions, Float, Table, legal_tables, merged, table_of
from passes.planner.terms import Term
from passes.sharding.rules import OrderWhere, ShardingRules

DISTINCT = 1e-6
"""How much slower a plan must be to have another price."""
_ROUNDING = 1e-12
_MORE = 250
"""Branches that are looked at for the next price in any case."""
_HUGE = 1e30
_BOUNDS = 2
"""What is computed and what is sent: a step takes at least as long as either (`asked_of`)."""
_LEANEST = 1e-3
"""How much leaner a plan must be than the leanest so far to be looked for, where nothing fits."""

_MOST_TIGHTENED = 1 << 17
"""Values in the tables of a branch."""

Decision = tuple[str, int]
"""A name and a mesh axis."""


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
    space: PlanSpace,
    terms: list[Term],
    memory: MemoryProgram,
    chip: Chip,
    time_limit: float | None = None,
    limit: float = np.inf,
) -> Found:
    """The best candidates.

    Args:
        time_limit: seconds of this process's time after which the search ends with what it has.
        limit: seconds of a plan that is known already. Only faster ones are looked for; where there is none, nothing is
            found.
    """
    return _Search(space, terms, memory, chip, time_limit, limit).run()


@dataclass(frozen=True)
class _Node:
    """A node of the search tree: what is left of the tables, and what was decided."""

    stored: str | None
    times: list[Table]
    common: list[Table]
    sizes: list[Table]
    decided: dict[Decision, bool]

    def cut(self, decisions: Decisions) -> "_Node":
        times, common, sizes = ([each.cut(decisions) for each in of] for of in (self.times, self.common, self.sizes))
        return _Node(self.stored, times, common, sizes, {**self.decided, **decisions})

    def tightened(self) -> "_Node":
        """The same with tighter bounds, where that takes no longer than to look at a few more branches."""
        tables = (*self.times, *self.common)
        if sum(each.values.size for each in tables if each.values is not None) > _MOST_TIGHTENED:
            return self
        times, common = tightened(self.times, self.common)
        return replace(self, times=times, common=common)

    @property
    def least(self) -> Float:
        """[bound] what no plan of the branch can beat, in seconds."""
        return sum((each.least for each in (*self.times, *self.common)), np.zeros(_BOUNDS))


class _Search:
    def __init__(
        self,
        space: PlanSpace,
        terms: list[Term],
        memory: MemoryProgram,
        chip: Chip,
        time_limit: float | None,
        known: float,
    ) -> None:
        self.space = space
        self.chip = chip
        self.capacity = chip.capacity
        self.names = (*space.names, EXTRA)
        self.ids = {name: i for i, name in enumerate(self.names)}
        self.terms = [asked_of(term, space, chip) for term in terms]
        self.entries = sizes(memory, chip.memory, space)
        self.moments = Moments.of(memory, chip.memory).ordered([i for _, group in self.entries for i in group])
        self.known = known
        self.deadline = None if time_limit is None else process_time() + time_limit
        self.best: list[Candidate] = []
        self.leanest: Candidate | None = None
        self.left_out = np.inf
        self.by_memory = False
        self.looked_at = self.until_best = 0

    def run(self) -> Found:
        self.search()
        if not self.best and np.isinf(self.known):
            self.by_memory = True
            self.search()
        bound = min(self.left_out, self.best[0].seconds) if self.best else self.left_out
        return Found(self.best, self.leanest, bound)

    def search(self) -> None:
        """From the branch with the smallest bound down to a plan, again and again, as long as one can be better."""
        waiting: list[tuple[float, int, _Node]] = []
        numbers = count()

        def dive(node: _Node) -> None:
            while children := self.children(node):
                (_, node), *others = sorted(children, key=lambda child: child[0])
                for bound, other in others:
                    heappush(waiting, (bound, next(numbers), other))

        for node in self.roots():
            bound = self.bound(node)
            if bound >= self.limit:
                continue
            if self.found:
                heappush(waiting, (bound, next(numbers), node))
            else:
                dive(node)
        while waiting:
            bound, _, node = heappop(waiting)
            if bound >= self.limit or self.enough(bound):
                return
            if self.late:
                self.left_out = bound
                return
            dive(node)

    def enough(self, bound: float) -> bool:
        """Whether nothing can be faster than the best, which all that is left could only be as fast as, and the search
        for the next price has taken as long as that for the best."""
        if not self.best or bound < self.best[0].seconds * (1 - _ROUNDING):
            return False
        if not self.until_best:
            self.until_best = self.looked_at
        return self.looked_at > 2 * self.until_best + _MORE

    @property
    def found(self) -> bool:
        return bool(self.best or self.leanest) or np.isfinite(self.known)

    @property
    def late(self) -> bool:
        return self.deadline is not None and process_time() > self.deadline and self.found

    def roots(self) -> Iterator[_Node]:
        """A node for every name that storage axes may go to, the most widespread one first: that one is often best, and
        what is then worse need not be kept."""
        shared: dict[int, Table] = {}
        for stored in reversed(dict.fromkeys(choice.name for choice in self.space.storage_choices)):

            def table(number: int, asked: Asked, bounding: int, stored: str | None = stored) -> Table:
                # A storage choice changes nothing for what does not mention its name.
                if stored is not None and asked.stores(stored):
                    return table_of(asked, self.space, stored, bounding)
                if number not in shared:
                    shared[number] = table_of(asked, self.space, None, bounding)
                return shared[number]

            entries = [table(-1 - i, asked, len(group)) for i, (asked, group) in enumerate(self.entries)]
            if not self.by_memory and self.peak(entries) > self.capacity:
                continue
            priced = (table(i, asked, _BOUNDS) for i, asked in enumerate(self.terms) if not self.by_memory)
            times = merged(chain(priced, legal_tables(self.space, stored, _BOUNDS, 3)))
            common = common_tables(times, len(self.space.mesh.axes), _BOUNDS)
            yield _Node(stored, *tightened(times, common), entries, {})

    def bound(self, node: _Node) -> float:
        """What no plan of a branch can beat, in seconds, or in bytes where the leanest is looked for; infinite where
        none can fit."""
        seconds = float(np.max(node.least))
        peak = self.peak(node.sizes)
        if self.by_memory:
            return peak if np.isfinite(seconds) else np.inf
        return seconds if peak <= self.capacity else np.inf

    def peak(self, entries: Sequence[Table]) -> float:
        """Bytes that no plan can do without under what is left of the sizes."""
        return float(self.moments.peak(np.concatenate([each.least for each in entries])[:, None])[0])

    @property
    def limit(self) -> float:
        """What a branch must beat: the second best so far, or the plan that is known."""
        if self.by_memory:
            return self.leanest.peak * (1 - _LEANEST) if self.leanest is not None else np.inf
        return min(self.known, self.best[1].seconds if len(self.best) > 1 else np.inf)

    def children(self, node: _Node) -> list[tuple[float, _Node]]:
        """The two branches of a node that may have a better plan, with their bounds; none where it is one plan, which
        is kept."""
        self.looked_at += 1
        after = self.ruled_out(node.tightened() if node.decided else node)
        if after is None:
            return []
        node, answers = after
        decision = self.next_decision(node, answers)
        if decision is None:
            self.leaf(node)
            return []
        children = [node.cut({decision: wished}) for wished in (False, True)]
        return [(bound, child) for child in children if (bound := self.bound(child)) < self.limit]

    def ruled_out(self, node: _Node) -> tuple[_Node, Float] | None:
        """The node with every decision made that has one answer left, and the bounds of each answer to the others:
        [name, axis, wished]. None where a decision has no answer left."""
        while True:
            answers = self.answers(node)
            barred: npt.NDArray[np.bool_] = np.greater_equal(answers, self.limit)
            if barred.all(axis=2).any():
                return None
            forced: dict[Decision, bool] = {}
            for i, axis in _places(np.asarray(barred.any(axis=2))):
                if (self.names[i], axis) not in node.decided:
                    forced[self.names[i], axis] = bool(barred[i, axis, 0])
            if not forced:
                return node, answers
            node = node.cut(forced)

    def answers(self, node: _Node) -> Float:
        """[name, axis, wished] → what no plan with this answer can beat."""
        shape = (len(self.names), len(self.space.mesh.axes), 2)
        bounds = np.zeros((_BOUNDS, *shape))
        bounds += node.least[:, None, None, None]
        for each in (*node.times, *node.common):
            bounds[:, [self.ids[name] for name in each.names]] += each.margins
        seconds: Float = bounds.max(axis=0)
        most = self.moments.peak(np.minimum(np.concatenate([each.most for each in node.sizes]), _HUGE)[:, None])
        if not self.by_memory and most[0] <= self.capacity:
            return seconds
        least = np.concatenate([each.least for each in node.sizes])
        entries = np.empty((len(least), *shape))
        entries[:] = least[:, None, None, None]
        row = 0
        for each in node.sizes:
            entries[row : row + each.bounding, [self.ids[name] for name in each.names]] += each.margins
            row += each.bounding
        peaks = self.moments.peak(np.minimum(entries, _HUGE).reshape(len(least), -1)).reshape(shape)
        if self.by_memory:
            return np.where(np.isfinite(seconds), peaks, np.inf)
        return np.where(peaks <= self.capacity, seconds, np.inf)

    def next_decision(self, node: _Node, answers: Float) -> Decision | None:
        """The open decision that raises the bound most, whichever way it is made; None where nothing open matters."""
        shape = (len(self.names), len(self.space.mesh.axes))
        is_open, waits = np.zeros(shape, bool), np.zeros(shape, bool)
        for each in (*node.times, *node.sizes):
            at = [self.ids[name] for name in each.names]
            is_open[at] |= each.open
            if each.waits:
                waits[at] |= each.open
        if not is_open.any():
            return None

        def rises(decision: tuple[int, int]) -> tuple[Any, ...]:
            least, most = sorted(answers[decision].tolist())
            return (least, most, bool(waits[decision]), -decision[0], -decision[1])

        name, axis = max(_places(is_open), key=rises)
        return self.names[name], axis

    def leaf(self, node: _Node) -> None:
        """The one plan that is left, where everything that matters is decided."""
        total: Float = np.zeros(_BOUNDS + 3)
        for each in node.times:
            assert each.values is not None
            total = total + each.values.reshape(-1)
        compute, activations, hidden = total[_BOUNDS:]
        seconds = float(step_seconds(compute, activations, hidden, self.chip.overlap))
        peak = self.peak(node.sizes)
        # What a name wishes for in each of its options is nowhere open to be decided.
        masks = {name: int(np.bitwise_and.reduce(options)) for name, options in self.space.options.items()}
        masks[EXTRA] = 0
        for (name, axis), wished in node.decided.items():
            masks[name] |= int(wished) << axis
        candidate = Candidate(seconds, round(peak), StorageAxes(node.stored, masks.pop(EXTRA)), masks)
        if self.by_memory:
            if self.leanest is None or peak < self.leanest.peak:
                self.leanest = candidate
        elif peak <= self.capacity and seconds < self.known:
            self.keep(candidate)

    def keep(self, candidate: Candidate) -> None:
        """Ranks a candidate. Of equal prices the simplest plan is kept: the fewest axes used."""
        ranked = sorted([*self.best, candidate], key=_rank)
        second = next((c for c in ranked if c.seconds > ranked[0].seconds * (1 + DISTINCT)), None)
        first = min((c for c in ranked if c.seconds <= ranked[0].seconds * (1 + DISTINCT)), key=_simplicity)
        self.best = [first] if second is None else [first, second]


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
        return [term.times * each for each in (computed, sent, cost.compute, cost.activations, cost.hidden)]

    return Asked.of(rows, space, term.seen, term.lent)


def _places(found: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Row and column of all that is true."""
    return [(int(i), int(j)) for i, j in zip(*np.nonzero(found), strict=True)]


def _uses(candidate: Candidate) -> int:
    return sum(mask.bit_count() for mask in (*candidate.masks.values(), candidate.stored.mask))


def _rank(candidate: Candidate) -> tuple[Any, ...]:
    return (candidate.seconds, *_simplicity(candidate))


def _simplicity(candidate: Candidate) -> tuple[Any, ...]:
    name = candidate.stored.name or ""
    return (_uses(candidate), tuple(sorted(candidate.masks.items())), name, candidate.stored.mask)
