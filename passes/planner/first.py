"""Plans to begin a search with: the better they are, the more of the space is ruled out before it is looked at.

First those that people write down: the batch over some of the mesh axes, and all other names over the others or over
all, with nothing stored, or one name over all mesh axes; in another order, what that is for. Then those that differ
from the best of these in one name, and again from the best of those, as long as any is better.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from passes.planner.candidate import Candidate, Kept, Ranked, distinct_prices
from passes.planner.fullest import Fullest
from passes.planner.groups import remembering
from passes.planner.peaks import Moments
from passes.planner.space import PlanSpace, StorageAxes
from passes.planner.tables import Asked, Float
from passes.sharding.mesh import IntArray
from passes.sharding.rules import ShardingRules

WORTH = 0.05
"""By which a plan must be better for those near it to be tried: what is less the search finds as fast."""
_STEPS = 8
"""From the best plans to those that differ from them in one name."""
_SHARES = 33
"""Means of what is computed and what is sent, of which one is chosen."""

Choice = tuple[StorageAxes, dict[str, int]]
"""Storage axes, and the mask of every name."""


def usual_plans(space: PlanSpace) -> Iterator[Choice]:
    """Plans that people write down."""
    every = space.mesh.masks - 1
    stored = _widest(space)
    first = next(iter(space.options), None)
    fitting = {name: _fitting(space, masks) for name, masks in space.options.items()}
    for over in range(space.mesh.masks):
        for rest in dict.fromkeys((every & ~over, every)):
            masks = {name: int(each[over if name == first else rest]) for name, each in fitting.items()}
            for choice in stored:
                yield choice, masks


def exchanged_plans(space: PlanSpace) -> Iterator[Choice]:
    """Plans for which a space has another order: a name that comes before one of the batch, both of them on some of the
    same mesh axes, and no other name on any."""
    nothing = {name: _fitting(space, options)[0] for name, options in space.options.items()}
    for name, before in dict.fromkeys(space.order_where.values()):
        for mask, over in product(space.options[name].tolist(), space.options[before].tolist()):
            if mask & over:
                for choice in _widest(space):
                    yield choice, {**nothing, name: mask, before: over}


def near_plans(space: PlanSpace, choice: Choice) -> list[Choice]:
    """Plans of a space that differ from one, which may be of another space, in a single name, or in how the batch and
    one name more are all that is in use; each once."""
    found = {(stored, tuple(masks.values())): (stored, masks) for stored, masks in _near(space, choice)}
    options = [frozenset(each.tolist()) for each in space.options.values()]
    storage = frozenset(space.storage_choices)
    return [
        each
        for (stored, masks), each in found.items()
        if stored in storage and all(mask in some for mask, some in zip(masks, options, strict=True))
        if space.has(each[1])
    ]


def _near(space: PlanSpace, choice: Choice) -> Iterator[Choice]:
    stored, masks = choice
    every = space.mesh.masks - 1
    first = next(iter(space.options), None)
    fitting = {name: _fitting(space, options) for name, options in space.options.items()}
    for over in range(space.mesh.masks):
        for alone in fitting:
            wishes = {first: over, **({alone: every & ~over} if alone != first else {})}
            yield stored, {name: int(each[wishes.get(name, 0)]) for name, each in fitting.items()}
    for other in space.storage_choices:
        yield other, masks
    for name, options in space.options.items():
        for mask in options.tolist():
            if mask != masks[name]:
                yield stored, {**masks, name: mask}


def rules_of_plans(space: PlanSpace, choices: Sequence[Choice]) -> ShardingRules:
    """The sharding rules of some plans, all at once."""
    compute = {name: np.array([masks[name] for _, masks in choices]) for name in space.options}
    names = dict.fromkeys(name for stored, _ in choices for name in stored.names)
    extra = {name: np.array([stored.extra.get(name, 0) for stored, _ in choices], np.int64) for name in names}
    return remembering(ShardingRules(space.mesh, space.order, compute, extra, space.order_where))


class First:
    """The plans that a search begins with.

    Attributes:
        leanest: that which needs the least memory.
        weights, spreads: of each term, the least and the most that it takes in any of them.
    """

    def __init__(
        self,
        terms: Sequence[Asked],
        entries: Sequence[tuple[Asked, list[int]]],
        moments: Moments,
        capacity: float,
        networks: int = 1,
    ) -> None:
        """Args:
        moments: with the entries in their order.
        networks: how many the terms are priced on at once.
        """
        self.terms = terms
        self.entries = entries
        self.moments = moments
        self.capacity = capacity
        self.networks = networks
        self.kept = Kept()
        self.leanest: Ranked | None = None
        self.weights = np.full(len(terms), np.inf)
        self.spreads = np.zeros(len(terms))
        self._fitting: list[Float] = []
        self._too_large: list[tuple[Float, IntArray]] = []

    def climb(self, place: int, space: PlanSpace, choices: Sequence[Choice]) -> None:
        """Notes the best of some plans of a space, and of those near the best, as long as any is better than all that
        were known by what is worth it."""
        before = min((each.seconds for _, each in self.best), default=np.inf), np.inf
        choices = [each for each in choices if space.has(each[1])]
        for _ in range(_STEPS):
            prices = self._prices(space, choices) if choices else None
            if prices is None:
                return
            seconds, peaks = prices.both.max(axis=0), prices.peaks
            lean = int(np.argmin(peaks))
            if self.leanest is None or peaks[lean] < self.leanest[1].peak:
                self.leanest = place, prices.candidate(space, choices, lean)
            fitting = np.flatnonzero(peaks <= self.capacity)
            fitting = fitting[np.argsort(seconds[fitting], kind="stable")]
            self._fitting.append(prices.both[:, fitting])
            self._too_large.append((seconds[peaks > self.capacity], prices.fullest[peaks > self.capacity]))
            for these in distinct_prices(seconds[fitting]):
                self.kept.note(place, prices.candidate(space, choices, int(fitting[these[0]])))
            now = (seconds[fitting].min(initial=np.inf), peaks[lean] if not len(fitting) else 0.0)
            if now >= tuple(each * (1 - WORTH) for each in before):
                return
            before = now
            choices = near_plans(space, choices[int(fitting[0]) if len(fitting) else lean])

    @property
    def best(self) -> list[Ranked]:
        """The best of those that fit, and the next of another price."""
        return self.kept.best

    @property
    def share(self) -> float:
        """Of what is computed in a mean with what is sent: that with which the plans that fit take most at least."""
        tried = np.concatenate([np.zeros((2, 0)), *self._fitting], axis=1)
        if not tried.shape[1]:
            return 0.5
        shares = np.linspace(0.0, 1.0, _SHARES)
        least = [(share * tried[0] + (1.0 - share) * tried[1]).min() for share in shares]
        return float(shares[int(np.argmax(least))])

    @property
    def fullest(self) -> Fullest | None:
        """The moment at which most of the plans that are faster than all that fit hold most; None where there are no
        such plans."""
        known = min((each.seconds for _, each in self.best), default=0.0)
        moments = [moment for seconds, every in self._too_large for moment in every[seconds < known].tolist()]
        if not moments:
            return None
        shares = self.moments.counts / (self.capacity + self.moments.chip.most_spared)
        return Fullest(shares[int(np.argmax(np.bincount(moments)))])

    def _prices(self, space: PlanSpace, choices: Sequence[Choice]) -> "_Prices | None":
        """Those of some plans, all at once; None where none of them is faster than two that are known. Where no plan is
        known and none of these fits, what they take is asked of the first ones alone."""
        rules, count = rules_of_plans(space, choices), len(choices)
        both, on = np.full((2, count), np.inf), np.zeros(count, np.int64)
        if self.best:
            both, on = self._seconds(rules, count)
            if len(self.best) > 1 and both.max(axis=0).min() >= self.best[1][1].seconds:
                return None
        sizes = [np.broadcast_to(row, count) for asked, _ in self.entries for row in asked.rows(rules)]
        every = np.stack(sizes).astype(np.float64) if sizes else np.zeros((0, count))
        held = self.moments.held(every)
        peaks = held.max(axis=0)
        if not self.best and (not self._fitting or (peaks <= self.capacity).any()):
            both, on = self._seconds(rules, count)
        return _Prices(both, on, peaks, held.argmax(axis=0))

    def _seconds(self, rules: ShardingRules, count: int) -> tuple[Float, IntArray]:
        """[computed or sent, plan] of so many plans on the best network, and [plan] which that is."""
        total = np.zeros((2, self.networks, count))
        for i, asked in enumerate(self.terms):
            rows = asked.rows(rules)
            each = np.maximum(*rows)
            self.weights[i] = min(self.weights[i], each.min())
            self.spreads[i] = max(self.spreads[i], each.max())
            for row, more in zip(total, rows, strict=True):
                row += more
        on = np.argmin(total.max(axis=0), axis=0)
        return total[:, on, np.arange(count)], on


@dataclass(frozen=True)
class _Prices:
    """Of some plans, [computed or sent, plan] seconds on the best network, [plan] which that is, [plan] peak
    bytes, and [plan] the moment at which most is held."""

    both: Float
    on: IntArray
    peaks: Float
    fullest: IntArray

    def candidate(self, space: PlanSpace, choices: Sequence[Choice], i: int) -> Candidate:
        """One of the plans."""
        stored, masks = choices[i]
        seconds, peak = float(self.both[:, i].max()), round(float(self.peaks[i]))
        return Candidate(seconds, peak, stored, masks, space.order_where, int(self.on[i]))


def _widest(space: PlanSpace) -> list[StorageAxes]:
    """Of each stored name the choice of the most devices."""
    found: dict[tuple[str, ...], StorageAxes] = {}
    for choice in space.storage_choices:
        before = found.get(choice.names)
        if before is None or space.mesh.group(choice.mask) > space.mesh.group(before.mask):
            found[choice.names] = choice
    return list(found.values())


def _fitting(space: PlanSpace, options: IntArray) -> IntArray:
    """[mask] → of the options within it that of the most devices; the first where none is."""
    found = np.full(space.mesh.masks, options[0])
    for mask in range(space.mesh.masks):
        within = options[(options & ~mask) == 0]
        if len(within):
            found[mask] = within[np.argmax(space.mesh.group(within))]
    return found
