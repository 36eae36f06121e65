"""What a function of sharding rules gives under all of them, as a small table with a dim for each mesh axis.

A plan decides for each mesh axis which names wish for it, and in each shape that an operation lays out the first of
them in the order has it. So of all sets of names that may wish for an axis few differ: those of one *class* give it to
the same name in every shape. Four names on four mesh axes have 65,536 combinations of wishes, but 5 classes for each
axis: 625 entries. A table keeps which sets are in which class, so that each decision on a wish cuts it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from passes import errors
from passes.planner.space import PlanSpace
from passes.sharding.mesh import IntArray, Mask
from passes.sharding.rules import Layout, Role, ShardingRules, Sizes, in_order

Float = npt.NDArray[np.float64]

MOST_NAMES = 14
"""That one operation may have with a choice: all sets of them are listed for each mesh axis."""
MOST_ENTRIES = 1 << 18
"""Of one table: what has more waits until enough is decided."""
EXTRA = "+"
"""Among the names that wish for a mesh axis: the name that is stored on it besides."""

Shape = tuple[tuple[str, int], ...]
Decisions = Mapping[tuple[str, int], bool]
"""Of names and mesh axes, whether the one wishes for the other."""


class _Recording(ShardingRules):
    """Sharding rules that keep in mind what they were asked for."""

    asked: dict[tuple[Shape, Role], None]

    def layout(self, sizes: Sizes, role: Role, blocked: Iterable[str] = ()) -> Layout:
        self.asked[tuple(sizes.items()), role] = None
        return super().layout(sizes, role, blocked)


@dataclass(frozen=True)
class Asked:
    """A function of sharding rules, and what it depends on.

    Attributes:
        rows: its values under some rules, as arrays that broadcast to one shape.
        shapes: those that it lays out, with their roles.
        seen: the names whose mesh axes matter to it; None where all of those do.
        lent: names of which it matters what they wish for, also where they do not get it.
    """

    rows: Callable[[ShardingRules], Sequence[Any]]
    shapes: tuple[tuple[Shape, Role], ...]
    seen: frozenset[str] | None = None
    lent: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        rows: Callable[[ShardingRules], Sequence[Any]],
        space: PlanSpace,
        seen: Iterable[str] | None = None,
        lent: tuple[str, ...] = (),
    ) -> "Asked":
        rules = _Recording(space.mesh, space.order, dict.fromkeys(space.names, 0), {}, space.order_where)
        object.__setattr__(rules, "asked", {})
        try:
            rows(rules)
        except OverflowError:
            _check_names([shape for shape, _ in rules.asked], space)
            raise
        return cls(rows, tuple(rules.asked), None if seen is None else frozenset(seen), lent)

    def stores(self, name: str) -> bool:
        """Whether storage axes of a name have a part in it."""
        return any(role == "storage" and any(name == each for each, _ in shape) for shape, role in self.shapes)


@dataclass(frozen=True)
class Side:
    """The sets of names that may still wish for one mesh axis, as bits over `names` of them; the class of each; and of
    each class one set."""

    names: int
    sets: IntArray
    classes: IntArray
    chosen: IntArray

    @cached_property
    def wishing(self) -> npt.NDArray[np.bool_]:
        """[name, set]"""
        return (self.sets[None, :] >> np.arange(self.names)[:, None] & 1).astype(bool)

    def cut(self, concerned: int, wished: int) -> "tuple[Side, IntArray]":
        """The sets that have of the names `concerned` just those `wished`, as bits, and the classes that are left."""
        keep = (self.sets & concerned) == wished
        classes = self.classes[keep]
        there = np.bincount(classes, minlength=len(self.chosen)) > 0
        left = np.flatnonzero(there)
        return Side(self.names, self.sets[keep], (np.cumsum(there) - 1)[classes], self.chosen[left]), left


@dataclass(frozen=True, eq=False)
class Table:
    """Values over the classes of each mesh axis: [row, class of axis 0, class of axis 1, …].

    Attributes:
        names: whose wishes matter; `EXTRA` stands for storage.
        values: None where there are too many yet.
        bounding: how many rows, from the first, the search is to know bounds of.
        price: the values for one set of each class.
    """

    names: tuple[str, ...]
    sides: tuple[Side, ...]
    values: Float | None
    bounding: int
    price: Callable[[Sequence[Side]], Float]

    @property
    def waits(self) -> bool:
        return self.values is None

    def cut(self, decisions: Decisions) -> "Table":
        """What is left under some decisions."""
        sides, values, changed = list(self.sides), self.values, False
        concerned, wished = [0] * len(sides), [0] * len(sides)
        for (name, axis), answer in decisions.items():
            if name in self.names and self.open[self.names.index(name), axis]:
                bit = 1 << self.names.index(name)
                concerned[axis] |= bit
                wished[axis] |= bit * answer
        for axis, bits in enumerate(concerned):
            if bits:
                changed = True
                sides[axis], left = self.sides[axis].cut(bits, wished[axis])
                if values is not None and len(left) < values.shape[axis + 1]:
                    values = np.take(values, left, axis=axis + 1)
        if not changed:
            return self
        if values is None:
            return _table(self.names, tuple(sides), self.bounding, self.price)
        return Table(self.names, tuple(sides), values, self.bounding, self.price)

    @cached_property
    def least(self) -> Float:
        """[row] the smallest value that there is."""
        if self.values is None:
            return np.zeros(self.bounding)
        bounding = self.values[: self.bounding].reshape(self.bounding, -1)
        return bounding.min(axis=1) if bounding.shape[1] else np.full(self.bounding, np.inf)

    @cached_property
    def most(self) -> Float:
        """[row] the largest value that there is."""
        if self.values is None:
            return np.full(self.bounding, np.inf)
        bounding = self.values[: self.bounding].reshape(self.bounding, -1)
        return np.where(np.isfinite(bounding), bounding, 0.0).max(axis=1, initial=0.0)

    @cached_property
    def margins(self) -> Float:
        """[row, name, axis, wished] → how much more than the least it is if a name wishes for an axis or not."""
        found = np.zeros((self.bounding, len(self.names), len(self.sides), 2))
        if self.values is None or not np.isfinite(self.least).all():
            return found
        for axis, side in enumerate(self.sides):
            if len(side.chosen) > 1:
                others = tuple(other + 1 for other in range(len(self.sides)) if other != axis)
                of_class = self.values[: self.bounding].min(axis=others) - self.least[:, None]
                of_set = of_class[:, None, side.classes]
                found[:, :, axis, 0] = np.where(side.wishing, np.inf, of_set).min(axis=2)
                found[:, :, axis, 1] = np.where(side.wishing, of_set, np.inf).min(axis=2)
        return found

    @cached_property
    def open(self) -> npt.NDArray[np.bool_]:
        """[name, axis] whether what a name wishes may change the values."""
        found = np.zeros((len(self.names), len(self.sides)), bool)
        for axis, side in enumerate(self.sides):
            if len(side.chosen) > 1:
                found[:, axis] = side.wishing.any(axis=1) & ~side.wishing.all(axis=1)
        return found


def table_of(asked: Asked, space: PlanSpace, stored: str | None, bounding: int) -> Table:
    """The table of a function, where storage axes go to the name `stored`.

    Raises:
        PlanError: it depends on too many names.
    """
    names = _check_names([shape for shape, _ in asked.shapes], space)
    extra = stored if stored is not None and asked.stores(stored) else None
    wishing = (*names, EXTRA) if extra is not None else tuple(names)
    able = [_able(space, wishing, extra, axis) for axis in range(len(space.mesh.axes))]
    made = {bits: _side(asked, space, wishing, extra, *bits) for bits in dict.fromkeys(able)}
    sides = tuple(made[bits] for bits in able)

    def price(sides: Sequence[Side]) -> Float:
        compute, added = _rules(space, wishing, extra, sides)
        shape = tuple(len(side.chosen) for side in sides)
        legal = np.flatnonzero(np.broadcast_to(_legal(space, compute, added), shape))
        compute, added = (
            {name: np.broadcast_to(np.asarray(mask), shape).reshape(-1)[legal] for name, mask in masks.items()}
            for masks in (compute, added)
        )
        rows = asked.rows(ShardingRules(space.mesh, space.order, compute, added, space.order_where))
        values = np.full((len(rows), *shape), np.inf)
        values[bounding:] = 0.0
        for row, of_row in zip(rows, values.reshape(len(rows), -1), strict=True):
            of_row[legal] = row
        return values

    return _table(wishing, sides, bounding, price)


def _check_names(shapes: Sequence[Shape], space: PlanSpace) -> list[str]:
    """The names with a choice that some shapes have. Raises `PlanError` where there are too many."""
    names = [name for name in space.names if any(name == each for shape in shapes for each, _ in shape)]
    if len(names) > MOST_NAMES:
        raise errors.too_many_names(names, MOST_NAMES)
    return names


def _table(
    names: tuple[str, ...], sides: tuple[Side, ...], bounding: int, price: Callable[[Sequence[Side]], Float]
) -> Table:
    few = prod(len(side.chosen) for side in sides) <= MOST_ENTRIES
    return Table(names, sides, price(sides) if few else None, bounding, price)


def legal_tables(space: PlanSpace, stored: str | None, bounding: int, other: int) -> list[Table]:
    """For each name that cannot have every combination of the mesh axes it can have: which it can, infinite or 0 in the
    bounding rows, and 0 in so many others."""
    options = {name: masks for name, masks in space.options.items()}
    if stored is not None:
        options[EXTRA] = np.array([choice.mask for choice in space.storage_choices if choice.name == stored])
    found: list[Table] = []
    for name, masks in options.items():
        both = [
            np.array([0, 1]) if (masks >> axis & 1).any() else np.array([0]) for axis in range(len(space.mesh.axes))
        ]
        sides = tuple(Side(1, sets, np.arange(len(sets)), sets) for sets in both)
        mask = _mask(sides, 0)
        values = np.zeros((bounding + other, *np.shape(mask)))
        values[:bounding, ~np.isin(mask, masks)] = np.inf
        if np.isinf(values).any():
            found.append(Table((name,), sides, values, bounding, lambda _, values=values: values))
    return found


def merged(tables: Iterable[Table]) -> list[Table]:
    """Tables with the same classes added up, and every one added to one with more of them where that tells its classes
    apart: fewer tables bound more tightly."""
    total: dict[Any, Table] = {}
    waiting: list[Table] = []
    for table in tables:
        if table.values is None:
            waiting.append(table)
            continue
        key = (table.names, *((side.sets.tobytes(), side.classes.tobytes()) for side in table.sides))
        if key in total:
            values_of(total[key])[...] += table.values
        else:
            total[key] = replace(table, values=table.values.copy())
    kept: list[Table] = []
    rest = sorted(total.values(), key=lambda table: (values_of(table)[0].size, table.names))
    while rest:
        table = rest.pop(0)
        wider = ((wide, _refined(wide, table)) for wide in rest)
        wide, places = next(((wide, places) for wide, places in wider if places is not None), (None, None))
        if wide is None or places is None:
            kept.append(table)
        else:
            values_of(wide)[...] += values_of(table)[(slice(None), *np.ix_(*places))]
    return [*reversed(kept), *waiting]


def within(sets: IntArray, names: Sequence[str], some: Sequence[str]) -> IntArray:
    """Sets, as bits over `names`, as bits over `some` of these."""
    found = np.zeros_like(sets)
    for i, name in enumerate(some):
        found |= (sets >> names.index(name) & 1) << i
    return found


def _refined(wide: Table, table: Table) -> list[IntArray] | None:
    """For each mesh axis, the class of `table` that each class of `wide` lies in; None where one does not."""
    if not set(table.names) <= set(wide.names):
        return None
    places: list[IntArray] = []
    for mine, other in zip(wide.sides, table.sides, strict=True):
        of_set = np.full(1 << len(table.names), -1)
        of_set[other.sets] = other.classes
        found = of_set[within(mine.sets, wide.names, table.names)]
        place = np.full(len(mine.chosen), -1)
        place[mine.classes] = found
        if (found < 0).any() or (place[mine.classes] != found).any():
            return None
        places.append(place)
    return places


def values_of(table: Table) -> Float:
    """The values of a table that does not wait."""
    assert table.values is not None
    return table.values


def _able(space: PlanSpace, names: tuple[str, ...], extra: str | None, axis: int) -> tuple[int, int]:
    """The names that can wish for a mesh axis, and those that cannot but do so, as bits."""
    stored = [choice.mask for choice in space.storage_choices if choice.name == extra]
    able = bound = 0
    for i, name in enumerate(names):
        wishes = (np.array(stored) if name == EXTRA else space.options[name]) >> axis & 1
        able |= int(wishes.any()) << i
        bound |= int(name != EXTRA and wishes.all()) << i
    return able, bound


def _side(asked: Asked, space: PlanSpace, names: tuple[str, ...], extra: str | None, able: int, bound: int) -> Side:
    """All sets of the names that may have a mesh axis, and their classes."""
    sets = np.arange(1 << len(names))
    sets = sets[(sets & ~able == 0) & (sets & bound == bound)]
    wishes = {name: (sets >> i & 1).astype(bool) for i, name in enumerate(names)}
    rows = {wishes[name].tobytes(): wishes[name] for name in asked.lent if name in wishes}
    for shape, role in asked.shapes:
        for row in _candidates(dict(shape), role, asked.seen, space, wishes, extra):
            rows.setdefault(row.tobytes(), row)
    if not rows:
        return Side(len(names), sets, np.zeros(len(sets), dtype=np.int64), sets[:1])
    packed = np.packbits(np.stack(list(rows.values())), axis=0).T
    _, first, classes = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    return Side(len(names), sets, classes.reshape(-1), sets[first])


def _candidates(
    sizes: Sizes,
    role: Role,
    seen: frozenset[str] | None,
    space: PlanSpace,
    wishes: Mapping[str, npt.NDArray[np.bool_]],
    extra: str | None,
) -> Iterator[npt.NDArray[np.bool_]]:
    """For each name that may get a mesh axis in a shape, whether it wishes for it and none before it is sure to have
    it. One is sure to have it where the shape has room for each of its options; whether any other gets it depends on
    its other mesh axes too, and where all of these agree the layout does."""
    there = in_order(sizes, space.order, space.order_where)
    sure = {name: _has_room(space, name, sizes[name]) for name in there}
    free = np.ones_like(next(iter(wishes.values()))) if wishes else np.ones(1, bool)
    matter = seen is None or not all(sure.values())
    for name in there:
        if name in wishes:
            if matter or seen is None or name in seen:
                yield wishes[name] & free
            if sure[name]:
                free = free & ~wishes[name]
    if role == "storage" and extra in sizes and EXTRA in wishes and (matter or seen is None or extra in seen):
        yield wishes[EXTRA] & free


def _has_room(space: PlanSpace, name: str, size: int) -> bool:
    options = space.options.get(name)
    return options is None or bool((space.mesh.fitting(size)[options] == options).all())


def _rules(
    space: PlanSpace, names: tuple[str, ...], extra: str | None, sides: Sequence[Side]
) -> tuple[dict[str, Mask], dict[str, Mask]]:
    """Compute and storage axes of the names over the grid of classes."""
    compute = {name: _mask(sides, i) for i, name in enumerate(names)}
    return compute, ({extra: compute.pop(EXTRA)} if extra is not None else {})


def _mask(sides: Sequence[Side], bit: int) -> IntArray:
    """The mesh axes that a name wishes for, over the grid of classes."""
    total: Any = np.zeros((1,) * len(sides), dtype=np.int64)
    for axis, side in enumerate(sides):
        shape = [1] * len(sides)
        shape[axis] = -1
        total = total | ((side.chosen >> bit & 1) << axis).reshape(shape)
    return total


def _legal(space: PlanSpace, compute: Mapping[str, Mask], added: Mapping[str, Mask]) -> npt.NDArray[np.bool_]:
    found: Any = np.True_
    for name, mask in compute.items():
        found = found & _among(space.options[name], space)[mask]
    for name, mask in added.items():
        options = np.array([choice.mask for choice in space.storage_choices if choice.name == name])
        found = found & _among(options, space, 0)[mask]
    return np.asarray(found)


def _among(options: IntArray, space: PlanSpace, *others: int) -> npt.NDArray[np.bool_]:
    """[mask] whether it is one of those."""
    found = np.zeros(space.mesh.masks, bool)
    found[[*options, *others]] = True
    return found
