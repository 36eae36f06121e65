"""Where a search begins: a part of a space in which storage axes go to one name, with all that is added up there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import fsum
from typing import Any

import numpy as np

from passes.hardware.chip import Chip
from passes.planner.branch import BOUNDS
from passes.planner.bundles import Bundles
from passes.planner.groups import Function, Group, Known, Seats, grouped, legal_group, together_groups
from passes.planner.space import PlanSpace
from passes.planner.tables import EXTRA, Asked, able_names
from passes.planner.terms import Term
from passes.sharding.mesh import IntArray
from passes.sharding.rules import ShardingRules

_HEAVY = 1e-2
"""Of the heaviest group, how much another one weighs that is taken in before the small ones."""


@dataclass(frozen=True, eq=False)
class Root:
    """A part of a space, where storage axes go to one name, or to some.

    Attributes:
        place: which of several spaces it is of.
        names: all that may be decided of, `EXTRA` last.
        groups: what is added up.
    """

    space: PlanSpace
    place: int
    stored: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[Group, ...]

    @cached_property
    def able(self) -> list[tuple[int, int]]:
        """For each mesh axis, as bits, the names that can wish for it, and those that cannot but do so."""
        names = self.names if self.stored else self.names[:-1]
        return [able_names(self.space, names, self.stored, axis) for axis in range(len(self.space.mesh.axes))]

    def seconds(self, sets: Sequence[IntArray], network: int = 0) -> float:
        """Those of one plan on one of the networks, of which the set of names that wish for each mesh axis is given
        alone."""
        parts = [group.of(sets).reshape(BOUNDS, -1)[:, network] for group in self.groups if group.at is None]
        return max(fsum(part[row] for part in parts) for row in (0, 1))


@dataclass(frozen=True, eq=False)
class Shared:
    """What is added up in a space.

    Attributes:
        apart: what no storage axes have a part in.
        stored: what they have a part in, as it is where they go to another name.
        functions: all of it, one by one.
        networks: how many each of them is priced on.
        seats: of the space that it is priced in.
    """

    space: PlanSpace
    place: int
    names: tuple[str, ...]
    apart: tuple[Group, ...]
    stored: tuple[Group, ...]
    functions: tuple[Function, ...]
    known: Known
    bundles: Bundles
    networks: int
    seats: Seats

    @classmethod
    def of(
        cls,
        space: PlanSpace,
        place: int,
        priced: PlanSpace,
        names: tuple[str, ...],
        functions: Sequence[Function],
        known: Known,
        bundles: Bundles,
        networks: int = 1,
    ) -> "Shared":
        """Of functions, with the groups that another space has.

        Args:
            priced: the space with options that others have besides: what is priced in it serves them all.
        """
        storable = {name for choice in space.storage_choices for name in choice.names}
        seats = Seats(priced)
        plain = grouped(functions, names, (), known, seats)
        each_legal = (legal_group(space, name, (), names, networks) for name in space.names)
        legal = [group for group in each_legal if group is not None] + together_groups(space, names, networks)
        stored = tuple(group for group in plain if group.asked[0].stored & storable)
        apart = (*legal, *(group for group in plain if not group.asked[0].stored & storable))
        return cls(
            space, place, names, tuple(bundles.of(apart)), stored, tuple(functions), known, bundles, networks, seats
        )

    @property
    def before(self) -> Root:
        """What every root has."""
        return Root(self.space, self.place, (), self.names, self.apart)

    def root(self, stored: tuple[str, ...]) -> tuple[Root, tuple[Group, ...]]:
        """The root of stored names, and the groups that are not in all of them."""
        own: list[Group] = []
        some = frozenset(stored)
        if stored:
            functions = [each for each in self.functions if some & each.asked.stored]
            own = grouped(functions, self.names, stored, self.known, self.seats)
            allowed = legal_group(self.space, EXTRA, stored, self.names, self.networks)
            own += [allowed] if allowed is not None else []
        groups = self.bundles.of([*(group for group in self.stored if not some & group.asked[0].stored), *own])
        return Root(self.space, self.place, stored, self.names, (*self.apart, *groups)), tuple(groups)


def in_turn(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Groups as they are taken in: what adds most to every plan first, then what is small."""
    heavy = heavy_weight(groups)

    def last(group: Group) -> tuple[Any, ...]:
        weight = group.weight if group.weight > heavy else 0.0
        return (-weight, group.grid > 5000, -group.spread, group.grid, group.number)

    return tuple(sorted(groups, key=last))


def heavy_weight(groups: Sequence[Group]) -> float:
    """The weight above which a group comes before small ones."""
    return _HEAVY * max((group.weight for group in groups), default=0.0)


def with_mean(asked: Asked, share: float, networks: int = 1) -> Asked:
    """A function that gives what is computed and what is sent, with the mean of the two in which the first has a share:
    where the one can be traded for the other, that has no bound as tight of its own. It takes no memory.

    Args:
        networks: those of several that it is priced on at once, each of which has its rows.
    """

    def rows(rules: ShardingRules) -> list[Any]:
        computed, sent = asked.rows(rules)
        if networks > 1:
            computed, sent = (each + np.zeros((networks, 1)) for each in (computed, sent))
        return [computed, sent, share * computed + (1.0 - share) * sent, 0.0 * computed]

    return replace(asked, rows=rows)


def asked_of(term: Term, space: PlanSpace, chip: Chip) -> Asked:
    """A term as a function of rows: what it adds to each bound.

    A step takes as long as computing and what of the communication cannot hide, or as all of the communication,
    whichever is longer (`passes.planner.cost`). Each is a sum over the terms.
    """
    overlap = chip.overlap

    def rows(rules: ShardingRules) -> list[Any]:
        cost = term.price(rules)
        sent = cost.activations + cost.hidden
        computed = cost.compute + sent - overlap.activations * cost.activations - overlap.state * cost.hidden
        return [term.times * computed, term.times * sent]

    return Asked.of(rows, space, term.seen, term.lent)
