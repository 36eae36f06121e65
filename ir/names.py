"""Unification of dimensions: which dims of a program are the same dim, and what it is called.

Every dim of every value belongs to a class. Rules merge classes ("the two operands of an `add` have the same dims"),
arguments and marks give classes names. Two classes with different names are never merged: both names stay visible in
the graph, where `passes.check_axes` finds them meeting. Dims of different sizes are never merged either, which leaves
broadcasting from size 1, slicing and padding without special cases.
"""

from collections.abc import Sequence

DimClass = int


class Unifier:
    """Union-find over dim classes, each with a size and at most one name."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._size: list[int] = []
        self._name: list[str | None] = []
        self._products: list[tuple[DimClass, tuple[DimClass, ...]]] = []

    def fresh(self, size: int, name: str | None = None) -> DimClass:
        """A new class of its own."""
        self._parent.append(len(self._parent))
        self._size.append(size)
        self._name.append(name)
        return len(self._parent) - 1

    def find(self, dim: DimClass) -> DimClass:
        """The representative of a class."""
        while self._parent[dim] != dim:
            self._parent[dim] = self._parent[self._parent[dim]]
            dim = self._parent[dim]
        return dim

    def name_of(self, dim: DimClass) -> str | None:
        return self._name[self.find(dim)]

    def size_of(self, dim: DimClass) -> int:
        return self._size[dim]

    def same(self, first: DimClass, second: DimClass) -> bool:
        """Merges two classes. False, and nothing merged, where their sizes or their names differ."""
        first, second = self.find(first), self.find(second)
        if first == second:
            return True
        names = self._name[first], self._name[second]
        if self._size[first] != self._size[second] or (None not in names and names[0] != names[1]):
            return False
        # The older class stays the representative, so that the result does not depend on the order of arguments.
        first, second = min(first, second), max(first, second)
        self._parent[second] = first
        self._name[first] = names[0] if names[0] is not None else names[1]
        return True

    def same_all(self, first: Sequence[DimClass], second: Sequence[DimClass]) -> None:
        """Merges dim by dim."""
        for left, right in zip(first, second, strict=True):
            self.same(left, right)

    def merge_of(self, parts: Sequence[DimClass]) -> DimClass:
        """The class of the dim that merging `parts`, in this order, gives: the same one each time."""
        wanted = [self.find(part) for part in parts]
        for whole, known in self._products:
            if [self.find(part) for part in known] == wanted:
                return whole
        size = 1
        for part in parts:
            size *= self._size[part]
        whole = self.fresh(size)
        self._products.append((whole, tuple(parts)))
        return whole

    def split_of(self, whole: DimClass, sizes: Sequence[int]) -> list[DimClass]:
        """The classes that splitting `whole` into `sizes` gives; splitting what was merged gives back its parts."""
        root = self.find(whole)
        for known, parts in self._products:
            if self.find(known) == root and [self._size[part] for part in parts] == list(sizes):
                return list(parts)
        parts = [self.fresh(size) for size in sizes]
        self._products.append((whole, tuple(parts)))
        return parts
