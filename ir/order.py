"""The order of the elements along a dim: which factors its index is made of, major first.

The dim that `(heads, size)` were merged into counts `heads` in its large steps and `size` in its small ones; the one
that `(size, heads)` were merged into has the same size, and its elements in another order. An order is a list of
*atoms*: an atom is the index of an axis, or some digits of it. Merging dims joins their lists, splitting a dim cuts its
list, a transpose changes nothing.

An index `i` of an axis of 32 that is split into (4, 8) has the digits `i // 8` (4 values, in steps of 8) and `i % 8` (8
values, in steps of 1).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import NamedTuple

from ir.names import Extent, is_derived


class Axis(NamedTuple):
    """An axis that has a name: one of another size is another one."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """What a slice leaves of a dim of an array. `array` tells the arrays apart."""

    whole: "Order"
    extent: Extent
    array: int


@dataclass(frozen=True, slots=True)
class Atom:
    """Digits of the index of an axis.

    Attributes:
        key: an `Axis`, a `Part`, or whatever else tells it from all others.
        size: how many values the digits have.
        step: how far the index goes on when the digits go on by one.
        copies: whether the index says which of several copies, or of several arrays side by side, an element is in.
        label: how people call it.
    """

    key: Hashable
    size: int
    step: int = 1
    copies: bool = False
    label: str | None = field(default=None, compare=False)

    @property
    def name(self) -> str | None:
        """The name of the axis; None where it has none."""
        return self.key.name if isinstance(self.key, Axis) else None


Order = tuple[Atom, ...]


def merged(orders: Sequence[Order]) -> Order:
    """The order of the dim that dims of these orders are merged into. Digits that are put together again are one."""
    found: list[Atom] = []
    for atom in (atom for order in orders for atom in order if atom.size != 1):
        last = found[-1] if found else None
        if last is not None and last.key == atom.key and last.step == atom.step * atom.size:
            found[-1] = Atom(atom.key, last.size * atom.size, atom.step, atom.copies, atom.name)
        else:
            found.append(atom)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Cut:
    """The orders of the dims that an order is split into.

    Attributes:
        orders: one for each dim; None for those whose elements come from here and there.
        torn: axes of which no dim has places by themselves: both parts were merged with something else.
    """

    orders: tuple[Order | None, ...]
    torn: tuple[Atom, ...] = ()


def cut(order: Order, sizes: Sequence[int]) -> Cut:
    """Splits an order. An axis may be cut in two where one of the parts stays by itself, as in frames that are stacked;
    where both are merged with something else, or one of them with a part of another axis, it is torn."""
    left = list(order)
    found: list[list[Atom]] = []
    ends: list[tuple[Atom, int, int]] = []  # an axis that was cut, with the dims of its first and its last part

    def unknown(torn: tuple[Atom, ...]) -> Cut:
        return Cut((*map(tuple, found), *(None,) * (len(sizes) - len(found))), torn)

    for i, size in enumerate(sizes):
        taken: list[Atom] = []
        need = size
        while need > 1:
            if not left:
                return unknown(())
            atom = left.pop(0)
            if need % atom.size == 0:
                taken.append(atom)
                need //= atom.size
            elif atom.size % need == 0:
                rest = atom.size // need
                taken.append(Atom(atom.key, need, atom.step * rest, atom.copies))
                left.insert(0, Atom(atom.key, rest, atom.step, atom.copies))
                if ends and ends[-1][2] == i and ends[-1][0].key == atom.key:
                    ends[-1] = ends[-1][0], ends[-1][1], i + 1
                else:
                    ends.append((atom, i, i + 1))
                need = 1
            else:  # no digits: the elements of one place go to several
                return unknown((atom, *left[:1]) if len(order) > 1 else ())
        found.append(taken)
    return Cut(tuple(map(tuple, found)), tuple(atom for atom, i, j in ends if _is_torn(atom, i, j, found, ends)))


def _is_torn(
    atom: Atom, first: int, last: int, found: Sequence[Sequence[Atom]], ends: Sequence[tuple[Atom, int, int]]
) -> bool:
    if last >= len(found):
        return False
    before, after = len(found[first]) > 1, len(found[last]) > 1
    meets_another = any(other.key != atom.key and begin == last for other, begin, _ in ends)
    return after and (before or meets_another)


def sliced(order: Order, extent: Extent) -> Order | None:
    """The order of a part, where the part is what a product of axes has at one place of some of them: the second of
    three blocks, every third element. None where it is another part."""
    start, stop, step = extent
    size, total = -(-(stop - start) // step), prod(atom.size for atom in order)
    if len(order) < 2 or size < 2 or total % size:
        return None
    count = total // size
    if step == 1 and start % size == 0:
        return cut(order, (count, size)).orders[1]
    if step == count and start < step:
        return cut(order, (size, count)).orders[0]
    return None


def contradict(first: Order, second: Order) -> bool:
    """Whether one dim cannot have both orders: the index of one axis goes in steps of two sizes, or what is copied are
    the large steps here and the small ones there."""
    if not all(atom.size for atom in (*first, *second)):
        return False
    known = _places(first)
    for atom, place in _places(second):
        for other, there in known:
            overlaps = atom.step < other.step * other.size and other.step < atom.step * atom.size
            if atom.key == other.key and overlaps and place != there:
                return True
    return _copies_apart(first, second)


def _places(order: Order) -> list[tuple[Atom, Fraction]]:
    """Each atom with how far the dim's index goes on when that of the atom's axis goes on by one. An axis that is there
    twice says nothing."""
    below = prod(atom.size for atom in order)
    keys = [atom.key for atom in order]
    found: list[tuple[Atom, Fraction]] = []
    for atom in order:
        below //= atom.size
        if keys.count(atom.key) == 1 or atom.step != 1 or atom.name is None:
            found.append((atom, Fraction(below, atom.step)))
    return found


def _copies_apart(first: Order, second: Order) -> bool:
    one, other = ([(atom.copies, atom.size) for atom in order] for order in (first, second))
    return len(one) == 2 and one[0][0] != one[1][0] and one != other and one[::-1] == other


def text(order: Order) -> str:
    """`(heads=4, size=8)`; digits that have no name of their own as Python computes them, `inner//8` and `inner%8`."""
    return "(" + ", ".join(f"{_called(atom)}={atom.size}" for atom in order) + ")"


def _called(atom: Atom) -> str:
    if isinstance(atom.key, Axis) and atom.size != atom.key.size and (atom.label is None or is_derived(atom.label)):
        above = f"//{atom.step}" if atom.step != 1 else ""
        below = f"%{atom.size}" if atom.step * atom.size != atom.key.size else ""
        return f"{atom.name}{above}{below}"
    label = atom.label if atom.label is not None and not is_derived(atom.label) else None
    return label or atom.name or ("copy" if atom.copies else atom.label or "_")
