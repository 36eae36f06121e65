"""How the axes of a mesh are laid out along the dims of a torus of chips.

A slice of a TPU has two or three physical dims. A mesh axis owns some of them, or a part of one: 2,048 chips of a v5p
are 16 × 16 × 8, and a gather over them goes along three dims at once. Where axes share a dim, the inner one is made of
neighbours, and the outer one goes from one such group to the next. A dim closes into a ring as a whole only: the inner
one is an open chain then, and the chips of the outer one, as many apart as the inner one has, share the links between.

Which form a slice has is chosen for the mesh, among those that can be had: of a torus of three dims multiples of the
ring's size as soon as there are that many chips, else the squarest. Then dims are handed out so that few are shared,
then for most bandwidth. Source: "How To Scale Your Model" (JAX team), chapter on TPUs; the forms are those of the Cloud
TPU documentation.

No more mesh axes share dims than must: an all-reduce over whole dims is compiled into a ring for each direction of each
of them, and one over more than eight chips in parts of dims into a single ring (libtpu 0.0.42, `StrategyND` and
`StrategyRing`), which is why JAX's `create_device_mesh` refuses to split dims unless it is told to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations, product
from math import log, prod

Dims = tuple[int, ...]
_MOST_ORDERED = 256
"""Ways in which mesh axes go along dims of which each order is a way of its own."""


@dataclass(frozen=True)
class Torus:
    """A slice of chips, and the mesh axes in it.

    Attributes:
        form: chips along each physical dim.
        parts: for each mesh axis, outermost first, how many chips of it lie along each physical dim.
        ring_multiple: a dim closes into a ring where its size is a multiple of this.
        order: the mesh axes, outermost first, where they share dims; left out, as they are listed.
    """

    form: Dims
    parts: tuple[Dims, ...]
    ring_multiple: int
    order: Dims = ()

    @property
    def nested(self) -> Dims:
        """The mesh axes, outermost first."""
        return self.order or tuple(range(len(self.parts)))

    def links(self, axes: Sequence[int]) -> float:
        """Links that one chip receives by, over some of the mesh axes: two for a ring, one for an open chain; chips
        that are no neighbours have their share of those in between."""
        return sum((2.0 if ring else 1.0) / apart for _, apart, ring in self._along(axes))

    def hops(self, axes: Sequence[int]) -> float:
        """Links from a chip to the farthest of its group, over some of the mesh axes."""
        return sum((along / 2 if ring else along - 1) * apart for along, apart, ring in self._along(axes))

    def rings(self, axes: Sequence[int]) -> bool:
        """Whether all dims that some mesh axes go along are rings of neighbours, with links in both directions."""
        along = list(self._along(axes))
        return bool(along) and all(ring and apart == 1 for _, apart, ring in along)

    def closes(self, dim: int) -> bool:
        """Whether a physical dim is a ring."""
        return self.form[dim] % self.ring_multiple == 0

    def _along(self, axes: Sequence[int]) -> Iterator[tuple[int, int, bool]]:
        """Of each physical dim that the axes go along: how many chips, how far apart these are, and whether they close
        into a ring, being all around it."""
        for dim, size in enumerate(self.form):
            mine = [axis for axis in self.nested if axis in axes and self.parts[axis][dim] > 1]
            if mine:
                within = self.nested[self.nested.index(mine[0]) :]
                along = prod(self.parts[axis][dim] for axis in mine)
                apart = prod(self.parts[axis][dim] for axis in within if axis not in axes)
                yield along, apart, along * apart == size and self.closes(dim)

    @property
    def shared(self) -> int:
        """How many physical dims more than one mesh axis goes along."""
        return sum(len(axes) > 1 for axes in self._on_dims())

    @property
    def sharing(self) -> tuple[int, ...]:
        """The mesh axes that share a physical dim with another one."""
        return tuple(sorted({axis for axes in self._on_dims() if len(axes) > 1 for axis in axes}))

    def orders(self) -> Iterator[Torus]:
        """The same with the mesh axes that share dims in each order."""
        yield from map(self.ordered, permutations(self.sharing))

    def ordered(self, axes: Sequence[int]) -> Torus:
        """The same with the mesh axes that share dims in this order, outermost first; of others it does not matter."""
        several = self.sharing
        turn = iter([axis for axis in axes if axis in several])
        order = tuple(next(turn) if axis in several else axis for axis in range(len(self.parts)))
        return replace(self, order=() if list(order) == sorted(order) else order)

    def _on_dims(self) -> list[list[int]]:
        """The mesh axes that go along each physical dim."""
        return [[axis for axis, parts in enumerate(self.parts) if parts[dim] > 1] for dim in range(len(self.form))]


def torus_of(sizes: Sequence[int], largest: Dims, ring_multiple: int) -> Torus:
    """The slice for mesh axes of these sizes, outermost first.

    Args:
        largest: the form of the largest slice, as many dims as the torus has.
    """
    return _torus_of(tuple(sizes), tuple(largest), ring_multiple)


@lru_cache(maxsize=4096)
def _torus_of(sizes: Dims, largest: Dims, ring_multiple: int) -> Torus:
    return min(layouts(sizes, largest, ring_multiple), key=_score)


@lru_cache(maxsize=1024)
def least_shared(sizes: Dims, largest: Dims, ring_multiple: int) -> tuple[Torus, ...]:
    """The ways in which the fewest mesh axes share dims, few dims first; in each order where they do and not too many
    ways are left."""
    found = sorted(layouts(sizes, largest, ring_multiple), key=_score)
    least = min(len(each.sharing) for each in found)
    found = [each for each in found if len(each.sharing) == least]
    ordered = tuple(other for each in found for other in each.orders())
    return ordered if len(ordered) <= _MOST_ORDERED else tuple(found)


def layouts(sizes: Dims, largest: Dims, ring_multiple: int) -> Iterator[Torus]:
    """All ways of laying out mesh axes along the dims of slices that can be had."""
    for form in _forms(prod(sizes), largest, ring_multiple):
        for parts in _parts(sizes, form):
            yield Torus(form, parts, ring_multiple)


def _score(torus: Torus) -> tuple[object, ...]:
    """Less is better: few shared dims, then bandwidth over all axes, over the inner ones first, then few hops, then
    parts that are alike."""
    axes = [axis for axis, parts in enumerate(torus.parts) if prod(parts) > 1]
    links = [torus.links([axis]) for axis in axes]
    hops = sum(torus.hops([axis]) for axis in axes)
    return (
        torus.shared,
        -round(sum(map(log, links)), 6),
        [-each for each in links[::-1]],
        hops,
        sum(map(sum, torus.parts)),
        [[-part for part in parts] for parts in torus.parts],
    )


def _forms(count: int, largest: Dims, ring_multiple: int) -> list[Dims]:
    """The forms of a slice of so many chips that are nearest to what can be had."""
    rank = len(largest)
    cubes = rank > 2 and count >= ring_multiple**rank
    limit = sorted(largest)

    def off(form: Dims) -> tuple[float, ...]:
        too_long = prod(max(1.0, size / most) for size, most in zip(sorted(form), limit, strict=True))
        uneven = cubes and any(size % ring_multiple for size in form)
        return (round(too_long, 6), uneven, sum(form) if uneven or not cubes else 0)

    found = list(_products(count, rank))
    best = min(map(off, found))
    return [form for form in found if off(form) == best]


def _products(count: int, rank: int) -> Iterator[Dims]:
    """All ways to write `count` as a product of `rank` sizes, in order."""
    if rank == 1:
        yield (count,)
        return
    for first in divisors(count):
        for rest in _products(count // first, rank - 1):
            yield (first, *rest)


@lru_cache(maxsize=4096)
def divisors(count: int) -> tuple[int, ...]:
    """The divisors of a number, in order."""
    small = [each for each in range(1, int(count**0.5) + 1) if count % each == 0]
    return tuple(dict.fromkeys((*small, *(count // each for each in reversed(small)))))


def _parts(sizes: Dims, form: Dims) -> Iterator[tuple[Dims, ...]]:
    """All ways to share out the dims of a form among mesh axes."""
    if not sizes:
        if prod(form) == 1:
            yield ()
        return
    for mine in product(*(divisors(size) for size in form)):
        if prod(mine) == sizes[0]:
            for rest in _parts(sizes[1:], tuple(size // part for size, part in zip(form, mine, strict=True))):
                yield (mine, *rest)
