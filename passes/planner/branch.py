"""A branch of the search: the sets of names that may still wish for each mesh axis, and what each of them costs at least.

A branch begins with no name at all and takes in one group of functions after the other (`passes.planner.groups`), those
of the fewest classes first: what these rule out, the larger ones need not be priced for. A set is ruled out where the
smallest entries that each table has for it add up to more than a plan that is known takes, or to more memory than there
is. To make such bounds tight, costs are moved between tables until their smallest entries agree. No complete plan gets
cheaper or dearer by that: what every entry with one class of sets costs at least leaves its table for a common one of
that mesh axis, and goes from there to all tables in equal parts. Each such step raises the bound or leaves it: the dual
of a linear program (Werner, A Linear Programming Approach to Max-Sum Problem, 2007; Globerson and Jaakkola, Fixing
Max-Product, 2007).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt

from passes.planner.groups import MOST_ENTRIES, Group
from passes.planner.peaks import Moments
from passes.planner.tables import Float
from passes.sharding.mesh import IntArray

BOUNDS = 2
"""What is computed and what is sent: a step takes at least as long as either."""
HUGE = 1e30
_MOST_SETS = 1 << 18
"""For one mesh axis: a group that would make more of them waits until enough is decided."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Table:
    """Values over the classes of each mesh axis: [row, class of axis 0, …], and the class of each set of the branch."""

    values: Float
    classes: tuple[IntArray, ...]
    at: IntArray | None = None
    group: Group | None = None

    def cut(self, axis: int, keep: IntArray) -> "Table":
        """What is left of it with these sets of a mesh axis alone."""
        classes = self.classes[axis][keep]
        count = self.values.shape[axis + 1]
        values = self.values
        if count > 1:
            there = np.zeros(count, bool)
            there[classes] = True
            if not there.all():
                classes = (np.cumsum(there) - 1)[classes]
                values = np.compress(there, values, axis=axis + 1)
        return replace(self, values=values, classes=(*self.classes[:axis], classes, *self.classes[axis + 1 :]))

    @cached_property
    def least(self) -> Float:
        """[row] the smallest value that there is."""
        found: Float = self.values.reshape(len(self.values), -1).min(axis=1)
        return found

    @cached_property
    def most(self) -> Float:
        """[row] the largest finite value that there is."""
        values = self.values.reshape(len(self.values), -1)
        return np.where(np.isfinite(values), values, 0.0).max(axis=1, initial=0.0)

    def least_of(self, axis: int) -> Float:
        """[row, class] the smallest value with each class of a mesh axis."""
        others = tuple(other for other in range(1, self.values.ndim) if other != axis + 1)
        found: Float = self.values.min(axis=others)
        return found

    def spread(self) -> Float:
        """[row, set of axis 0, set of axis 1, …] the value of every plan."""
        values = self.values
        for axis, classes in enumerate(self.classes):
            if values.shape[axis + 1] > 1:
                values = np.take(values, classes, axis=axis + 1)
        return values

    def of(self, sets: Sequence[IntArray]) -> Float:
        """[row, plan] the values of some plans, each given by the position of its set for each mesh axis."""
        return self.values[(slice(None), *(mine[each] for mine, each in zip(self.classes, sets, strict=True)))]


