"""The one union-find: classes of things that are the same, by number, and over any keys."""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class UnionFind:
    """Classes of numbers 0, 1, 2, … The oldest member represents its class, so that the result does not depend on the
    order of arguments. Paths are halved on the way (Tarjan and van Leeuwen, 1984)."""

    def __init__(self) -> None:
        self._parent: list[int] = []

    def add(self) -> int:
        """A new number, in a class of its own."""
        number = len(self._parent)
        self._parent.append(number)
        return number

    def find(self, number: int) -> int:
        """The representative of a class."""
        parents = self._parent
        while (parent := parents[number]) != number:
            grandparent = parents[parent]
            parents[number] = grandparent
            number = grandparent
        return number

    def roots(self) -> list[int]:
        """The representative of every class, in the order in which they were made."""
        parents = self._parent
        for number, parent in enumerate(parents):
            parents[number] = parents[parent]  # the parent is the older one, so its own parent is its root by now
        return parents

    def join(self, first: int, second: int) -> tuple[int, int]:
        """Makes one class of two, each given by its representative: (that of both, the one that is none any more)."""
        first, second = min(first, second), max(first, second)
        self._parent[second] = first
        return first, second


class Classes(Generic[K]):
    """Classes of keys. A key that was never mentioned is a class of its own."""

    def __init__(self) -> None:
        self._numbers: dict[K, int] = {}
        self._keys: list[K] = []
        self._same = UnionFind()

    def __getitem__(self, key: K) -> K:
        """The first mentioned key of a class."""
        return self._keys[self._same.find(self._number(key))]

    def union(self, first: K, second: K) -> None:
        self._same.join(self._same.find(self._number(first)), self._same.find(self._number(second)))

    def _number(self, key: K) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._same.add()
            self._keys.append(key)
        return number
