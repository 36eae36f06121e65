"""Groups in one, where one of them decides what the others depend on: fewer tables bound more tightly.

Several roots and several spaces have the same groups, so that each bundle is made once for all of them.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from passes.planner.groups import Group
from passes.sharding.mesh import IntArray

_LARGE = 1 << 17
"""Classes of a group in which others are nested."""
_Within = tuple[IntArray, ...] | None
"""By mesh axis, the class in a group of each class of another one; None where one does not decide it."""


class Bundles:
    """Attributes:
    made: by the group and those that are nested in it.
    within: of a group and another one, which has all of its names.
    """

    def __init__(self) -> None:
        self.made: dict[tuple[Group, ...], Group] = {}
        self.within: dict[tuple[Group, Group], _Within] = {}

    def of(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with those that depend on no other wishes than another one does nested in it: the smallest there
        is, and none that is large, so that little is priced for much else."""
        by_size = sorted(groups, key=lambda group: group.grid)
        found: list[Group] = []
        inside: dict[int, list[tuple[Group, tuple[IntArray, ...]]]] = {}
        for i, group in enumerate(by_size):
            if nested := inside.get(i):
                group = self._with(group, nested)
            for j in range(i + 1, len(by_size)):
                other = by_size[j]
                if other.grid > max(_LARGE, 2 * group.grid):
                    found.append(group)
                    break
                if group.mask & ~other.mask or (other.at is None) != (group.at is None):
                    continue
                if (classes := self._classes(group, other)) is not None:
                    inside.setdefault(j, []).append((group, classes))
                    break
            else:
                found.append(group)
        return found

    def _with(self, group: Group, nested: Sequence[tuple[Group, tuple[IntArray, ...]]]) -> Group:
        key = (group, *(each for each, _ in nested))
        if key not in self.made:
            at = (
                None
                if group.at is None
                else np.concatenate([group.at, *(each.at for each, _ in nested if each.at is not None)])
            )
            whole = ((group, ()), *nested)
            weight, spread = (sum(getattr(each, of) for each, _ in whole) for of in ("weight", "spread"))
            self.made[key] = replace(group, nested=whole, at=at, weight=weight, spread=spread, priced=[])
        return self.made[key]

    def _classes(self, group: Group, other: Group) -> _Within:
        if (group, other) not in self.within:
            self.within[group, other] = _classes_within(group, other)
        return self.within[group, other]


def _classes_within(group: Group, other: Group) -> _Within:
    places = [other.names.index(name) for name in group.names]
    found: dict[tuple[int, int], IntArray] = {}
    sides = list(zip(group.sides, other.sides, strict=True))
    for mine, its in sides:
        # Mesh axes that the same names can have share their sides.
        if (id(mine), id(its)) in found:
            continue
        if len(mine.chosen) > len(its.chosen):
            return None
        sets = np.flatnonzero(its.classes >= 0)
        own = np.zeros_like(sets)
        for i, place in enumerate(places):
            own |= (sets >> place & 1) << i
        theirs, of_set = its.classes[sets], mine.classes[own]
        of_class = np.zeros(len(its.chosen), np.int64)
        of_class[theirs] = of_set
        if (of_class[theirs] != of_set).any() or (of_class < 0).any():
            return None
        found[id(mine), id(its)] = of_class
    return tuple(found[id(mine), id(its)] for mine, its in sides)