@dataclass(frozen=True, eq=False)
class Branch:
    """What may still be decided, and its prices.

    Attributes:
        root: where the branch comes from.
        sets: for each mesh axis, sets of names as bits.
        names: those of all names that the sets are of, as bits.
        times, sizes: seconds, and bytes of the entries of memory.
        common: [bound, set] for each mesh axis, what was moved there.
        waiting: groups that have yet to be taken in.
    """

    root: int
    sets: tuple[IntArray, ...]
    common: tuple[Float, ...]
    names: int = 0
    times: tuple[Table, ...] = ()
    sizes: tuple[Table, ...] = ()
    waiting: tuple[Group, ...] = ()

    @classmethod
    def empty(cls, root: int, axes: int) -> "Branch":
        """A branch of which nothing is known."""
        return cls(root, (np.zeros(1, np.int64),) * axes, (np.zeros((BOUNDS, 1)),) * axes)

    @property
    def plans(self) -> int:
        """The combinations of sets that are left."""
        return prod(len(each) for each in self.sets)

    def keep(self, kept: Sequence[IntArray | None]) -> "Branch":
        """The branch with these sets of each mesh axis alone, by position; None for all."""
        sets, common = list(self.sets), list(self.common)
        tables = [self.times, self.sizes]
        for axis, keep in enumerate(kept):
            if keep is not None:
                sets[axis], common[axis] = sets[axis][keep], common[axis][:, keep]
                tables = [tuple(table.cut(axis, keep) for table in each) for each in tables]
        return replace(self, sets=tuple(sets), common=tuple(common), times=tables[0], sizes=tables[1])

    def extended(self, group: Group, able: Sequence[tuple[int, int]]) -> "tuple[Branch, list[IntArray]] | None":
        """The branch with sets of the names of a group too, and which set each of them was; None where there would be
        too many.

        Args:
            able: for each mesh axis, names that can wish for it, as bits, and those that cannot but do so.
        """
        new = [bit for bit in group.bits if not self.names >> bit & 1]
        sets, kept = list(self.sets), list[IntArray]()
        for axis, (can, must) in enumerate(able):
            more = np.zeros(1, np.int64)
            for bit in new:
                if can >> bit & 1:
                    own = [1 << bit] if must >> bit & 1 else [0, 1 << bit]
                    more = (more[:, None] | np.array(own)).reshape(-1)
            if len(sets[axis]) * len(more) > _MOST_SETS:
                return None
            kept.append(np.repeat(np.arange(len(sets[axis])), len(more)))
            sets[axis] = (sets[axis][:, None] | more).reshape(-1)
        names = self.names | sum(1 << bit for bit in new)
        return replace(self.keep(kept), sets=tuple(sets), names=names), kept

    def taken_in(self, group: Group) -> "Branch | None":
        """The branch with the prices of a group; None where they would be too many."""
        classes = [side.classes[group.within(sets)] for side, sets in zip(group.sides, self.sets, strict=True)]
        there = [np.unique(each) for each in classes]
        if prod(len(each) for each in there) > MOST_ENTRIES:
            return None
        values = group.values(there)
        own = tuple(np.searchsorted(left, each) for left, each in zip(there, classes, strict=True))
        table = Table(values, own, group.at, group)
        if group.at is None:
            return replace(self, times=(*self.times, table))
        return replace(self, sizes=(*self.sizes, table))

    def seconds(self) -> list[Float]:
        """[bound, set] for each mesh axis: what no plan with a set can beat."""
        least = [each.min(axis=1) for each in self.common]
        total = sum((table.least for table in self.times), sum(least, np.zeros(BOUNDS)))
        if not np.isfinite(total).all():
            return [np.full(each.shape, np.inf) for each in self.common]
        found: list[Float] = []
        for axis, (common, lowest) in enumerate(zip(self.common, least, strict=True)):
            bounds = common + (total - lowest)[:, None]
            for table in self.times:
                if table.values.shape[axis + 1] > 1:
                    bounds = bounds + (table.least_of(axis) - table.least[:, None])[:, table.classes[axis]]
            found.append(bounds)
        return found

    def bytes(self, entries: int) -> list[Float]:
        """[entry, set] for each mesh axis: what each entry of memory takes at least."""
        least = np.zeros(entries)
        for table in self.sizes:
            least[table.at] = np.minimum(table.least, HUGE)
        found: list[Float] = []
        for axis, sets in enumerate(self.sets):
            rows = np.repeat(least[:, None], len(sets), axis=1)
            for table in self.sizes:
                if table.values.shape[axis + 1] > 1:
                    rows[table.at] = np.minimum(table.least_of(axis), HUGE)[:, table.classes[axis]]
            found.append(rows)
        return found

    def peaks(self, moments: Moments) -> list[Float]:
        """[set] for each mesh axis: the bytes that no plan with a set can do without."""
        return [moments.peak(rows) for rows in self.bytes(moments.entries)]

    def most(self, moments: Moments) -> float:
        """Bytes that no plan needs more than; infinite where sizes are still waiting."""
        rows = np.full(moments.entries, HUGE)
        for table in self.sizes:
            rows[table.at] = table.most
        return float(moments.peak(rows[:, None])[0])

    def tightened(self) -> "Branch":
        """The same with costs moved between the tables of seconds."""
        values = [table.values.copy() for table in self.times]
        common = [each.copy() for each in self.common]
        for axis, of_sets in enumerate(common):
            around = [i for i, each in enumerate(values) if each.shape[axis + 1] > 1]
            seats = {i: _Seat.of(self.times[i].classes[axis], values[i].shape[axis + 1]) for i in around}
            for i in around:
                _move(values[i], of_sets, axis, seats[i])
            for left, i in zip(range(len(around), 0, -1), around, strict=True):
                _give(values[i], of_sets, axis, seats[i], 1.0 / left)
        times = tuple(replace(table, values=each) for table, each in zip(self.times, values, strict=True))
        return replace(self, times=times, common=tuple(common))

    def merged(self) -> "Branch":
        """The same with sets as one that no table tells apart, and tables of seconds added up where one has no more
        classes than another: fewer tables bound more tightly."""
        kept: list[IntArray] = []
        for axis, sets in enumerate(self.sets):
            simple = np.lexsort((sets, _bits(sets)))
            rows = [table.classes[axis][simple] for table in (*self.times, *self.sizes)]
            if not rows:
                kept.append(simple[:1])
                continue
            _, first = np.unique(np.stack(rows), axis=1, return_index=True)
            kept.append(np.sort(simple[first]))
        branch = self.keep(kept)
        return replace(branch, times=tuple(_added(branch.times)))


