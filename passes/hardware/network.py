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
from math import prod
from typing import Any

import numpy as np

from ir.ops import OPS
from passes.hardware.assignment import SLOW_AXIS, Assignment, Islands, as_usual
from passes.hardware.chip import Chip
from passes.hardware.chip_file import LIBTPU
from passes.hardware.scatters import where
from passes.hardware.sends import REDUCE, Printed, Sends, in_halves, squared, unscattered
from passes.hardware.torus import Torus
from passes.sharding.mesh import DeviceMesh, Mask

__all__ = ["SLOW_AXIS", "Network", "Rates"]

MOST_COMBINED = 8
"""Collectives that are counted on to be sent as one."""
_MOST_COUNTED = 1 << 16
"""Devices that are counted one by one where mesh axes do not fill islands evenly."""
_OF_A_TORUS = 0.25
"""Of the time of an all-gather on a torus, what an all-to-all takes."""


@dataclass(frozen=True)
class Rates:
    """[mask] → what a collective over the mesh axes of the mask takes, each less the better.

    Attributes:
        launch, hops: seconds of the launch, and of the hops.
        inside, between: seconds that a byte of the volume takes inside islands, and between them.
        exchanged_hops, exchanged_inside, exchanged_between: the same of an all-to-all.
        passed: seconds that a byte takes to the next device.
        turned_hops, turned: of what all devices send to the next one in the same direction, over one link, the seconds
            of the hop, and those that a byte takes; where half goes each way, half of both.
    """

    launch: Any
    hops: Any
    inside: Any
    between: Any
    exchanged_hops: Any
    exchanged_inside: Any
    exchanged_between: Any
    passed: Any
    turned_hops: Any
    turned: Any
    unscattered: Any
    squared: Any


