"""A branch of the search: the sets of names that may still wish for each mesh axis, and what each costs at least.

A branch begins with no name at all and takes in one group of functions after the other (`passes.planner.groups`): what
the heavy and the small ones rule out, the large ones need not be priced for. Names that no function has in common are
kept apart, so that their sets are not multiplied (`passes.planner.parts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, prod

import numpy as np
import numpy.typing as npt

from passes.planner.fullest import Fullest
from passes.planner.groups import MOST_ENTRIES, Group, worst
from passes.planner.parts import BOUNDS, HUGE, Part, Table
from passes.planner.peaks import Moments
from passes.planner.tables import Float
from passes.sharding.mesh import IntArray

BoolArray = npt.NDArray[np.bool_]

__all__ = ["BOUNDS", "HUGE", "Branch"]

_MOST_SETS = 1 << 18
"""For one mesh axis: a group that would make more of them waits until enough is decided."""


@dataclass(frozen=True, eq=False)
class Branch:
    """What may still be decided, and its prices: parts that have no name in common, and groups that have yet to be
    taken in. `root` is where the branch comes from, `networks` are those of which one is to be decided on;
    at the `fullest` moment memory is a bound as seconds are. Sets that cannot be better than `under` are left out."""

    root: int
    parts: tuple[Part, ...]
    waiting: tuple[Group, ...] = ()
    networks: tuple[int, ...] = (0,)
    fullest: Fullest | None = None
    under: float = inf

    @classmethod
    def empty(cls, root: int, axes: int, networks: int = 1, fullest: Fullest | None = None) -> "Branch":
        """A branch of which nothing is known."""
        part = Part.of_names(0, (np.zeros(1, np.int64),) * axes, BOUNDS * networks)
        return cls(root, (part,), networks=tuple(range(networks)), fullest=fullest)

    @property
    def plans(self) -> int:
        """The combinations of sets that are left."""
        return prod(part.plans for part in self.parts)

    @property
    def width(self) -> int:
        """How many sets there are."""
        return sum(len(sets) for part in self.parts for sets in part.sets)

    @property
    def sized(self) -> bool:
        """Whether memory may be too small for a plan."""
        return any(part.sizes for part in self.parts)

    @property
    def least(self) -> Float:
        """[bound and network] what no plan can beat."""
        return sum((part.least for part in self.parts), np.zeros(BOUNDS * len(self.networks)))

    def on(self, networks: Sequence[int]) -> "Branch":
        """The branch on some of its networks."""
        rows = self._rows([self.networks.index(each) for each in networks], len(self.networks))
        return replace(self, parts=tuple(part.on(rows) for part in self.parts), networks=tuple(networks))

    def _rows(self, places: Sequence[int], networks: int) -> IntArray:
        """The rows of some of so many networks."""
        return np.arange(BOUNDS * networks).reshape(BOUNDS, -1)[:, list(places)].reshape(-1)

    def taken_in(self, group: Group, able: Sequence[tuple[int, int]]) -> "Branch | None":
        """The branch with the prices of a group; None where they would be too many.

        Args:
            able: for each mesh axis, names that can wish for it, as bits, and those that cannot but do so.
        """
        wishes = [self.wishes(group, axis, *each) for axis, each in enumerate(able)]
        concerned = 0
        fixed: list[int] = []
        looked_at: set[tuple[int, int, int]] = set()
        for side, (some, always) in zip(group.sides, wishes, strict=True):
            fixed.append(always)
            if (id(side), some, always) in looked_at:
                continue
            looked_at.add((id(side), some, always))
            sets = np.array([always])
            for bit in range(len(group.bits)):
                if some >> bit & 1:
                    sets = np.concatenate([sets, sets | 1 << bit])
            for i, bit in enumerate(group.bits):
                if some >> i & 1 and (side.classes[sets] != side.classes[sets ^ 1 << i]).any():
                    concerned |= 1 << bit
        mine = [part for part in self.parts if part.names & concerned] if concerned else [self.parts[0]]
        new = concerned & ~sum(part.names for part in self.parts)
        if new:
            mine.append(Part.of_names(new, [_sets_of(group, new, *each) for each in wishes], self.parts[0].rows))
        if any(prod(len(part.sets[axis]) for part in mine) > _MOST_SETS for axis in range(len(able))):
            return None
        part = mine[0]
        for other in mine[1:]:
            part = part.joined(other)
        classes: list[IntArray] = []
        for side, sets, always in zip(group.sides, part.sets, fixed, strict=True):
            own = np.full(len(sets), always)
            for i, bit in enumerate(group.bits):
                if concerned >> bit & 1:
                    own = (own & ~(1 << i)) | (sets >> bit & 1) << i
            classes.append(side.classes[own])
        there = [np.flatnonzero(np.bincount(each)) for each in classes]
        if prod(len(each) for each in there) > MOST_ENTRIES:
            return None
        own_classes = tuple(np.searchsorted(left, each) for left, each in zip(there, classes, strict=True))
        values = group.values(there)
        if group.at is None and len(values) > part.rows:
            values = values[self._rows(self.networks, len(values) // BOUNDS)]
        part = part.priced(Table(values, own_classes, group.at, group))
        if group.at is not None and self.fullest is not None:
            taken = self.fullest.of(values, group.at)
            if taken is not None:
                rows = np.zeros((BOUNDS, len(self.networks), *taken.shape))
                rows[-1] = taken
                part = part.priced(Table(rows.reshape(-1, *taken.shape), own_classes, None, group))
        rest = [each for each in self.parts if not any(each is one for one in mine)]
        return replace(self, parts=(*rest, part) if concerned else (part, *rest))

    def opened(self, group: Group, able: Sequence[tuple[int, int]]) -> "Branch":
        """The branch with sets of the names of a group that waits, each name by itself, so that they can be decided."""
        parts = list(self.parts)
        wishes = [self.wishes(group, axis, *each) for axis, each in enumerate(able)]
        for bit in group.bits:
            if not any(part.names >> bit & 1 for part in parts):
                sets = [_sets_of(group, 1 << bit, *each) for each in wishes]
                parts.append(Part.of_names(1 << bit, sets, self.parts[0].rows))
        return replace(self, parts=tuple(parts))

    def wishes(self, group: Group, axis: int, can: int, must: int) -> tuple[int, int]:
        """Of the names of a group, as its bits, those that may or may not wish for a mesh axis, and those that do."""
        some = always = 0
        for i, bit in enumerate(group.bits):
            part = next((part for part in self.parts if part.names >> bit & 1), None)
            any_of, all_of = (can, can & must) if part is None else part.wishing[axis]
            some |= (any_of & ~all_of) >> bit & 1 and 1 << i
            always |= all_of >> bit & 1 and 1 << i
        return some, always

    @cached_property
    def bounds(self) -> list[list[Float]]:
        """[set] for each part and mesh axis: seconds that no plan with a set can beat."""
        total = self.least
        found: list[list[Float]] = []
        for part in self.parts:
            rest = total - part.least if np.isfinite(total).all() else total
            found.append([worst(bounds + rest[:, None]) for bounds in part.bounds])
        return found

    def peaks(self, moments: Moments) -> list[list[Float]]:
        """[set] for each part and mesh axis: the bytes that no plan with a set can do without."""
        rows = np.zeros(moments.entries)
        for part in self.parts:
            for table in part.sizes:
                rows[table.at] = np.minimum(table.least, HUGE)
        moments = moments.fullest(rows)
        axes = range(len(self.parts[0].sets))
        return [[moments.peak(part.bytes(rows, axis)) for axis in axes] for part in self.parts]

    def most(self, moments: Moments) -> float:
        """Bytes that no plan needs more than; infinite where sizes are still waiting."""
        rows = np.full(moments.entries, HUGE)
        for part in self.parts:
            for table in part.sizes:
                rows[table.at] = table.most
        return float(moments.peak(rows[:, None])[0])

    def without_sizes(self) -> "Branch":
        """The branch where memory has room for all of its plans."""
        return replace(self, parts=tuple(replace(part, sizes=()) for part in self.parts))

    def split(self) -> "Branch":
        """The branch with parts that are as small as can be."""
        first, *rest = self.parts
        return replace(self, parts=(first, *(each for part in rest for each in part.gathered().split())))

    def merged(self, by_name: Sequence[int]) -> "Branch":
        """The branch without sets that nothing tells from simpler ones (`Part.merged`), and what is decided in one
        part."""
        parts = [part.merged(by_name) for part in self.parts]
        decided = [part for part in parts if part.plans == 1]
        if len(decided) > 1:
            parts = [Part.decided(decided), *(part for part in parts if part.plans > 1)]
        return replace(self, parts=tuple(parts))

    def kept(self, keep: Sequence[Sequence[BoolArray]]) -> "Branch | None":
        """The branch with these sets alone, by part and mesh axis; None where there are none for one."""
        if all(each.all() for of_part in keep for each in of_part):
            return self
        if not all(each.any() for of_part in keep for each in of_part):
            return None
        parts = [
            part.keep([None if each.all() else np.flatnonzero(each) for each in of_part])
            for part, of_part in zip(self.parts, keep, strict=True)
        ]
        return replace(self, parts=tuple(parts))

    def whole(self) -> "Branch":
        """The branch with all parts as one."""
        part = self.parts[0]
        for other in self.parts[1:]:
            part = part.joined(other)
        return replace(self, parts=(part,))


def _sets_of(group: Group, names: int, some: int, always: int) -> IntArray:
    """All sets of some names of a group, of which some may wish and others always do."""
    sets = np.zeros(1, np.int64)
    for i, bit in enumerate(group.bits):
        if names >> bit & 1:
            own = [0, 1 << bit] if some >> i & 1 else [(always >> i & 1) << bit]
            sets = (sets[:, None] | np.array(own)).reshape(-1)
    return sets
