"""What a chip's compiler sends in place of a collective of the partitioned program, where the program tells it.

The partitioned program is the same wherever it runs. Compiled for a TPU (`Chip.compiler`: libtpu), some of its
collectives become others:

- what only products read that take bfloat16, as those of float32 values do at JAX's default precision, is gathered in
  bfloat16 inside of a slice: the product rounds it anyway. Bfloat16 fits two rows of lanes into one of 32 bits: what
  lies in tiles of one row has none to fit with, and stays as it is. That is so where a device has one element of each
  dim but the one that is gathered and one of at most 128 behind it, and one of these stands between the two. A slice
  that a loop reads of a stack has such a dim of its own: of two dims longer than 1 it lies so where the shard takes
  least room with the gathered one along the lanes, which is then no whole rows of them, and the other is at most 128;
- a vector is gathered inside of a slice, or between slices alone, in shards of whole rows of a tile, of 128 lanes, and
  never scattered inside of one: in place of either it is reduced on every device, amid zeros or in full;
- a reduce-scatter inside of a slice cuts whole rows of the lanes of a tile; or its rows, in whole tiles, an even number
  of them, since half goes each way round, and on a square of four chips halves of those again, which in slices of three
  dims go in pieces that must come out even (`passes.hardware.pieces`); or a dim that no tile is of. An array that has
  no such layout but one whose tiles are half empty is reduced on every device. Where those of three dims or more are
  half empty in each of its layouts, one will do in which a shard takes less room than all of it in least room, or as
  much where rows of any dim but the last are cut. A sum of an array is laid out as that is, in least room. So is one of
  which a dim has one element on each device, and of that whole rows of the lanes are cut alone;
- over all of a slice of three dims, or of two alike of four chips or more, nothing is reduce-scattered: it is
  all-reduced, which is as many bytes of a collective that crosses the network twice;
- over several slices a gather between them that one inside of each follows, and a reduce-scatter inside that one
  between them follows, are one collective over both: no compiled program tells the two from one of a single dim;
- what is one number everywhere is not gathered: each device makes it where it is.

In which of several layouts an array lies is settled where the program is written for the compiler (`passes.for_tpu`),
which asks for one in which it is scattered (`passes.hardware.scatters`).

Each of these was seen of programs of one collective, compiled for v4, v5e, v5p and v6e. The price of a plan, the
report and `--verify` all ask here. Of one plan masks and sizes are numbers, of many candidates arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ir.ops import OPS
from ir.types import item_size
from passes.hardware.assignment import SLOW_AXIS
from passes.hardware.memory import filled
from passes.hardware.scatters import Scattered, Scatters
from passes.hardware.torus import Torus
from passes.sharding.mesh import DeviceMesh, Mask

REDUCE = next(kind for kind, op in OPS.items() if op.scattered)
"""What is sent in place of a gather or a reduce-scatter."""
HALVED = "the TPU compiler gathers in bf16 what only products read that take bf16 (JAX's default precision)"
VECTOR = (
    "the TPU compiler gathers vectors in whole rows of 128 lanes only and scatters none: here it reduces the whole "
    "value on every device"
)
WHOLE = (
    "the TPU compiler reduce-scatters nothing over a whole slice of three dims, or of two alike of four chips or more: "
    "here it reduces the whole value on every device"
)
TILES = (
    "the TPU compiler reduce-scatters whole tiles only, an even number of them: here it reduces the whole value on "
    "every device"
)
JOINT = "a collective inside of a slice and one between slices, one right after the other, are one over both"
UNIFORM = "each device makes what is one number everywhere, and nothing is sent of it"
_SQUARE = 4
"""Chips along both dims of a slice over which nothing is reduce-scattered."""


@dataclass(frozen=True)
class Printed:
    """A collective of the partitioned program.

    Attributes:
        bytes: of a group, before reducing, after gathering.
        vector: whether one dim at most of the result is longer than 1 on one device.
        shard: elements that one device has before; of a vector.
        halved: whether only products read the result that take it as bfloat16, and it is wider.
        scattered: of an array of two dims or more that is scattered.
    """

    kind: str
    mask: Mask
    bytes: Mask
    vector: Any = False
    shard: Any = 0
    halved: Any = False
    scattered: Scattered | None = None


@dataclass(frozen=True)
class Sends:
    """What is sent on a mesh.

    Attributes:
        slow: the mesh axis between slices, as a mask; 0 where there is none.
        scatters: how arrays may lie that are scattered.
    """

    slow: int
    scatters: Scatters

    @classmethod
    def on(cls, mesh: DeviceMesh, tile: tuple[int, int], scratch: int, planes: bool) -> Sends:
        """On a mesh of chips that keep arrays in such tiles (`Scatters`)."""
        slow = mesh.mask([SLOW_AXIS]) if mesh.as_dict().get(SLOW_AXIS, 1) > 1 else 0
        return cls(slow, Scatters(tile, scratch, planes))

    def reduced(self, each: Printed, unscattered: Any, squared: Any) -> Any:
        """Whether an all-reduce of as many bytes is sent for it.

        Args:
            unscattered: whether nothing is reduce-scattered over its mesh axes (`unscattered`).
            squared: whether these are a square of four chips.
        """
        op = OPS[each.kind]
        if not op.scatters and (not op.gathers or each.vector is False):
            return False
        mask, inside = np.asarray(each.mask), self.inside(each.mask)
        vector = np.asarray(each.vector)
        if op.scatters:
            whole, cut = np.asarray(unscattered) > 0, inside & (mask != 0)
            if each.scattered is None:
                return whole | (vector & cut)
            asked = cut & ~whole & ~vector
            uneven = ~self.scatters.in_tiles(each.scattered, squared) if asked.any() else np.asarray(False)
            return whole | ((vector | uneven) & cut)
        between = (mask == self.slow) & (mask != 0)
        return vector & (inside | between) & (np.asarray(each.shard) % self.scatters.tile[1] != 0)

    def narrowed(self, each: Printed) -> Any:
        """Whether it is sent in bfloat16, if it is sent as it is."""
        if each.halved is False:
            return False
        return OPS[each.kind].gathers & np.asarray(each.halved) & (np.asarray(each.mask) != self.slow)

    def in_lone_rows(self, sizes: Sequence[Any], at: int) -> Any:
        """Whether an array lies in tiles of one row when a dim of it is gathered.

        Args:
            sizes: of its dims on one device, gathered.
            at: which of these is gathered.
        """
        found: Any = np.asarray(False)
        for last in range(at + 2, len(sizes)):
            alone: Any = (np.asarray(sizes[last]) > 1) & (np.asarray(sizes[last]) <= self.scatters.tile[1])
            for i, size in enumerate(sizes):
                alone = alone & (np.asarray(size) == 1 if i not in (at, last) else True)
            found = found | alone
        return found

    def in_lone_slices(self, sizes: Sequence[Any], at: int, shard: Any) -> Any:
        """Whether a slice that a loop reads of a stack lies in tiles of one row when a dim of it is gathered.

        Args:
            sizes: of its dims on one device, gathered.
            at: which of these is gathered.
            shard: what one device has of that before.
        """
        lanes = self.scatters.tile[1]
        found: Any = np.asarray(False)
        for other, size in enumerate(sizes):
            if other != at:
                alone: Any = (np.asarray(size) > 1) & (np.asarray(size) <= lanes)
                for i, each in enumerate(sizes):
                    alone = alone & (np.asarray(each) == 1 if i not in (at, other) else True)
                behind, along = filled(size, lanes) * shard, filled(shard, lanes) * size
                cut = (along < behind) | ((along == behind) & (at > other))
                found = found | (alone & cut & (np.asarray(shard) % lanes != 0))
        return found

    def inside(self, mask: Mask) -> Any:
        """Whether it stays inside of slices."""
        return np.asarray(mask) & self.slow == 0

    def within(self, mask: Mask) -> Any:
        """The mesh axes of a mask that are inside of slices."""
        return mask & ~self.slow

    def one(self, kind: str, before: Mask, mask: Mask) -> Any:
        """Whether a collective and one of the same kind right before it are one over both."""
        op = OPS[kind]
        if not (op.gathers or op.scatters) or not self.slow:
            return False
        first, second = before, mask
        if op.scatters:
            first, second = mask, before
        return (np.asarray(first) & self.slow != 0) & (np.asarray(second) & self.slow == 0) & (np.asarray(second) != 0)

    def of(self, each: Printed, unscattered: bool, squared: bool) -> tuple[str, int, str]:
        """Kind and bytes that are sent for a collective of one plan, and why it is something else than is printed."""
        volume = int(each.bytes)
        if self.reduced(each, unscattered, squared):
            whole = OPS[each.kind].scatters and unscattered
            return REDUCE, volume, WHOLE if whole else VECTOR if each.vector else TILES
        if self.narrowed(each):
            return each.kind, in_halves(volume), HALVED
        return each.kind, volume, ""


def is_vector(sizes: Sequence[Any]) -> Any:
    """Whether one at most of the sizes of dims is more than 1."""
    return sum([np.asarray(size) > 1 for size in sizes], np.asarray(0)) <= 1


def in_halves(volume: Mask) -> Mask:
    """Bytes of so many of float32 in bfloat16."""
    return volume * item_size("bfloat16") // item_size("float32")


def all_reduces(form: Sequence[int]) -> bool:
    """Whether nothing is reduce-scattered over all of a slice of this form."""
    dims = [size for size in form if size > 1]
    return len(dims) == 3 or (len(dims) == 2 and dims[0] == dims[1] >= _SQUARE)


def unscattered(mesh: DeviceMesh, form: Sequence[int]) -> Any:
    """[mask] → whether nothing is reduce-scattered over the mesh axes of the mask, on slices of this form."""
    within = {axis: size for axis, size in mesh.as_dict().items() if size > 1}
    inside = mesh.mask([axis for axis in within if axis != SLOW_AXIS])
    if not (inside and all_reduces(form)):
        return np.zeros(mesh.masks, bool)
    return np.arange(mesh.masks) & mesh.mask(list(within)) == inside


def squared(mesh: DeviceMesh, torus: Torus | None) -> Any:
    """[mask] → whether the mesh axes of the mask are a square of four chips."""
    found = np.zeros(mesh.masks, bool)
    for mask in range(mesh.masks if torus is not None else 0):
        parts = [torus.parts[axis] for axis in range(len(mesh.axes)) if mask >> axis & 1] if torus is not None else []
        along = [prod(column) for column in zip(*parts, strict=True)]
        found[mask] = [size for size in along if size > 1] == [2, 2]
    return found
