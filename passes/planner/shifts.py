"""Tighter bounds: costs moved between tables until their smallest entries agree.

The sum of the smallest entries of all tables is a bound, and a weak one where each table has its smallest entry for
other wishes. Costs may be moved between tables as long as no complete plan gets cheaper or dearer by it: what every
entry with one class of wishes for a mesh axis costs at least leaves its table for a common one of that axis, with an
entry for each set of names, and goes from there to all tables in equal parts. Each such step raises the bound or leaves
it, and what is left is near the best that any such move can do: the dual of a linear program (Werner, A Linear
Programming Approach to Max-Sum Problem, 2007; Globerson and Jaakkola, Fixing Max-Product, 2007).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from passes.planner.tables import Float, Side, Table, values_of, within
from passes.sharding.mesh import IntArray


@dataclass(frozen=True)
class _Seat:
    """Where a table meets the sets of names of one mesh axis: the class of each set, and the sets by class."""

    classes: IntArray
    order: IntArray
    starts: IntArray

    @classmethod
    def of(cls, table: Table, side: Side, names: Sequence[str], sets: IntArray) -> "_Seat":
        of_set = np.full(1 << len(table.names), -1)
        of_set[side.sets] = side.classes
        classes = of_set[within(sets, names, table.names)]
        order = np.argsort(classes, kind="stable")
        order = order[np.searchsorted(classes[order], 0) :]
        starts = np.searchsorted(classes[order], np.arange(len(side.chosen)))
        return cls(classes, order, starts)

    def least(self, common: Float) -> Float:
        """[row, set] → [row, class]"""
        return np.minimum.reduceat(common[:, self.order], self.starts, axis=1)


def common_tables(tables: Sequence[Table], axes: int, bounding: int) -> list[Table]:
    """The common table of each mesh axis, with nothing moved to it yet: [row, set of names]."""
    names = tuple(dict.fromkeys(name for table in tables for name in table.names))
    sets = [_possible(tables, names, axis) for axis in range(axes)]
    found: list[Table] = []
    for axis in range(axes):
        sides = tuple(
            Side(len(names), each, np.arange(len(each)), each)
            if other == axis
            else Side(len(names), each, np.zeros(len(each), np.int64), each[:1])
            for other, each in enumerate(sets)
        )
        values = np.zeros((bounding, *(len(side.chosen) for side in sides)))
        found.append(Table(names, sides, values, bounding, lambda _, values=values: values))
    return found


def tightened(tables: Sequence[Table], common: Sequence[Table]) -> tuple[list[Table], list[Table]]:
    """The tables and the common ones with costs moved between them. They add up to what they did, for every plan."""
    bounding = common[0].bounding
    there = [(table, table.values.copy()) for table in tables if table.values is not None]
    shared = [values_of(table).reshape(bounding, -1).copy() for table in common]
    seats = [
        [
            (values, _Seat.of(table, table.sides[axis], each.names, each.sides[axis].sets))
            for table, values in there
            if len(table.sides[axis].chosen) > 1
        ]
        for axis, each in enumerate(common)
    ]
    for axis, (around, of_sets) in enumerate(zip(seats, shared, strict=True)):
        for values, seat in around:
            _move(values, of_sets, axis, seat, bounding)
        for left, (values, seat) in zip(range(len(around), 0, -1), around, strict=True):
            _give(values, of_sets, axis, seat, bounding, 1.0 / left)
    moved = iter(values for _, values in there)
    found = [table if table.values is None else replace(table, values=next(moved)) for table in tables]
    both = zip(common, shared, strict=True)
    return found, [replace(each, values=values.reshape(values_of(each).shape)) for each, values in both]


def _possible(tables: Iterable[Table], names: Sequence[str], axis: int) -> IntArray:
    """The sets of names that no table rules out for a mesh axis."""
    sets = np.arange(1 << len(names))
    for table in tables:
        can = np.zeros(1 << len(table.names), bool)
        can[table.sides[axis].sets] = True
        sets = sets[can[within(sets, names, table.names)]]
    return sets


def _move(values: Float, common: Float, axis: int, seat: _Seat, bounding: int) -> None:
    """What each class costs at least goes from a table to the common one."""
    others = tuple(other for other in range(1, values.ndim) if other != axis + 1)
    least = values[:bounding].min(axis=others)
    least = np.where(np.isfinite(least), least, 0.0)
    _add(values, -least, axis, bounding)
    common += least[:, seat.classes]


def _give(values: Float, common: Float, axis: int, seat: _Seat, bounding: int, share: float) -> None:
    """A share of what each class costs at least in the common table goes to a table."""
    least = seat.least(common) * share
    _add(values, least, axis, bounding)
    common -= least[:, seat.classes]


def _add(values: Float, change: Float, axis: int, bounding: int) -> None:
    shape = [1] * values.ndim
    shape[0], shape[axis + 1] = bounding, -1
    values[:bounding] += change.reshape(shape)
