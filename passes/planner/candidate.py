"""What a search finds: complete plans with their price, and which of those with the same price is kept."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passes.planner.space import StorageAxes
from passes.sharding.rules import OrderWhere

DISTINCT = 1e-6
"""How much slower a plan must be to have another price."""
SAME = 1e-9
"""How far two prices may be apart that are the same, added up in another order."""


@dataclass(frozen=True)
class Candidate:
    """A complete plan: predicted seconds, peak bytes, storage choice, mask of every name with options, where the order
    of names is another one than that of the space, and which of several networks it is on."""

    seconds: float
    peak: int
    stored: StorageAxes
    masks: dict[str, int]
    order_where: OrderWhere = field(default_factory=dict[str, tuple[str, ...]])
    network: int = 0


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


Ranked = tuple[int, Candidate]
"""A candidate, and which of several spaces it is of."""


class Kept:
    """Of the plans that were found so far, those that may be the best or the next one in the end.

    The best is the simplest of all that are as fast as the fastest but for `DISTINCT`; of equal prices that of the
    first space is kept, and there that of the fewest axes. Once a faster plan is found, those that were as good as the
    best may be slower than it, and one of them the next: so each of their prices is kept.

    Attributes:
        best: the best, and the next of another price.
    """

    def __init__(self) -> None:
        self.best: list[Ranked] = []
        self._fastest = np.inf
        self._prices: list[Ranked] = []

    def note(self, place: int, found: Candidate) -> None:
        """Takes in a plan of one of several spaces."""
        self._fastest = min(self._fastest, found.seconds)
        same = self._fastest * (1 + DISTINCT)
        prices: list[Ranked] = []
        for each in sorted([*self._prices, (place, found)], key=lambda each: each[1].seconds):
            if prices and each[1].seconds <= prices[-1][1].seconds * (1 + SAME):
                prices[-1] = _simpler(prices[-1], each)
            elif not prices or prices[-1][1].seconds <= same:
                prices.append(each)
        self._prices = prices
        as_good = [each for each in prices if each[1].seconds <= same]
        self.best = [reduce(_simpler, as_good), *prices[len(as_good) :]]


def distinct_prices(seconds: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """Positions of the least of some prices, of each other that is as good as it, and of the next one: of each all that
    are the same."""
    order = np.argsort(seconds, kind="stable")
    as_good = seconds.min(initial=np.inf) * (1 + DISTINCT)
    while len(order):
        least = seconds[order[0]]
        here = np.searchsorted(seconds[order], least * (1 + SAME), side="right")
        yield order[:here]
        if least > as_good:
            return
        order = order[here:]


def _simpler(one: Ranked, other: Ranked) -> Ranked:
    return min(one, other, key=lambda each: (each[0], _simplicity(each[1])))


def _uses(candidate: Candidate) -> int:
    return sum(mask.bit_count() for mask in (*candidate.masks.values(), *candidate.stored.extra.values()))


def _simplicity(candidate: Candidate) -> tuple[Any, ...]:
    return (_uses(candidate), tuple(sorted(candidate.masks.items())), candidate.stored.names, candidate.stored.mask)