@dataclass(frozen=True, eq=False)
class _Seat:
    """Where a table meets the sets of a mesh axis: the class of each, and the sets by class."""

    classes: IntArray
    order: IntArray
    starts: IntArray

    @classmethod
    def of(cls, classes: IntArray, count: int) -> "_Seat":
        order = np.argsort(classes, kind="stable")
        return cls(classes, order, np.searchsorted(classes[order], np.arange(count)))

    def least(self, common: Float) -> Float:
        """[row, set] → [row, class]"""
        return np.minimum.reduceat(common[:, self.order], self.starts, axis=1)


def _move(values: Float, common: Float, axis: int, seat: _Seat) -> None:
    """What each class costs at least goes from a table to the common one."""
    others = tuple(other for other in range(1, values.ndim) if other != axis + 1)
    least = values.min(axis=others)
    least = np.where(np.isfinite(least), least, 0.0)
    _add(values, -least, axis)
    common += least[:, seat.classes]


def _give(values: Float, common: Float, axis: int, seat: _Seat, share: float) -> None:
    """A share of what each class costs at least in the common table goes to a table."""
    least = seat.least(common) * share
    _add(values, least, axis)
    common -= least[:, seat.classes]


def _add(values: Float, change: Float, axis: int) -> None:
    shape = [1] * values.ndim
    shape[0], shape[axis + 1] = change.shape
    values += change.reshape(shape)


def _bits(sets: IntArray) -> IntArray:
    """How many names each set has."""
    found = np.zeros_like(sets)
    left = sets.copy()
    while left.any():
        found += left & 1
        left >>= 1
    return found


def _added(tables: Iterable[Table]) -> list[Table]:
    """Tables added up where the classes of one tell those of another apart."""
    kept: list[Table] = []
    for table in sorted(tables, key=lambda table: -table.values.size):
        for i, wide in enumerate(kept):
            places = [_places(wide, table, axis) for axis in range(len(table.classes))]
            if all(place is not None for place in places):
                values = table.values[(slice(None), *np.ix_(*(place for place in places if place is not None)))]
                kept[i] = replace(wide, values=wide.values + values)
                break
        else:
            kept.append(table)
    return kept


def _places(wide: Table, table: Table, axis: int) -> IntArray | None:
    """The class of a table that each class of a wider one lies in; None where one does not."""
    place = np.zeros(wide.values.shape[axis + 1], np.int64)
    if table.values.shape[axis + 1] == 1:
        return place
    place[wide.classes[axis]] = table.classes[axis]
    return place if (place[wide.classes[axis]] == table.classes[axis]).all() else None
