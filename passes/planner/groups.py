"""What the search adds up, in groups: functions of sharding rules that depend on the same wishes in the same way.

Two functions whose shapes have the same names in the same order differ in what they give, not in what they depend on:
they are priced together, over the same classes of wishes (`passes.planner.tables`), and each layout is made once.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from passes.planner.space import PlanSpace
from passes.planner.tables import (
    EXTRA,
    Asked,
    Float,
    Shape,
    Side,
    able_names,
    any_go_together,
    has_room,
    legal,
    names_of,
    rules_of,
    side_of,
)
from passes.sharding.mesh import IntArray
from passes.sharding.rules import Layout, Role, ShardingRules, Sizes, in_order

BOUNDS = 4
"""What is computed, what is sent, and a mean of the two: a step takes at least as long as any of them; and the share of
memory that is taken at the fullest moment."""
FULL = 1 + 1e-9
"""The share that no plan can take, with room for rounding."""
MOST_ENTRIES = 1 << 18
"""Of one table: what has more waits until enough is decided."""


def worst(rows: Float) -> Float:
    """[bound and network, …] → the most seconds that any bound says, of the network where that is least; infinite where
    memory has no room."""
    found: Float = by_network(rows).min(axis=0)
    return found


def by_network(rows: Float) -> Float:
    """[bound and network, …] → [network, …] the most seconds that any bound says; infinite where memory has no room."""
    each = rows.reshape(BOUNDS, -1, *rows.shape[1:])
    found: Float = np.where(each[-1] > FULL, np.inf, each[:-1].max(axis=0))
    return found


class _Remembering(ShardingRules):
    """Sharding rules that make each layout once."""

    made: dict[Any, Layout]

    def layout(self, sizes: Sizes, role: Role, blocked: Iterable[str] = ()) -> Layout:
        key = (tuple(sizes.items()), role, tuple(blocked))
        if key not in self.made:
            self.made[key] = super().layout(sizes, role, blocked)
        return self.made[key]


def remembering(rules: ShardingRules) -> ShardingRules:
    """The same rules, for many that ask for the same layouts."""
    found = _Remembering(rules.mesh, rules.order, rules.compute, rules.extra, rules.order_where)
    object.__setattr__(found, "made", {})
    return found


@dataclass(frozen=True, eq=False)
class Group:
    """Functions that depend on the same wishes in the same way.

    Attributes:
        number: where it stands among all that are added up.
        names: whose wishes matter; `EXTRA` stands for storage.
        bits: where each of them is among all names of the search.
        sides: for each mesh axis the sets of `names` and their classes.
        asked: the functions.
        at: rows of the whole that the values are; None where those of all functions are added up.
        weight: about what they add up to at least.
        nested: of several groups in one, these, that with the same wishes first; and for each class of it the class of
            each, by mesh axis.
    """

    number: int
    space: PlanSpace
    extra: tuple[str, ...]
    names: tuple[str, ...]
    bits: tuple[int, ...]
    sides: tuple[Side, ...]
    asked: tuple[Asked, ...]
    at: IntArray | None
    weight: float = 0.0
    spread: float = 0.0
    nested: "tuple[tuple[Group, tuple[IntArray, ...]], ...]" = ()
    priced: "list[tuple[tuple[IntArray, ...], Float]]" = field(default_factory=list[Any])

    def within(self, sets: IntArray) -> IntArray:
        """Sets of all names as sets of those of the group."""
        found = np.zeros_like(sets)
        for i, bit in enumerate(self.bits):
            found |= (sets >> bit & 1) << i
        return found

    def values(self, classes: Sequence[IntArray]) -> Float:
        """[row, class of axis 0, class of axis 1, …] for some classes of each mesh axis, in ascending order."""
        for known, values in self.priced:
            places = [np.searchsorted(mine, asked) for mine, asked in zip(known, classes, strict=True)]
            there = all(
                place[-1] < len(mine) and (mine[place] == asked).all()
                for mine, asked, place in zip(known, classes, places, strict=True)
            )
            if there:
                for axis, (mine, place) in enumerate(zip(known, places, strict=True)):
                    if len(place) < len(mine):
                        values = np.take(values, place, axis=axis + 1)
                return values
        values = self._price(classes)
        self.priced.append((tuple(classes), values))
        return values

    def of(self, sets: Sequence[IntArray]) -> Float:
        """[row] the values of one plan, whose set for each mesh axis is given alone."""
        classes = [side.classes[self.within(each)] for side, each in zip(self.sides, sets, strict=True)]
        return self.values(classes).reshape(-1)

    @property
    def all_values(self) -> Float | None:
        """The values for all classes; None where there are too many."""
        counts = [len(side.chosen) for side in self.sides]
        return self.values([np.arange(count) for count in counts]) if prod(counts) <= MOST_ENTRIES else None

    @cached_property
    def grid(self) -> int:
        """How many classes there are over all mesh axes together."""
        return prod(len(side.chosen) for side in self.sides)

    @cached_property
    def mask(self) -> int:
        """Its names, as bits among all names of the search."""
        return sum(1 << bit for bit in self.bits)

    def _price(self, classes: Sequence[IntArray]) -> Float:
        if not self.nested:
            return self._own_prices(classes)
        values = self.nested[0][0].values(classes)
        for group, its in self.nested[1:]:
            asked = [np.unique(mine[each]) for mine, each in zip(its, classes, strict=True)]
            more = group.values(asked)
            for axis, (mine, each, there) in enumerate(zip(its, classes, asked, strict=True)):
                more = np.take(more, np.searchsorted(there, mine[each]), axis=axis + 1)
            values = values + more if self.at is None else np.concatenate([values, more])
        return values

    def _own_prices(self, classes: Sequence[IntArray]) -> Float:
        chosen = [side.chosen[each] for side, each in zip(self.sides, classes, strict=True)]
        shape = tuple(len(each) for each in chosen)
        compute, added = rules_of(self.names, self.extra, chosen)
        allowed = np.flatnonzero(np.broadcast_to(legal(self.space, compute, added), shape))
        compute, added = (
            {name: np.broadcast_to(np.asarray(mask), shape).reshape(-1)[allowed] for name, mask in masks.items()}
            for masks in (compute, added)
        )
        space = self.space
        rules = remembering(ShardingRules(space.mesh, space.order, compute, added, space.order_where))
        rows = list(self.asked[0].rows(rules))
        for asked in self.asked[1:]:
            more = asked.rows(rules)
            rows = [mine + its for mine, its in zip(rows, more, strict=True)] if self.at is None else [*rows, *more]
        rows = [one for row in rows for one in np.atleast_2d(row)]
        values = np.full((len(rows), prod(shape)), np.inf)
        for row, of_row in zip(rows, values, strict=True):
            of_row[allowed] = row
        return values.reshape(len(rows), *shape)


@dataclass(frozen=True, eq=False)
class Function:
    """A function, the rows of the whole that it gives, None where it is added up with others, about what it is at
    least and at most."""

    asked: Asked
    at: tuple[int, ...] | None = None
    weight: float = 0.0
    spread: float = 0.0


Known = dict[Hashable, Group]
"""Groups that several spaces have, where the names of none of their shapes come in another order."""


def grouped(
    functions: Sequence[Function],
    names: Sequence[str],
    extra: tuple[str, ...],
    known: Known,
    seats: "Seats",
) -> list[Group]:
    """The groups of some functions where storage axes go to the name `extra`; those that storage axes of other names
    have a part in apart from those that they have none in.

    Args:
        known: groups that other spaces have; those that are made are added.
        seats: of the space, for many that ask.

    Raises:
        PlanError: a function depends on too many names.
    """
    space, places = seats.space, _Places(seats.space, extra, seats)
    together: dict[Hashable, list[Function]] = {}
    first: dict[Hashable, int] = {}
    for i, each in enumerate(functions):
        key = (each.at is None, places.signature(each.asked))
        together.setdefault(key, []).append(each)
        first.setdefault(key, i)
    found: list[Group] = []
    for key, several in together.items():
        number = first[key]
        own = places.options(several[0].asked)
        whole = (extra, key, own, number, tuple((id(each.asked), each.at) for each in several))
        if whole not in known:
            known[whole] = _group(space, several, names, extra, number)
        found.append(known[whole])
    return found


def group_of(asked: Asked, space: PlanSpace, extra: tuple[str, ...]) -> Group:
    """A function by itself, where storage axes go to the name `extra`. Raises `PlanError` where it depends on too many
    names."""
    return _group(space, [Function(asked)], (*space.names, EXTRA), extra, 0)


def _group(
    space: PlanSpace, several: Sequence[Function], names: Sequence[str], extra: tuple[str, ...], number: int
) -> Group:
    first, axes = several[0].asked, range(len(space.mesh.axes))
    stored = extra if first.stored & {*extra} else ()
    found = names_of(first.shapes, space)
    wishing = (*found, EXTRA) if stored else tuple(found)
    able = [able_names(space, wishing, stored, axis) for axis in axes]
    made = {both: side_of(first, space, wishing, stored, *both) for both in dict.fromkeys(able)}
    rows = [row for each in several for row in each.at or ()]
    return Group(
        number,
        space,
        stored,
        wishing,
        tuple(names.index(name) for name in wishing),
        tuple(made[both] for both in able),
        tuple(each.asked for each in several),
        None if several[0].at is None else np.array(rows),
        sum(each.weight for each in several),
        sum(each.spread for each in several),
    )


class Seats:
    """Of the names of shapes in a space, in their order, which has room for all of its mesh axes; each found once."""

    def __init__(self, space: PlanSpace) -> None:
        self.space = space
        self.known: dict[Shape, tuple[tuple[str, bool], ...]] = {}

    def of(self, shape: Shape) -> tuple[tuple[str, bool], ...]:
        if shape not in self.known:
            sizes, space = dict(shape), self.space
            there = [name for name in in_order(sizes, space.order, space.order_where) if name in space.options]
            self.known[shape] = tuple([(name, has_room(space, name, sizes[name])) for name in there])
        return self.known[shape]


class _Places:
    """What of a shape decides who gets a mesh axis in it."""

    def __init__(self, space: PlanSpace, extra: tuple[str, ...], seats: Seats) -> None:
        self.space = space
        self.extra = extra
        self.seats = seats
        self.storable = frozenset(name for choice in space.storage_choices for name in choice.names)

    def signature(self, asked: Asked) -> Hashable:
        """What decides on which wishes a function depends, and how."""
        shapes = frozenset(self.of(*each) for each in asked.shapes)
        return shapes, asked.stored & self.storable, asked.seen, frozenset(asked.lent)

    def options(self, asked: Asked) -> Hashable:
        """The mesh axes that its names can have."""
        stored = self.space.storage_choices if asked.stored & {*self.extra} else ()
        names = names_of(asked.shapes, self.space)
        return tuple(self.space.options[name].tobytes() for name in names), stored

    def of(self, shape: Shape, role: Role) -> Hashable:
        """The names of a shape in their order, whether each has room for all of its mesh axes, and whether it is of
        those that are stored."""
        stored = tuple([name for name, _ in shape if name in self.extra]) if role == "storage" else ()
        return self.seats.of(shape), len(stored) if len(self.extra) == 1 else frozenset(stored)


def legal_group(
    space: PlanSpace, name: str, stored: tuple[str, ...], names: Sequence[str], networks: int = 1
) -> Group | None:
    """What a name costs besides: nothing, and infinitely much where it cannot have all of the mesh axes it wishes for;
    None where it can have any of those that it can have one of. `stored` are the names that `EXTRA` stands for."""
    options = _storing(space, stored) if stored else space.options[name]
    shape = tuple((each, 1) for each in stored or (name,))

    def rows(rules: ShardingRules) -> list[Any]:
        mask = rules.extra[stored[0]] if stored else rules.compute[name]
        return [np.where(np.isin(mask, options), 0.0, np.inf)] * (BOUNDS * networks)

    asked = Asked(rows, ((shape, "storage" if stored else "compute"),))
    if not stored and any_go_together(options):
        return None
    able = [able_names(space, (name,), stored, axis) for axis in range(len(space.mesh.axes))]
    sides = tuple(_both(*each) for each in able)
    return Group(-1, space, stored, (name,), (names.index(name),), sides, (asked,), None)


def together_groups(space: PlanSpace, names: Sequence[str], networks: int = 1) -> list[Group]:
    """What pairs of names cost that have to be together on some mesh axis: nothing, and infinitely much where they are
    on none."""
    found: list[Group] = []
    for pair in space.together:

        def rows(rules: ShardingRules, pair: tuple[str, str] = pair) -> list[Any]:
            one, other = (np.asarray(rules.compute[name]) for name in pair)
            return [np.where(one & other != 0, 0.0, np.inf)] * (BOUNDS * networks)

        asked = Asked(rows, ((tuple((name, 1) for name in pair), "compute"),), lent=pair)
        found.append(_group(space, [Function(asked)], names, (), -1))
    return found


def _storing(space: PlanSpace, names: tuple[str, ...]) -> IntArray:
    return np.array([choice.mask for choice in space.storage_choices if choice.names == names])


def _both(able: int, bound: int) -> Side:
    sets = [each for each in (0, 1) if each & ~able == 0 and each & bound == bound]
    classes = np.full(2, -1)
    classes[sets] = np.arange(len(sets))
    return Side(classes, np.array(sets))
