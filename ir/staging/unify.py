"""Unification of dimensions: which dims of a program are the same dim, and what it is called.

Every dim of every value belongs to a class. Rules merge classes ("the two operands of an `add` have the same dims"),
arguments and marks give classes names. Two classes with different names are never merged: both names stay visible in
the graph, where `passes.check_axes` finds them meeting. Dims of different sizes are never merged either, which leaves
broadcasting from size 1, slicing and padding without special cases.

**Occurrences.** The dims of one value are different dims, also where they run over the same axis: the scores of a
self-attention are `[position, position']`. So classes that stand in one value are never merged. Where a rule says that
they are the same, or where both would get one name, they become occurrences of one *axis*: *kin*. Kin may meet (a
rename is put before the meeting, see `ir.staging.align`), and a further occurrence takes any name that it meets.

What was cut, joined, merged or split has no name of its own: it takes the name that it meets, and `ir.staging.derive`
names what is left.
"""

from collections.abc import Iterable, Sequence

from ir.names import Extent, are_apart
from ir.union_find import UnionFind

DimClass = int


class Unifier(UnionFind):
    """Classes of dims. Each has a size, at most one name, and its place among the occurrences of an axis."""

    def __init__(self) -> None:
        super().__init__()
        self._size: list[int] = []
        self._name: list[str | None] = []
        self._axis: list[int] = []
        self._primes: list[int] = []
        self.axes = UnionFind()
        self._axis_of_name: dict[str, int] = {}
        # Which classes stand in one value, by representative, and the values that were looked at.
        self._beside: dict[DimClass, set[DimClass]] = {}
        self._seen: set[tuple[DimClass, ...]] = set()
        self._occurrences: dict[tuple[int, int, int], DimClass] = {}
        # What classes are made of, for `ir.staging.derive`.
        self.products: list[tuple[DimClass, tuple[DimClass, ...]]] = []
        self.parts: list[tuple[DimClass, Extent, DimClass]] = []
        self.joints: list[tuple[DimClass, tuple[DimClass, ...]]] = []
        self.resizes: list[tuple[DimClass, DimClass]] = []
        self.shuffles: list[tuple[DimClass, DimClass]] = []
        self.makings: list[tuple[DimClass, str]] = []
        self.brought: list[DimClass] = []
        # The same by class: products by their whole and by their first part, parts by their whole. Entries move along
        # when classes merge.
        self._by_whole: dict[DimClass, list[int]] = {}
        self._by_first: dict[DimClass, list[int]] = {}
        self._of_product: set[DimClass] = set()
        self._parts_of: dict[DimClass, dict[Extent, DimClass]] = {}
        self._part_is: dict[DimClass, list[int]] = {}
        self._joint_is: dict[DimClass, list[int]] = {}

    # --- classes ------------------------------------------------------------------------------------------------------

    def fresh(self, size: int, name: str | None = None) -> DimClass:
        """A new class of its own."""
        dim = len(self._parent)
        self._parent.append(dim)
        self._size.append(size)
        self._name.append(name)
        self._primes.append(0)
        axis = self._axis_of_name.get(name) if name is not None else None
        if axis is None:
            axis = self.axes.add()
            if name is not None:
                self._axis_of_name[name] = axis
        self._axis.append(axis)
        return dim

    def made(self, size: int, kind: str) -> DimClass:
        """A new class for an axis that the step makes itself, of whichever `kind`: if nothing names it, that does."""
        dim = self.fresh(size)
        self.makings.append((dim, kind))
        return dim

    def argument(self, sizes: Sequence[int], names: Sequence[str | None]) -> tuple[DimClass, ...]:
        """Classes for the dims of an argument. A name that it has twice is an axis that occurs twice."""
        dims: list[DimClass] = []
        for size, name in zip(sizes, names, strict=True):
            count = sum(name is not None and self._axis[d] == self._axis_of_name.get(name) for d in dims)
            dim = self.fresh(size, name)
            if count:
                self._name[dim], self._primes[dim] = None, count
            dims.append(dim)
        self.brought += dims
        return tuple(dims)

    def name_of(self, dim: DimClass) -> str | None:
        """The name that was given to the class."""
        return self._name[self.find(dim)]

    def size_of(self, dim: DimClass) -> int:
        return self._size[dim]

    def axis_of(self, dim: DimClass) -> int:
        """The number of the axis that the class is an occurrence of."""
        return self.axes.find(self._axis[self.find(dim)])

    def primes_of(self, dim: DimClass) -> int:
        """Which occurrence of its axis the class is; 0 for the first."""
        return self._primes[self.find(dim)]

    def same(self, first: DimClass, second: DimClass) -> bool:
        """Merges two classes. False, and nothing merged, where their sizes or their names differ, or where they stand
        in one value: then they are kin from now on."""
        if self._size[first] != self._size[second]:
            return False
        first, second = self.find(first), self.find(second)
        if first == second:
            return True
        names = self._name[first], self._name[second]
        if None not in names and names[0] != names[1]:
            return False
        name = names[0] if names[0] is not None else names[1]
        one, other = self.axis_of(first), self.axis_of(second)
        if one == other and self._primes[first] != self._primes[second]:
            return False
        # A further occurrence keeps its axis whatever it is called.
        kept = second if self._primes[second] and not self._primes[first] else first
        axis, primes = self.axis_of(kept), self._primes[kept]
        if self._clashes(first, second, name, axis, primes):
            self._relate(first, second)
            return False
        if not self._primes[first] and not self._primes[second] and one != other:
            self.axes.join(one, other)
        self._merge(first, second, name, primes, self._axis[kept])
        return True

    def same_all(self, first: Sequence[DimClass], second: Sequence[DimClass]) -> None:
        """Merges dim by dim."""
        parents = self._parent
        for left, right in zip(first, second, strict=True):
            if parents[left] != parents[right]:
                self.same(left, right)

    def kin(self, first: DimClass, second: DimClass) -> bool:
        """Whether two classes are occurrences of one axis."""
        return self._size[first] == self._size[second] and self.axis_of(first) == self.axis_of(second)

    def call(self, dim: DimClass, name: str | None) -> bool:
        """Gives a class its name. False, and nothing changed, where it has another, or where the name is that of an
        occurrence beside it: then it is a further one."""
        root = self.find(dim)
        known = self._name[root]
        if name is None or known is not None:
            return name is None or known == name
        axis = self._axis_of_name.get(name)
        if axis is not None and self.axes.find(axis) == self.axis_of(root) and self._primes[root]:
            return False
        primes = self._primes[root]
        aimed = self.axis_of(root) if primes or axis is None else self.axes.find(axis)
        if self._clashes(root, root, name, aimed, primes):
            if axis is not None and not primes:
                self._become(root, self.axes.find(axis))
            return False
        self._name[root] = name
        if not primes:
            if axis is None:
                self._axis_of_name[name] = self.axis_of(root)
            elif self.axes.find(axis) != self.axis_of(root):
                self.axes.join(self.axes.find(axis), self.axis_of(root))
        return True

    # --- occurrences --------------------------------------------------------------------------------------------------

    def together(self, dims: tuple[DimClass, ...]) -> None:
        """Notes that the classes stand in one value."""
        if len(dims) < 2 or dims in self._seen:
            return
        self._seen.add(dims)
        parents = self._parent
        roots = [up if parents[up := parents[dim]] == up else self.find(dim) for dim in dims]
        for root in roots:
            beside = self._beside.setdefault(root, set())
            beside.update(roots)
            beside.discard(root)

    def are_distinct(self, dims: Sequence[DimClass]) -> bool:
        """Whether no two of some classes are alike."""
        parents, seen = self._parent, set[object]()
        for dim in dims:
            root = up if parents[up := parents[dim]] == up else self.find(dim)
            axis = self.axes.find(self._axis[root]), self._primes[root], self._size[root]
            name = self._name[root]
            if axis in seen or name in seen:
                return False
            seen.add(axis)
            if name is not None:
                seen.add(name)
        return True

    def alike(self, first: DimClass, second: DimClass) -> bool:
        """Whether two classes cannot stand in one value: they are one, or would have one name."""
        first, second = self.find(first), self.find(second)
        name = self._name[first]
        if first == second or (name is not None and name == self._name[second]):
            return True
        return self._primes[first] == self._primes[second] and self.kin(first, second)

    def occurrence(self, dim: DimClass, beside: Iterable[DimClass]) -> DimClass:
        """The first further occurrence of the axis of `dim` that can stand beside other classes: the same one each
        time."""
        others = list(beside)
        number, size = 1, self._size[dim]
        while True:
            key = self.axis_of(dim), size, number
            known = self._occurrences.get(key)
            if known is None:
                known = self._occurrences[key] = self.fresh(size)
                self._axis[known], self._primes[known] = key[0], number
            if not any(self.alike(known, other) for other in others):
                return known
            number += 1

    def neighbours(self, dim: DimClass) -> set[DimClass]:
        """The classes that stand in one value with a class."""
        return self._beside.get(self.find(dim), set())

    def _clashes(self, first: DimClass, second: DimClass, name: str | None, axis: int, primes: int) -> bool:
        """Whether one class made of two would stand beside itself, or beside another of its name."""
        if second in self._beside.get(first, ()):
            return True
        for root in (first, second) if first != second else (first,):
            unchanged = self._name[root] == name and self._primes[root] == primes and self.axis_of(root) == axis
            if not unchanged:  # what stands beside a class is not alike
                for other in self._beside.get(root, ()):
                    if (name is not None and self._name[other] == name) or (
                        self._primes[other] == primes
                        and self._size[other] == self._size[first]
                        and self.axis_of(other) == axis
                    ):
                        return True
        return False

    def _relate(self, first: DimClass, second: DimClass) -> None:
        """Makes kin of two classes: the one without a name a further occurrence of the other's axis. What was merged or
        split is no such thing: it is made of axes of its own."""
        one, other = self.axis_of(first), self.axis_of(second)
        if one == other or (self._primes[first] and self._primes[second]):
            return
        if first in self._of_product or second in self._of_product:
            return
        base, later = (first, second) if self._name[second] is None else (second, first)
        if self._name[later] is not None:  # both have the same name
            return
        if self._primes[later]:
            base, later = later, base
        if self._primes[base] == 0 and self._primes[later] == 0:
            self._become(later, self.axis_of(base))

    def _become(self, dim: DimClass, axis: int) -> None:
        """Makes a class the first further occurrence of an axis that can stand where it stands."""
        # What is kin to it already comes along.
        axis, _ = self.axes.join(axis, self.axis_of(dim)) if axis != self.axis_of(dim) else (axis, axis)
        taken = {self._primes[each] for each in self._beside.get(dim, ()) if self.axis_of(each) == axis}
        self._primes[dim] = next(n for n in range(1, len(taken) + 2) if n not in taken)
        self._axis[dim] = axis

    def _merge(self, first: DimClass, second: DimClass, name: str | None, primes: int, axis: int) -> None:
        first, second = self.join(first, second)
        self._name[first], self._primes[first], self._axis[first] = name, primes, axis
        if second in self._of_product:
            self._of_product.add(first)
        for index in (self._by_whole, self._by_first, self._part_is, self._joint_is):
            if second in index:
                index.setdefault(first, []).extend(index.pop(second))
        beside = self._beside.pop(second, None)
        if beside is not None:
            for each in beside:
                others = self._beside[each]
                others.discard(second)
                others.add(first)
            self._beside.setdefault(first, set()).update(beside)
        parts = self._parts_of.pop(second, None)
        if parts is not None:
            known = self._parts_of.setdefault(first, {})
            for extent, dim in parts.items():
                if extent in known:
                    self.same(known[extent], dim)
                else:
                    known[extent] = dim

    # --- what classes are made of -------------------------------------------------------------------------------------

    def resized(self, dim: DimClass, size: int) -> DimClass:
        """A new class for what padding `dim`, or cutting it at places that are not known, gives."""
        new = self.fresh(size)
        self.resizes.append((dim, new))
        return new

    def shuffled(self, dim: DimClass, order: DimClass) -> None:
        """Notes that `order` counts indices into `dim`, one for each place: if nothing names it, it is that axis."""
        if self._size[dim] == self._size[order] != 1:
            self.shuffles.append((dim, order))

    def part_of(self, dim: DimClass, extent: Extent) -> DimClass:
        """The class of a part: the same one each time, and of what was joined the piece that it is."""
        root = self.find(dim)
        for number in self._joint_is.get(root, ()):
            if (piece := self._piece_at(self.joints[number][1], extent)) is not None:
                return piece
        if self._name[root] is None and root in self._part_is:  # a part of a part is one of the whole
            dim, outer, _ = self.parts[self._part_is[root][0]]
            places = range(*outer)[slice(*extent)]
            extent = (places.start, places.stop, places.step)
            root = self.find(dim)
        parts = self._parts_of.setdefault(root, {})
        if extent not in parts:
            start, stop, step = extent
            new = parts[extent] = self.fresh(-(-(stop - start) // step))
            self._part_is[new] = [len(self.parts)]
            self.parts.append((dim, extent, new))
        return parts[extent]

    def join_of(self, parts: Sequence[DimClass], size: int) -> DimClass:
        """The class of dims one after the other. All parts of one dim make that dim again, in whichever order."""
        roots = [self.find(part) for part in parts if self._size[part]]
        if len(roots) == 1:
            return roots[0]
        whole = self._put_together(roots, size) if roots else None
        if whole is not None:
            return whole
        if all(self._size[part] == 1 for part in parts):  # `jnp.stack` puts arrays of one place together
            return self.made(size, "stack")
        new = self.fresh(size)
        self._joint_is[new] = [len(self.joints)]
        self.joints.append((new, tuple(parts)))
        return new

    def _piece_at(self, parts: Sequence[DimClass], extent: Extent) -> DimClass | None:
        """What was joined at just these places; of one place alone it is a part, as of any other axis."""
        start = 0
        for part in parts:
            if self._size[part] != 1 and extent == (start, start + self._size[part], 1):
                return part
            start += self._size[part]
        return None

    def _put_together(self, roots: Sequence[DimClass], size: int) -> DimClass | None:
        for first in self._part_is.get(roots[0], ()):
            whole = self.find(self.parts[first][0])
            if self._size[whole] != size:
                continue
            known = self._parts_of.get(whole, {})
            taken: list[Extent] = []
            left = list(roots)
            for extent, dim in known.items():
                root = self.find(dim)
                if root in left and all(are_apart(extent, other) for other in taken):
                    left.remove(root)
                    taken.append(extent)
            if not left and sum(len(range(*extent)) for extent in taken) == size:
                return whole
        return None

    def merge_of(self, parts: Sequence[DimClass]) -> DimClass:
        """The class of the dim that merging `parts`, in this order, gives: the same one each time."""
        wanted = [self.find(part) for part in parts]
        for number in self._by_first.get(wanted[0], ()):
            whole, known = self.products[number]
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
            parts = self.products[number][1]
            if [self._size[part] for part in parts] == list(sizes):
                return list(parts)
        fresh = [self.fresh(size) for size in sizes]
        self._add_product(whole, tuple(fresh))
        return fresh

    def _add_product(self, whole: DimClass, parts: tuple[DimClass, ...]) -> None:
        number = len(self.products)
        self.products.append((whole, parts))
        self._of_product.update(map(self.find, (whole, *parts)))
        self._by_whole.setdefault(self.find(whole), []).append(number)
        self._by_first.setdefault(self.find(parts[0]), []).append(number)
