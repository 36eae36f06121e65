"""Unification of dimensions: which dims of a program are the same dim, and what it is called.

Every dim of every value belongs to a class. Rules merge classes ("the two operands of an `add` have the same dims"),
arguments and marks give classes names. Two classes with different names are never merged: both names stay visible in
the graph, where `passes.check_axes` finds them meeting. Dims of different sizes are never merged either, which leaves
broadcasting from size 1, slicing and padding without special cases.

When all is merged, `derive_names` names what nothing else did: a dim that was cut is called like the whole, merging
`batch` and `position` gives `batch*position`, and splitting `inner` in two gives `inner/0` and `inner/1`. Such names
come last and so meet no other: they never make an axis error.
"""

from collections.abc import Sequence
from functools import partial

DimClass = int


class Unifier:
    """Union-find over dim classes, each with a size and at most one name."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._size: list[int] = []
        self._name: list[str | None] = []
        self._products: list[tuple[DimClass, tuple[DimClass, ...]]] = []
        self._resized: list[tuple[DimClass, DimClass]] = []
        # Products by the class of their whole, and by that of their first part; lists move along when classes merge.
        self._by_whole: dict[DimClass, list[int]] = {}
        self._by_first: dict[DimClass, list[int]] = {}

    def fresh(self, size: int, name: str | None = None) -> DimClass:
        """A new class of its own."""
        dim = len(self._parent)
        self._parent.append(dim)
        self._size.append(size)
        self._name.append(name)
        return dim

    def resized(self, dim: DimClass, size: int) -> DimClass:
        """A new class for what cutting or padding `dim` to `size` gives: it keeps the name, whenever that comes."""
        new = self.fresh(size, self._name[self.find(dim)])
        self._resized.append((dim, new))
        return new

    def find(self, dim: DimClass) -> DimClass:
        """The representative of a class."""
        parents = self._parent
        while (parent := parents[dim]) != dim:
            grandparent = parents[parent]
            parents[dim] = grandparent
            dim = grandparent
        return dim

    def roots(self) -> list[DimClass]:
        """The representative of every class, in the order in which they were made."""
        parents = self._parent
        for dim, parent in enumerate(parents):
            parents[dim] = parents[parent]  # the parent is the older one, so its own parent is its root by now
        return parents

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
        for index in (self._by_whole, self._by_first):
            if second in index:
                index.setdefault(first, []).extend(index.pop(second))
        return True

    def call(self, dim: DimClass, name: str | None) -> bool:
        """Gives a class its name. False, and nothing changed, where it has another."""
        root = self.find(dim)
        known = self._name[root]
        if known is None:
            self._name[root] = name
        return known is None or name is None or known == name

    def same_all(self, first: Sequence[DimClass], second: Sequence[DimClass]) -> None:
        """Merges dim by dim."""
        parents = self._parent
        for left, right in zip(first, second, strict=True):
            if parents[left] != parents[right]:
                self.same(left, right)

    def merge_of(self, parts: Sequence[DimClass]) -> DimClass:
        """The class of the dim that merging `parts`, in this order, gives: the same one each time."""
        wanted = [self.find(part) for part in parts]
        for number in self._by_first.get(wanted[0], ()):
            whole, known = self._products[number]
            if [self.find(part) for part in known] == wanted:
                return whole
        size = 1
        for part in parts:
            size *= self._size[part]
        whole = self.fresh(size)
        self._add_product(whole, tuple(parts))
        return whole

    def split_of(self, whole: DimClass, sizes: Sequence[int]) -> list[DimClass]:
        """The classes that splitting `whole` into `sizes` gives; splitting what was merged gives back its parts."""
        for number in self._by_whole.get(self.find(whole), ()):
            parts = self._products[number][1]
            if [self._size[part] for part in parts] == list(sizes):
                return list(parts)
        fresh = [self.fresh(size) for size in sizes]
        self._add_product(whole, tuple(fresh))
        return fresh

    def derive_names(self) -> None:
        """Names classes without a name after those that they were cut from, merged of, or split from. To be called
        once, when all classes are merged."""
        steps = [partial(self._pass_on, *pair) for pair in self._resized]
        steps += [partial(self._derive, *product) for product in self._products]
        # Names go down the program in a pass in its order, and up in the next one.
        while any([step() for step in steps]):
            steps.reverse()

    def _add_product(self, whole: DimClass, parts: tuple[DimClass, ...]) -> None:
        number = len(self._products)
        self._products.append((whole, parts))
        self._by_whole.setdefault(self.find(whole), []).append(number)
        self._by_first.setdefault(self.find(parts[0]), []).append(number)

    def _give(self, dim: DimClass, name: str | None) -> bool:
        """Whether the class had no name and has one now."""
        return name is not None and self.name_of(dim) is None and self.call(dim, name)

    def _pass_on(self, one: DimClass, other: DimClass) -> bool:
        return self._give(other, self.name_of(one)) or self._give(one, self.name_of(other))

    def _derive(self, whole: DimClass, parts: tuple[DimClass, ...]) -> bool:
        names = [self.name_of(part) for part in parts if self._size[part] != 1]
        known = [name for name in names if name is not None]
        if len(known) == len(names) and known:
            return self._give(whole, "*".join(known))
        name = self.name_of(whole)
        given = [self._give(part, f"{name}/{i}") for i, part in enumerate(parts) if name and self._size[part] != 1]
        return any(given)
