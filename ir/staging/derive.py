"""Names for the classes that have none when all is merged: after what they are made of.

A further occurrence of `position` is `position'`, a part of `gates` is `gates[0:14]`, `prefix` with `position` behind
it is `prefix+position`, `batch` and `position` merged are `batch*position`, and `inner` split in two is `inner/0` and
`inner/1`. What the step made itself (counted, filled, stacked, drawn) and nothing named is called after what made it,
`stack~1`; an argument's dim never is. Such names come last, so they meet no other and never make an axis error.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial

from ir import names
from ir.staging.unify import DimClass, Unifier


def derive_names(unifier: Unifier) -> list[str | None]:
    """The name of each class, by number. To be called once, when all classes are merged."""
    return _Derivation(unifier).result()


class _Derivation:
    """Names as far as they are known, by the representative of a class."""

    def __init__(self, unifier: Unifier) -> None:
        self.unifier = unifier
        self.roots = list(unifier.roots())
        self.known: dict[DimClass, str] = {}
        self.axes: dict[int, str] = {}
        for root in dict.fromkeys(self.roots):
            name = unifier.name_of(root)
            if name is not None:
                self._set(root, name)

    def result(self) -> list[str | None]:
        """Goes over what classes are made of until nothing new is named: down the program in a pass in its order, up in
        the next one."""
        unifier = self.unifier
        steps: list[Callable[[], bool]] = [
            partial(self._occur, root) for root in dict.fromkeys(self.roots) if unifier.primes_of(root)
        ]
        steps += [partial(self._cut, *each) for each in unifier.parts]
        steps += [partial(self._pass_on, *pair) for pair in unifier.resizes]
        steps += [partial(self._join, *each) for each in unifier.joints]
        steps += [partial(self._shuffle, *pair) for pair in unifier.shuffles]
        steps += [partial(self._multiply, *each) for each in unifier.products]
        self._settle(steps)
        # An axis of which only a further occurrence was named is called like that one.
        for root, name in list(self.known.items()):
            self.axes.setdefault(unifier.axis_of(root), names.unprimed(name))
        self._settle([*(partial(self._occur, root) for root in dict.fromkeys(self.roots)), *steps])
        # A whole that nothing names is called like a part of it.
        for whole, _, part in unifier.parts:
            if (name := self._name(part)) is not None:
                self._give(whole, name)
        if self._make():
            self._settle([*(partial(self._occur, root) for root in dict.fromkeys(self.roots)), *steps])
        return [self.known.get(root) for root in self.roots]

    def _make(self) -> bool:
        """Names what the step made and nothing else named, in the order in which it was made."""
        unifier, counts = self.unifier, Counter[str]()
        brought = set(map(unifier.find, unifier.brought))
        for dim, kind in unifier.makings:
            root = unifier.find(dim)
            if root in self.known or root in brought or unifier.size_of(dim) < 2:
                continue
            counts[kind] += 1
            name = names.made(kind, counts[kind])
            self.axes.setdefault(unifier.axis_of(root), name)
            self._give(root, names.primed(name, unifier.primes_of(root)))
        return bool(counts)

    @staticmethod
    def _settle(steps: list[Callable[[], bool]]) -> None:
        while any([step() for step in steps]):
            steps.reverse()

    def _name(self, dim: DimClass) -> str | None:
        return self.known.get(self.unifier.find(dim))

    def _set(self, root: DimClass, name: str) -> None:
        self.known[root] = name
        if not self.unifier.primes_of(root):
            self.axes.setdefault(self.unifier.axis_of(root), name)

    def _give(self, dim: DimClass, name: str | None) -> bool:
        """Whether the class had no name and has one now: with a prime where another beside it is called so."""
        root = self.unifier.find(dim)
        if name is None or root in self.known:
            return False
        taken = {self.known.get(each) for each in self.unifier.neighbours(root)}
        while name in taken:
            name = names.primed(name)
        self._set(root, name)
        return True

    def _occur(self, root: DimClass) -> bool:
        axis = self.axes.get(self.unifier.axis_of(root))
        return axis is not None and self._give(root, names.primed(axis, self.unifier.primes_of(root)))

    def _cut(self, whole: DimClass, extent: names.Extent, cut: DimClass) -> bool:
        name = self._name(whole)
        if name is None:
            return False
        return self._give(cut, name if names.is_derived(name) else names.part(name, extent))

    def _pass_on(self, one: DimClass, other: DimClass) -> bool:
        first, second = self._name(one), self._name(other)
        if first is not None:
            return self._give(other, names.whole(first))
        return second is not None and self._give(one, names.whole(second))

    def _shuffle(self, dim: DimClass, order: DimClass) -> bool:
        return self._give(order, self._name(dim))

    def _join(self, whole: DimClass, parts: tuple[DimClass, ...]) -> bool:
        """What has no name (padding, a class token) takes no part in the name of the rest."""
        known = [name for part in parts if (name := self._name(part)) is not None]
        distinct = list(dict.fromkeys(names.whole(name) for name in known))
        if not distinct:
            return False
        return self._give(whole, distinct[0] if len(distinct) == 1 else names.joined(list(dict.fromkeys(known))))

    def _multiply(self, whole: DimClass, parts: tuple[DimClass, ...]) -> bool:
        size = self.unifier.size_of
        found = [self._name(part) for part in parts if size(part) != 1]
        known = [name for name in found if name is not None]
        if len(known) == len(found) and known:
            return self._give(whole, names.merged(known))
        name = self._name(whole)
        given = [self._give(part, names.split(name, i)) for i, part in enumerate(parts) if name and size(part) != 1]
        return any(given)
