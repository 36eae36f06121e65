"""Which part of the physical network each axis of a mesh has.

The chips of an *island* share the fast network: a slice of a torus, or a node behind a switch. A mesh axis goes over so
many islands, and within one along the dims of its torus, or over so many devices of a node. As text, of each mesh axis:

    4x4x1             along the dims of a slice
    8                 within a node
    2 nodes           from node to node
    2 slices x 4x4x1  both

What collectives take on it is in `passes.hardware.network`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import gcd, prod

from passes.hardware import errors
from passes.hardware.chip import Chip
from passes.hardware.torus import Dims, Torus, divisors, least_shared, torus_of
from passes.sharding.mesh import DeviceMesh

SLOW_AXIS = "replica"
"""A mesh axis that, on a TPU, is the slices themselves."""
Words = tuple[tuple[str, str], ...]
"""An assignment as text: mesh axes, outermost first, each with its part of the network."""
_FORM = re.compile(
    r"(?:(?P<across>[0-9]{1,9}) (?P<kind>node|slice)s?(?: ?x (?=[0-9])|$))?(?P<inside>[0-9]{1,9}(?:x[0-9]{1,9})*)?"
)


@dataclass(frozen=True)
class Islands:
    """The devices of a mesh by island.

    Attributes:
        size: devices of a mesh on one island.
        inside: for each mesh axis, how much of it lies within one.
    """

    size: int
    inside: tuple[int, ...]

    @property
    def even(self) -> bool:
        return prod(self.inside) == self.size


@dataclass(frozen=True)
class Assignment:
    """Which part of the physical network each mesh axis has: islands, and within one the dims of a torus; None for a
    switched network."""

    islands: Islands
    torus: Torus | None = None

    def words(self, mesh: DeviceMesh) -> Words:
        """The assignment as text; empty where mesh axes do not fill islands evenly, as only the usual one does."""
        if not self.islands.even:
            return ()
        order = self.torus.nested if self.torus is not None else range(len(mesh.axes))
        return tuple((mesh.axes[axis], self._part(mesh, axis)) for axis in order if mesh.sizes[axis] > 1)

    def _part(self, mesh: DeviceMesh, axis: int) -> str:
        near = self.islands.inside[axis]
        across = mesh.sizes[axis] // near
        kind = "slices" if self.torus is not None else "nodes"
        inside = "x".join(map(str, self.torus.parts[axis])) if self.torus is not None else str(near)
        return " x ".join([f"{across} {kind}"] * (across > 1) + [inside] * (near > 1))


def as_usual(mesh: DeviceMesh, chip: Chip) -> Assignment:
    """The largest islands that all are filled alike, by the inner mesh axes first; in a slice that of `torus_of`."""
    size, inside = _usual_size(mesh, chip), [1] * len(mesh.axes)
    stride = 1
    for i in reversed(range(len(mesh.axes))):
        near = 1 if _between(mesh.axes[i], chip) else mesh.sizes[i]
        inside[i] = gcd(near, max(1, size // stride))
        stride *= near
    return Assignment(Islands(size, tuple(inside)), None if chip.switched else _torus(tuple(inside), chip))


@lru_cache(maxsize=256)
def every_assignment(mesh: DeviceMesh, chip: Chip) -> tuple[Assignment, ...]:
    """The usual assignment, then all others: of mesh axes to islands that are filled evenly, and in a slice those in
    which the fewest mesh axes share dims."""
    usual = as_usual(mesh, chip)
    if not usual.islands.even:
        return (usual,)
    size, found = usual.islands.size, {usual: None}
    for inside in _shares(mesh, chip, size):
        islands = Islands(size, inside)
        if chip.switched:
            found[Assignment(islands)] = None
        else:
            found |= {Assignment(islands, each): None for each in least_shared(inside, chip.slice, chip.wraps_at)}
    return tuple(found)


def assignment_of(words: Mapping[str, str] | Words, mesh: DeviceMesh, chip: Chip) -> Assignment:
    """The assignment that a text says; the usual one where it says nothing.

    Raises:
        PlanError: a mesh axis is unknown or left out, or has a part of another size than its own, or of a network that
            the chip does not have.
    """
    written = dict(words)
    if not written:
        return as_usual(mesh, chip)
    for axis in written:
        if axis not in mesh.axes:
            raise errors.network_axis(axis, mesh.axes)
    rank = 1 if chip.switched else len(chip.slice)
    parts: list[Dims] = []
    for axis, size in mesh.as_dict().items():
        if axis not in written and size > 1:
            raise errors.network_lacks(axis, size)
        parts.append(_read(axis, size, written.get(axis, ""), rank, chip))
    inside = tuple(map(prod, parts))
    islands = Islands(prod(inside), inside)
    most = chip.host if chip.switched else chip.largest_slice
    if islands.size > most:
        raise errors.network_too_large(islands.size, most, chip.name, "node" if chip.switched else "slice")
    if chip.switched:
        return Assignment(islands)
    form = tuple(prod(column) for column in zip(*parts, strict=True))
    torus = Torus(form, tuple(parts), chip.wraps_at)
    return Assignment(islands, torus.ordered([mesh.axes.index(axis) for axis in written]))


def _read(axis: str, size: int, written: str, rank: int, chip: Chip) -> Dims:
    """The part of a mesh axis inside of an island, along each of so many dims."""
    kind = "node" if chip.switched else "slice"
    found = _FORM.fullmatch(written.strip()) if written.strip() else None
    if size == 1 and not written:
        return (1,) * rank
    if found is None or found["kind"] not in (None, kind):
        raise errors.network_form(axis, written, kind, rank)
    inside = tuple(map(int, found["inside"].split("x"))) if found["inside"] else (1,) * rank
    across = int(found["across"] or 1)
    if len(inside) != rank:
        raise errors.network_form(axis, written, kind, rank)
    if across * prod(inside) != size:
        raise errors.network_size(axis, size, written, across * prod(inside))
    if _between(axis, chip) and prod(inside) > 1:
        raise errors.network_slices(axis, size)
    return inside


def _usual_size(mesh: DeviceMesh, chip: Chip) -> int:
    inside = prod(1 if _between(axis, chip) else size for axis, size in mesh.as_dict().items())
    most = chip.host if chip.switched else chip.largest_slice
    return next(each for each in range(min(most, inside), 0, -1) if inside % each == 0)


def _shares(mesh: DeviceMesh, chip: Chip, size: int) -> Iterator[tuple[int, ...]]:
    """How much of each mesh axis may lie within an island of so many devices."""
    near = [1 if _between(axis, chip) else size for axis, size in mesh.as_dict().items()]
    for inside in product(*map(divisors, near)):
        if prod(inside) == size:
            yield inside


def _between(axis: str, chip: Chip) -> bool:
    return axis == SLOW_AXIS and not chip.switched


def _torus(inside: tuple[int, ...], chip: Chip) -> Torus:
    return torus_of(inside, chip.slice, chip.wraps_at)
