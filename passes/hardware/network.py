"""What a collective costs on the network of a mesh of chips.

Formulas: "How To Scale Your Model" (JAX team), chapters on sharded matrices and on GPUs. A logical mesh axis is priced
by where it lies physically, so that `data=16` and `data=2, model=8` used together cost the same:

- The fast network joins the chips of an *island*: a slice of a torus, or a node behind a switch. Islands are filled by
  the inner mesh axes first, all of them alike: 12 GPUs in nodes of 8 are two nodes of 6.
- Between islands is the slow network (DCN or InfiniBand), whose bandwidth is that of a host, shared by its chips. On a
  TPU an axis called `replica` is the slices themselves.
- In a slice, axes lie along the dims of a torus (`passes.hardware.torus`), whose links add up.

A collective over both is hierarchical: the fast part works on the whole volume, the slow part on what one device of the
fast group then holds. No collective takes less than its launch, and on a torus its hops.
"""

from dataclasses import dataclass
from functools import cached_property
from math import gcd, prod
from typing import Any

import numpy as np

from ir.ops import OPS
from passes.hardware.chip import Chip
from passes.hardware.torus import Torus, torus_of
from passes.sharding.mesh import DeviceMesh, Mask

SLOW_AXIS = "replica"
MOST_COMBINED = 8
"""Collectives that are counted on to be sent as one."""
_MOST_COUNTED = 1 << 16
"""Devices that are counted one by one where mesh axes do not fill islands evenly."""


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
class Network:
    """What collectives cost on a mesh of a chip: all figures by mask of mesh axes."""

    mesh: DeviceMesh
    chip: Chip

    @cached_property
    def islands(self) -> Islands:
        """The largest islands that all are filled alike."""
        sizes = [1 if self._between(axis) else size for axis, size in self.mesh.as_dict().items()]
        most = self.chip.host if self.chip.switched else self.chip.largest_slice
        size = next(each for each in range(min(most, prod(sizes)), 0, -1) if prod(sizes) % each == 0)
        inside, stride = [1] * len(sizes), 1
        for i in reversed(range(len(sizes))):
            inside[i] = gcd(sizes[i], max(1, size // stride))
            stride *= sizes[i]
        return Islands(size, tuple(inside))

    def _between(self, axis: str) -> bool:
        return axis == SLOW_AXIS and not self.chip.switched

    @cached_property
    def torus(self) -> Torus | None:
        """How mesh axes lie in one slice; None for a switched network."""
        if self.chip.switched:
            return None
        return torus_of(self.islands.inside, self.chip.slice, self.chip.wraps_at)

    @cached_property
    def bandwidth(self) -> Any:
        """[mask] → bytes per second that one device receives from its island over the axes of the mask."""
        return self.chip.link * np.array([self._links(mask) or 1.0 for mask in range(self.mesh.masks)])

    def _links(self, mask: int) -> float:
        return self.torus.links(self._axes(mask)) if self.torus is not None else 1.0

    def _axes(self, mask: int) -> list[int]:
        return [i for i in range(len(self.mesh.axes)) if mask >> i & 1]

    def _group(self, mask: int) -> tuple[int, int]:
        """Of a group of devices over the axes of a mask, the most that are on one island, and the fewest."""
        axes, islands = self._axes(mask), self.islands
        near = prod(islands.inside[i] for i in axes)
        if islands.even or not self.chip.switched or self.mesh.devices > _MOST_COUNTED:
            return near, near
        ids = np.arange(self.mesh.devices).reshape(self.mesh.sizes) // islands.size
        last = np.moveaxis(ids, axes, range(-len(axes), 0)).reshape(-1, prod(self.mesh.sizes[i] for i in axes))
        counts = [np.unique(row, return_counts=True)[1] for row in np.unique(last, axis=0)]
        return max(int(each.max()) for each in counts), min(int(each.min()) for each in counts)

    @cached_property
    def _tables(self) -> tuple[Any, ...]:
        """[mask] → devices on an island; how many times as many there are in all; seconds of the launch, and of the
        hops; seconds that a byte of the volume takes inside islands, and between them."""
        chip, masks = self.chip, range(self.mesh.masks)
        groups = [self._group(mask) if mask else (1, 1) for mask in masks]
        near, fewest = (np.array(column, float) for column in zip(*groups, strict=True))
        far = self.mesh.products / fewest
        launch = chip.launch * (near > 1) + chip.slow_launch * (far > 1)
        hops = np.array([self.torus.hops(self._axes(mask)) if self.torus is not None else 0.0 for mask in masks])
        between = (far - 1) / far / fewest / (chip.slow_per_host / chip.host)
        return near, far, launch, chip.hop * hops, (near - 1) / near / self.bandwidth, between

    def seconds(self, kind: str, mask: Mask, volume: Mask, awaited: bool = True) -> Any:
        """Time of one collective over the axes of `mask`, `volume` bytes per group (after gathering, before reducing).

        An all-reduce is a reduce-scatter and an all-gather, launched once.

        Args:
            awaited: whether the next operation waits for it. XLA sends small ones that are not as one, up to so many
                bytes (`Chip.combined`): each has its share of the launch and the hops, an eighth at least.
        """
        near, far, launch, hops, per_byte, between = self._tables
        move = OPS[kind]
        if not awaited and self.chip.combined and self._combines(kind):
            share = np.clip(volume / self.chip.combined, 1 / MOST_COMBINED, 1.0)
            launch, hops = launch[mask] * share, hops[mask] * share
        else:
            launch, hops = launch[mask], hops[mask]
        if move.passes_on:
            width = np.where(far[mask] > 1, self.chip.slow_per_host / self.chip.host, self.bandwidth[mask])
            return (launch + np.maximum(hops, volume / width)) * (near[mask] * far[mask] > 1)
        inside = np.maximum(hops, volume * per_byte[mask])
        across = volume * between[mask]
        if move.exchanges:
            inside = inside / (near[mask] if self.chip.switched else 4.0)
            across = across / far[mask]
        return launch + move.crossings * (inside + across)

    def _combines(self, kind: str) -> bool:
        """XLA combines all-reduces; on GPUs all-gathers and reduce-scatters as well."""
        move = OPS[kind]
        return move.crossings > 1 or (self.chip.switched and not (move.exchanges or move.passes_on))