@dataclass(frozen=True)
class Network:
    """What collectives cost on a mesh of a chip: all figures by mask of mesh axes.

    Attributes:
        given: which part of the physical network each mesh axis has; left out, that of `as_usual`.
    """

    mesh: DeviceMesh
    chip: Chip
    given: Assignment | None = None

    @cached_property
    def assignment(self) -> Assignment:
        """Which part of the physical network each mesh axis has."""
        return self.given or as_usual(self.mesh, self.chip)

    @property
    def islands(self) -> Islands:
        """The devices by island."""
        return self.assignment.islands

    @property
    def torus(self) -> Torus | None:
        """How mesh axes go along the dims of one slice; None for a switched network."""
        return self.assignment.torus

    @cached_property
    def bandwidth(self) -> Any:
        """[mask] → bytes per second that one device receives from its island over the axes of the mask."""
        return self.chip.link * np.array([self._links(mask) or 1.0 for mask in range(self.mesh.masks)])

    @cached_property
    def both_ways(self) -> Any:
        """[mask] → whether what goes round the axes of the mask from device to device goes half each way: by the links
        of both directions of a ring."""
        axes, size = [self._axes(mask) for mask in range(self.mesh.masks)], self.islands.inside
        within = [all(size[i] == self.mesh.sizes[i] for i in each) for each in axes]
        torus = self.torus
        return np.array(
            [torus is not None and near and torus.rings(each) for each, near in zip(axes, within, strict=True)]
        )

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
    def rates(self) -> Rates:
        """What collectives take."""
        chip, masks = self.chip, range(self.mesh.masks)
        groups = [self._group(mask) if mask else (1, 1) for mask in masks]
        near, fewest = (np.array(column, float) for column in zip(*groups, strict=True))
        far = self.mesh.products / fewest
        launch = chip.launch * (near > 1) + chip.slow_launch * (far > 1)
        links = [self.torus.hops(self._axes(mask)) if self.torus is not None else 0.0 for mask in masks]
        hops, per_host = chip.hop * np.array(links), chip.slow_per_host / chip.host
        inside = (near - 1) / near / self.bandwidth
        between = (far - 1) / far / fewest / per_host
        exchanged = 1.0 / near if chip.switched else np.full(len(near), _OF_A_TORUS)
        passed = np.where(far > 1, 1 / per_host, 1 / self.bandwidth) * (near * far > 1)
        several = near * far > 1
        turned_hops = chip.hop * several * (self.torus is not None) / (1 + self.both_ways)
        turned = np.where(far > 1, 1 / per_host, 1 / chip.link) * several / (1 + self.both_ways)
        of_exchanges = hops * exchanged, inside * exchanged, between / far
        turns = passed, turned_hops, turned
        return Rates(launch, hops, inside, between, *of_exchanges, *turns, *[each * 1 for each in self._sent_apart()])

    def _sent_apart(self) -> tuple[Any, Any]:
        torus = self.torus if self.sends is not None else None
        return unscattered(self.mesh, torus.form if torus is not None else ()), squared(self.mesh, torus)

    @cached_property
    def sends(self) -> Sends | None:
        """What is sent in place of what is printed; None where that is the same."""
        memory = self.chip.memory
        planes = len(self.chip.slice) > 2
        return Sends.on(self.mesh, memory.tile, memory.scratch, planes) if self.chip.compiler == LIBTPU else None

    def sent_seconds(self, each: Printed, awaited: bool = True, beside: bool = False) -> tuple[Any, Any]:
        """Time of a collective of the partitioned program, as it is sent; and how much of it is waited for, whatever
        comes next.

        Args:
            beside: whether it gathers a parameter behind a product (`passes.planner.beside`).
        """
        if self.sends is None:
            return self.seconds(each.kind, each.mask, each.bytes, awaited), 0.0
        apart = [self.of(rate, each.mask) for rate in (self.rates.unscattered, self.rates.squared)]
        reduced = self.sends.reduced(each, *apart)
        narrowed = self.sends.narrowed(each)
        volume = where(narrowed, in_halves(each.bytes), each.bytes) if np.any(narrowed) else each.bytes
        taken: Any = self.seconds(each.kind, each.mask, volume, awaited)
        waited: Any = 0.0 if awaited else self._waited(each.kind, each.mask, volume, beside, taken)
        if not np.any(reduced):
            return taken, waited
        instead: Any = self.seconds(REDUCE, each.mask, each.bytes, awaited)
        still: Any = 0.0 if awaited else self._waited(REDUCE, each.mask, each.bytes, beside, instead)
        return where(reduced, instead, taken), where(reduced, still, waited)

    def _waited(self, kind: str, mask: Mask, volume: Mask, beside: bool, taken: Any) -> Any:
        """`waited_seconds` of what takes so long."""
        hides = self.sends is None or self.sends.slow or (beside and OPS[kind].gathers)
        return self.waited_seconds(kind, mask, volume, beside) if hides else taken

    def waited_seconds(self, kind: str, mask: Mask, volume: Mask, beside: bool) -> Any:
        """How much of the time of what is sent of parameters and gradients is waited for, whatever comes next: where
        the compiler is libtpu all inside of slices but gathers of parameters behind products, and the hops of these.

        Args:
            beside: whether it gathers a parameter behind a product.
        """
        if self.sends is None:
            return 0.0
        return self.seconds(kind, self.sends.within(mask), 0 if beside and OPS[kind].gathers else volume, awaited=False)

    def seconds(self, kind: str, mask: Mask, volume: Mask, awaited: bool = True) -> Any:
        """Time of one collective over the axes of `mask`, `volume` bytes per group (after gathering, before reducing).

        An all-reduce is a reduce-scatter and an all-gather, launched once.

        Args:
            awaited: whether the next operation waits for it. XLA sends small ones that are not as one, up to so many
                bytes (`Chip.combined`): each has its share of the launch and the hops, an eighth at least.
        """
        rates, move = self.rates, OPS[kind]
        launch = self.of(rates.launch, mask)
        hops = self.of(rates.exchanged_hops if move.exchanges else rates.hops, mask)
        if not awaited and self.chip.combined and self._combines(kind):
            share = np.clip(volume / self.chip.combined, 1 / MOST_COMBINED, 1.0)
            launch, hops = launch * share, hops * share
        if move.one_way:
            return launch + np.maximum(self.of(rates.turned_hops, mask), volume * self.of(rates.turned, mask))
        if move.passes_on:
            return launch + np.maximum(hops, volume * self.of(rates.passed, mask))
        inside = rates.exchanged_inside if move.exchanges else rates.inside
        across = rates.exchanged_between if move.exchanges else rates.between
        inside = np.maximum(hops, volume * self.of(inside, mask))
        across = volume * self.of(across, mask)
        return launch + move.crossings * (inside + across)

    def of(self, rate: Any, mask: Mask) -> Any:
        """One of the rates over the axes of some masks."""
        return rate[mask]

    def _combines(self, kind: str) -> bool:
        """XLA combines all-reduces; on GPUs all-gathers and reduce-scatters as well."""
        move = OPS[kind]
        return move.crossings > 1 or (self.chip.switched and not (move.exchanges or move.passes_on))
