"""A part of a branch of the search: some names, the sets of them that may wish for each mesh axis, and what these cost.

A set is ruled out where the smallest entries that each table has for it add up to more than a plan that is known takes.
To make such bounds tight, costs are moved between tables until their smallest entries agree. No complete plan gets
cheaper or dearer by that: what every entry with one class of sets costs at least leaves its table for a common one of
that mesh axis, and goes from there to all tables in equal parts. Each such step raises the bound or leaves it: the dual
of a linear program (Werner, A Linear Programming Approach to Max-Sum Problem, 2007; Globerson and Jaakkola, Fixing
Max-Product, 2007).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from passes.planner.groups import BOUNDS, Group
from passes.planner.tables import Float
from passes.sharding.mesh import IntArray

HUGE = 1e30
_MOST_KEYS = 1 << 62
"""Numbers that columns of classes are told apart by."""


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
        return Table(values, (*self.classes[:axis], classes, *self.classes[axis + 1 :]), self.at, self.group)

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
class Part:
    """Some of the names, the sets of them that may wish for each mesh axis, and what depends on these alone.

    Attributes:
        sets: for each mesh axis, sets of names as bits.
        common: [bound and network, set] for each mesh axis, what was moved there.
        bounds: [bound and network, set] for each mesh axis, what no plan with a set can beat.
        names: those that the sets are of, as bits.
        times, sizes: seconds, and bytes of the entries of memory.
    """

    sets: tuple[IntArray, ...]
    common: tuple[Float, ...]
    bounds: tuple[Float, ...]
    names: int = 0
    times: tuple[Table, ...] = ()
    sizes: tuple[Table, ...] = ()

    @classmethod
    def of_names(cls, names: int, sets: Sequence[IntArray], rows: int = BOUNDS) -> "Part":
        """A part of which only the sets are known.

        Args:
            rows: bounds, times the networks.
        """
        nothing = tuple(np.zeros((rows, len(each))) for each in sets)
        return cls(tuple(sets), nothing, nothing, names)

    @property
    def plans(self) -> int:
        """The combinations of sets that are left."""
        return prod(len(each) for each in self.sets)

    @cached_property
    def wishing(self) -> list[tuple[int, int]]:
        """For each mesh axis, as bits, the names that are in some of the sets, and those that are in all."""
        return [(int(np.bitwise_or.reduce(sets)), int(np.bitwise_and.reduce(sets))) for sets in self.sets]

    @property
    def rows(self) -> int:
        """The bounds, times the networks."""
        return len(self.common[0])

    def on(self, rows: IntArray) -> "Part":
        """The part with these rows alone: on some of its networks."""
        times = tuple(replace(table, values=table.values[rows]) for table in self.times)
        common, bounds = (tuple(each[rows] for each in every) for every in (self.common, self.bounds))
        return replace(self, common=common, bounds=bounds, times=times)

    @property
    def least(self) -> Float:
        """[bound] what no plan can beat."""
        return np.max([bounds.min(axis=1) for bounds in self.bounds], axis=0)

    def keep(self, kept: Sequence[IntArray | None]) -> "Part":
        """The part with these sets of each mesh axis alone, by position; None for all."""
        sets, common, bounds = list(self.sets), list(self.common), list(self.bounds)
        tables = [self.times, self.sizes]
        for axis, keep in enumerate(kept):
            if keep is not None:
                sets[axis], common[axis], bounds[axis] = sets[axis][keep], common[axis][:, keep], bounds[axis][:, keep]
                tables = [tuple(table.cut(axis, keep) for table in each) for each in tables]
        return Part(tuple(sets), tuple(common), tuple(bounds), self.names, *tables)

    def joined(self, other: "Part") -> "Part":
        """Both parts as one."""
        mine = [np.repeat(np.arange(len(a)), len(b)) for a, b in zip(self.sets, other.sets, strict=True)]
        its = [np.tile(np.arange(len(b)), len(a)) for a, b in zip(self.sets, other.sets, strict=True)]
        one, two = self.keep(mine), other.keep(its)
        return Part(
            tuple(a | b for a, b in zip(one.sets, two.sets, strict=True)),
            tuple(a + b for a, b in zip(one.common, two.common, strict=True)),
            tuple(a + b for a, b in zip(one.bounds, two.bounds, strict=True)),
            self.names | other.names,
            (*one.times, *two.times),
            (*one.sizes, *two.sizes),
        )

    def priced(self, table: Table) -> "Part":
        """The part with one table more."""
        if table.at is not None:
            return replace(self, sizes=(*self.sizes, table))
        least = [table.least_of(axis)[:, classes] for axis, classes in enumerate(table.classes)]
        bounds = tuple(mine + more for mine, more in zip(self.bounds, least, strict=True))
        return replace(self, times=(*self.times, table), bounds=bounds)

    @classmethod
    def decided(cls, parts: Sequence["Part"]) -> "Part":
        """Parts of which one plan each is left, as one."""
        rows, shape = parts[0].rows, (1,) * len(parts[0].sets)
        nothing = tuple(np.zeros((rows, 1)) for _ in shape)
        alone = tuple(np.zeros(1, np.int64) for _ in shape)
        seconds = sum((part.prices()[:, 0] for part in parts), np.zeros(rows))
        sizes = [table for part in parts for table in part.sizes]
        held: list[Table] = []
        if sizes:
            values = np.concatenate([table.spread().reshape(-1) for table in sizes]).reshape(-1, *shape)
            held = [Table(values, alone, np.concatenate([table.at for table in sizes if table.at is not None]))]
        sets = tuple(np.bitwise_or.reduce(each) for each in zip(*(part.sets for part in parts), strict=True))
        names = sum(part.names for part in parts)
        times = (Table(seconds.reshape(-1, *shape), alone),)
        return cls(sets, nothing, nothing, names, times, tuple(held)).renewed()

    def renewed(self) -> "Part":
        """The part with the bounds of the sets that are left."""
        if self.plans == 1:
            return replace(self, bounds=(self.prices(),) * len(self.sets))
        least = [each.min(axis=1) for each in self.common]
        total = sum((table.least for table in self.times), sum(least, np.zeros(self.rows)))
        if not np.isfinite(total).all():
            return replace(self, bounds=tuple(np.full(each.shape, np.inf) for each in self.common))
        found: list[Float] = []
        for axis, (common, lowest) in enumerate(zip(self.common, least, strict=True)):
            bounds = common + (total - lowest)[:, None]
            for table in self.times:
                if table.values.shape[axis + 1] > 1:
                    bounds = bounds + (table.least_of(axis) - table.least[:, None])[:, table.classes[axis]]
            found.append(bounds)
        return replace(self, bounds=tuple(found))

    def tightened(self) -> "Part":
        """The same with costs moved between the tables of seconds."""
        if self.plans == 1:
            return self.renewed()
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
        return replace(self, times=times, common=tuple(common)).renewed()

    def merged(self, by_name: Sequence[int]) -> "Part":
        """The same with the simplest of the sets that no table tells apart, and tables of seconds added up where one
        has no more classes than another: fewer tables bound more tightly.

        Args:
            by_name: bits in the order of the names that they stand for, by which the simplest of equal sets is chosen.
        """
        if self.plans == 1:
            return self
        every = (*self.times, *self.sizes)
        even = all(_even(table.values) for table in every) and all(_even(each) for each in self.common)
        kept: list[IntArray] = []
        for axis, sets in enumerate(self.sets):
            simple = _simplest_first(sets, by_name)
            rows = [table.classes[axis][simple] for table in every if table.values.shape[axis + 1] > 1]
            if rows and not even:
                kept.append(np.sort(simple[_first_of_each(rows)]))
            else:
                kept.append(simple[:1])
        part = self.keep(kept)
        return replace(part, times=tuple(added(part.times)))

    def gathered(self) -> "Part":
        """The same with tables of seconds over the same classes added up, and those in common as tables like others."""
        found: dict[Any, Table] = {}
        for table in (*self.times, *self._of_common()):
            key = tuple(classes.tobytes() for classes in table.classes)
            if key in found:
                table = replace(table, values=found[key].values + table.values)
            found[key] = table
        nothing = tuple(np.zeros(each.shape) for each in self.common)
        return replace(self, common=nothing, times=tuple(found.values()))

    def _of_common(self) -> Iterator[Table]:
        """What was moved to each mesh axis, where that is anything, as a table of that axis alone."""
        for axis, common in enumerate(self.common):
            if common.any():
                values, inverse = np.unique(common, axis=1, return_inverse=True)
                shape = [len(common), *(1 for _ in self.sets)]
                shape[axis + 1] = values.shape[1]
                classes = [np.zeros(len(sets), np.int64) for sets in self.sets]
                classes[axis] = inverse.reshape(-1)
                yield Table(values.reshape(shape), tuple(classes))

    def split(self) -> "list[Part]":
        """The part as several where no table has names of two of them, and every set of the one may come with every set
        of the other. Nothing is in common tables (`gathered`)."""
        bits = [bit for bit in range(self.names.bit_length()) if self.names >> bit & 1]
        of = {bit: 1 << bit for bit in bits}
        tables = (*self.times, *self.sizes)
        concerned = [0] * len(tables)
        for axis, sets in enumerate(self.sets):
            order = np.argsort(sets)
            for bit in bits:
                with_it = np.flatnonzero(sets >> bit & 1)
                place = np.searchsorted(sets, sets[with_it] ^ 1 << bit, sorter=order)
                without = order[np.minimum(place, len(sets) - 1)]
                there = sets[without] == sets[with_it] ^ 1 << bit
                pair = with_it[there], without[there]
                for i, table in enumerate(tables):
                    if table.values.shape[axis + 1] > 1 and not concerned[i] >> bit & 1:
                        classes = table.classes[axis]
                        concerned[i] |= int((classes[pair[0]] != classes[pair[1]]).any()) << bit
        for names in concerned:
            together = sum({of[bit] for bit in bits if names >> bit & 1})
            of |= {bit: together for bit in bits if together >> bit & 1}
        parts = list(dict.fromkeys(of.values()))
        places = [min((i for i, part in enumerate(parts) if part & names), default=0) for names in concerned]
        return self._apart(parts, places) if len(parts) > 1 else [self]

    def _apart(self, parts: Sequence[int], places: Sequence[int]) -> "list[Part]":
        """The part as several of these names, each table in its place; as it is where that does not do."""
        own: list[list[IntArray]] = []
        first: list[list[IntArray]] = []
        tables = (*self.times, *self.sizes)
        for axis, sets in enumerate(self.sets):
            found = [np.unique(sets & names, return_index=True, return_inverse=True) for names in parts]
            if prod(len(each[0]) for each in found) != len(sets):
                return [self]
            for table, place in zip(tables, places, strict=True):
                _, index, inverse = found[place]
                if (table.classes[axis][index][inverse] != table.classes[axis]).any():
                    return [self]
            own.append([each[0] for each in found])
            first.append([each[1] for each in found])
        result: list[Part] = []
        for i, names in enumerate(parts):
            part = Part.of_names(names, [sets[i] for sets in own], self.rows)
            of_times: list[Table] = []
            of_sizes: list[Table] = []
            for table, place in zip(tables, places, strict=True):
                if place == i:
                    classes = tuple(mine[at[i]] for mine, at in zip(table.classes, first, strict=True))
                    (of_times if table.at is None else of_sizes).append(replace(table, classes=classes))
            result.append(replace(part, times=tuple(of_times), sizes=tuple(of_sizes)).renewed())
        return result

    def prices(self) -> Float:
        """[bound, plan] the seconds of every plan."""
        shape = tuple(len(sets) for sets in self.sets)
        total: Float = np.zeros((self.rows, *shape))
        for axis, common in enumerate(self.common):
            ones = [1] * len(shape)
            ones[axis] = -1
            total = total + common.reshape(self.rows, *ones)
        for table in self.times:
            total = total + table.spread()
        return total.reshape(self.rows, -1)

    def bytes(self, rows: Float, axis: int) -> Float:
        """[entry, set] what each entry of memory takes at least, where what other parts take is known."""
        found = np.repeat(rows[:, None], len(self.sets[axis]), axis=1)
        for table in self.sizes:
            if table.values.shape[axis + 1] > 1:
                found[table.at] = np.minimum(table.least_of(axis), HUGE)[:, table.classes[axis]]
        return found


def _even(values: Float) -> bool:
    """Whether each row has one value alone."""
    flat = values.reshape(len(values), -1)
    return bool((flat == flat[:, :1]).all())


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


def _first_of_each(rows: Sequence[IntArray]) -> IntArray:
    """The first position of each distinct column."""
    keys, size = np.zeros(len(rows[0]), np.int64), 1
    for row in rows:
        count = int(row.max()) + 1
        if size * count > _MOST_KEYS:
            there, keys = np.unique(keys, return_inverse=True)
            size = len(there)
        keys, size = keys * count + row, size * count
    _, first = np.unique(keys, return_index=True)
    return first


def _simplest_first(sets: IntArray, by_name: Sequence[int]) -> IntArray:
    """The positions of sets, those of the fewest names first."""
    bits = [sets >> bit & 1 for bit in by_name]
    count = sum(bits, np.zeros_like(sets))
    return np.lexsort([*reversed(bits), count])


def added(tables: Iterable[Table]) -> list[Table]:
    """Tables added up where the classes of one tell those of another apart."""
    kept: list[Table] = []
    for table in sorted(tables, key=lambda table: -table.values.size):
        for i, wide in enumerate(kept):
            places = _all_places(wide, table)
            if places is not None:
                values = table.values[(slice(None), *np.ix_(*places))]
                kept[i] = replace(wide, values=wide.values + values)
                break
        else:
            kept.append(table)
    return kept


def _all_places(wide: Table, table: Table) -> list[IntArray] | None:
    """Those of each mesh axis; None where one is."""
    if any([own < its for own, its in zip(wide.values.shape[1:], table.values.shape[1:], strict=True)]):
        return None
    found: list[IntArray] = []
    for axis in range(len(table.classes)):
        place = _places(wide, table, axis)
        if place is None:
            return None
        found.append(place)
    return found


def _places(wide: Table, table: Table, axis: int) -> IntArray | None:
    """The class of a table that each class of a wider one lies in; None where one does not."""
    place = np.zeros(wide.values.shape[axis + 1], np.int64)
    if table.values.shape[axis + 1] == 1:
        return place
    place[wide.classes[axis]] = table.classes[axis]
    return place if (place[wide.classes[axis]] == table.classes[axis]).all() else None
