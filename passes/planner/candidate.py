"""What a search finds: complete plans with their price, and which of those with the same price is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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


def ranked(found: Sequence[Ranked], fastest: float) -> list[Ranked]:
    """The best of some candidates and the next of another price. Of equal prices that of the first space is kept, and
    there the simplest: the fewest axes used.

    Args:
        fastest: the fewest seconds of any candidate, also of one that was as good as a simpler one.
    """

    def simplest(several: Sequence[Ranked]) -> Ranked:
        return min(several, key=lambda each: (each[0], _simplicity(each[1])))

    same = fastest * (1 + DISTINCT)
    best = [each for each in found if each[1].seconds <= same]
    rest = [each for each in found if each[1].seconds > same]
    least = min((each.seconds for _, each in rest), default=0.0) * (1 + SAME)
    second = [each for each in rest if each[1].seconds <= least]
    return [simplest(each) for each in (best, second) if each]


def _uses(candidate: Candidate) -> int:
    return sum(mask.bit_count() for mask in (*candidate.masks.values(), *candidate.stored.extra.values()))


def _simplicity(candidate: Candidate) -> tuple[Any, ...]:
    return (_uses(candidate), tuple(sorted(candidate.masks.items())), candidate.stored.names, candidate.stored.mask)
