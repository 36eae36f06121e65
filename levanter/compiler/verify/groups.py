"""Which devices talk to each other in a collective, and which mesh axes that is.

XLA writes device groups in three ways, and all mean a list of lists of partition ids:

- `{{0,1},{2,3}}`: the ids themselves;
- `[2,4]<=[4,2]T(1,0)`: count up to 8, reshape to [4,2], transpose by (1,0), reshape to 2 groups of 4;
- `mesh['a'=4,'b'=2], device_ids=([2,2,2]T(0,2,1)) {'b'}`: the ids, laid out as a mesh of XLA's own, grouped along the
  axes in braces. An axis may be a part of one: `'a':(2)4` is the middle factor of 'a' split into 2 × 4 × rest.

A partition id is the row-major position in the mesh, so a group of ids is a set of *our* mesh axes exactly when it is
what varying those axes, and holding all others, gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from math import prod

import numpy as np

from levanter.compiler.verify.errors import unreadable_hlo
from levanter.compiler.verify.hlo_text import split

Groups = list[tuple[int, ...]]
_AXIS = re.compile(r"'?([\w.]+)'?=(\d+)")
_AXIS_PART = re.compile(r"'?([\w.]+)'?(?::\((\d+)\)(\d+))?$")
_IOTA = re.compile(r"^\[([\d,]+)\](?:T\(([\d,]+)\))?$")


def parse_groups(text: str, num_partitions: int) -> Groups:
    """The device groups written in `replica_groups`; no text or `{}` means one group of all partitions.

    Raises:
        WorkFailed: the text is in none of the three forms.
    """
    text = text.strip()
    if text in ("", "{}"):
        return [tuple(range(num_partitions))]
    if text.startswith("{"):
        return [_ints(group) for group in split(text[1:-1])]
    if text.startswith("mesh["):
        return _mesh_groups(text)
    shape, arrow, source = text.partition("<=")
    if not arrow:
        raise unreadable_hlo(text, "unknown form of replica_groups")
    return _rows(_iota(source, text).reshape(_ints(shape)))


def parse_pairs(text: str) -> Groups:
    """The (source, target) pairs of a `collective-permute`."""
    return [_ints(pair) for pair in split(text.strip()[1:-1])]


class MeshAxes:
    """Recognizes groups of partition ids as axes of one mesh (name → size, ids row-major)."""

    def __init__(self, mesh: Mapping[str, int]):
        self._names = [name for name, size in mesh.items() if size > 1]
        self._ids = np.arange(prod(mesh.values())).reshape([mesh[name] for name in self._names])
        self._known = {_canonical(self._groups(axes)): axes for axes in self._subsets()}

    def of_groups(self, groups: Groups) -> tuple[str, ...]:
        """The axes, in mesh order, that vary within each group; () when no set of axes gives these groups."""
        return self._known.get(_canonical(groups), ())

    def of_pairs(self, pairs: Groups) -> tuple[str, ...]:
        """The axes, in mesh order, along which any of the (source, target) pairs moves."""
        shape = self._ids.shape
        moved = {
            axis
            for source, target in pairs
            for axis, here, there in zip(
                self._names, np.unravel_index(source, shape), np.unravel_index(target, shape), strict=True
            )
            if here != there
        }
        return tuple(name for name in self._names if name in moved)

    def _subsets(self) -> list[tuple[str, ...]]:
        counts = range(1, len(self._names) + 1)
        return [axes for count in counts for axes in combinations(self._names, count)]

    def _groups(self, axes: Sequence[str]) -> Groups:
        inside = [self._names.index(name) for name in axes]
        outside = [dim for dim in range(len(self._names)) if dim not in inside]
        size = prod(self._ids.shape[dim] for dim in inside)
        return _rows(self._ids.transpose(*outside, *inside).reshape(-1, size))


def _mesh_groups(text: str) -> Groups:
    head, _, axes_text = text.rpartition(" {")
    sizes_text, _, ids_text = head.partition(", device_ids=")
    sizes = {name: int(size) for name, size in _AXIS.findall(sizes_text)}
    ids = _iota(ids_text.strip()[1:-1], text) if ids_text else np.arange(prod(sizes.values()))
    wanted = [_axis_part(part, sizes, text) for part in split(axes_text.rstrip("}"))]
    # Every axis is cut wherever a wanted part of it begins or ends; a wanted part is then a run of whole pieces.
    pieces: list[tuple[str, int, int]] = []
    for name, size in sizes.items():
        cuts = sorted({1, size, *(cut for axis, *ends in wanted for cut in ends if axis == name)})
        pieces.extend((name, low, high) for low, high in pairwise(cuts))
    inside = [
        dim
        for name, low, high in wanted
        for dim, piece in enumerate(pieces)
        if piece[0] == name and low <= piece[1] and piece[2] <= high
    ]
    outside = [dim for dim in range(len(pieces)) if dim not in inside]
    arranged = ids.reshape([high // low for _, low, high in pieces])
    return _rows(arranged.transpose(*outside, *inside).reshape(-1, prod(arranged.shape[dim] for dim in inside)))


def _axis_part(text: str, sizes: Mapping[str, int], whole: str) -> tuple[str, int, int]:
    """An axis or a part of one, as (name, strides from, to): all of an axis of 8 is (name, 1, 8)."""
    found = _AXIS_PART.match(text)
    if not found or found.group(1) not in sizes:
        raise unreadable_hlo(whole, "unknown axis in replica_groups")
    name, before, size = found.groups()
    return (name, 1, sizes[name]) if size is None else (name, int(before), int(before) * int(size))


def _iota(text: str, whole: str) -> np.ndarray:
    """The ids of `[4,2]T(1,0)` (row-major, transposed) or of a plain list `0,2,1,3`, as a flat array."""
    found = _IOTA.match(text.strip())
    if found:
        dims = _ints(found.group(1))
        ids = np.arange(prod(dims)).reshape(dims)
        return (ids.transpose(_ints(found.group(2))) if found.group(2) else ids).reshape(-1)
    ids = _ints(text)
    if not ids:
        raise unreadable_hlo(whole, "unknown device ids")
    return np.array(ids)


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _rows(array: np.ndarray) -> Groups:
    return [tuple(int(i) for i in row) for row in array]


def _canonical(groups: Groups) -> frozenset[frozenset[int]]:
    return frozenset(frozenset(group) for group in groups)
