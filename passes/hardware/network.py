"""What a collective costs on the network of a mesh of chips.

Formulas: "How To Scale Your Model" (JAX team), chapters on sharded matrices and on GPUs. A mesh axis called
`replica` crosses the slow network (data-centre network, or InfiniBand); the other axes of a TPU mesh lie on its torus;
on GPUs the innermost axes lie inside a node as far as their product is at most the node's size.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ir.ops import OPS
from passes.hardware.chip import Chip
from passes.sharding.mesh import DeviceMesh, Mask

HOP_SECONDS = 1e-6
SLOW_AXIS = "replica"


@dataclass(frozen=True)
class Network:
    """What collectives cost on a mesh of a chip: all figures by mask of mesh axes."""

    mesh: DeviceMesh
    chip: Chip

    @cached_property
    def _slow(self) -> list[bool]:
        """Which mesh axes cross the slow network."""
        slow: list[bool] = []
        inside = 1
        for axis, size in reversed(list(zip(self.mesh.axes, self.mesh.sizes, strict=True))):
            inside *= size
            outside = inside > self.chip.host if self.chip.switched else axis == SLOW_AXIS
            slow.append(size > 1 and outside)
        return slow[::-1]

    @cached_property
    def bandwidth(self) -> Any:
        """[mask] → bytes per second of one device on the fast axes of the mask (torus dimensions add up)."""
        table = np.ones(self.mesh.masks)
        for mask in range(1, self.mesh.masks):
            fast = [
                i for i in range(len(self.mesh.axes)) if mask >> i & 1 and not self._slow[i] and self.mesh.sizes[i] > 1
            ]
            table[mask] = sum(map(self._axis_bandwidth, fast)) if not self.chip.switched else self.chip.link
            table[mask] = table[mask] or self.chip.link
        return table

    def _axis_bandwidth(self, i: int) -> float:
        ring = self.mesh.sizes[i] % self.chip.wraps_at == 0
        return self.chip.link * (2 if ring else 1)

    @cached_property
    def _tables(self) -> tuple[Any, ...]:
        """[mask] → devices on fast axes, and on slow ones; seconds of all hops on the fast ones; seconds a byte of the
        volume takes on the fast axes, and on the slow ones; seconds that the slow ones take at least."""
        fast, hops, slow = np.ones(self.mesh.masks), np.zeros(self.mesh.masks), np.ones(self.mesh.masks)
        for mask in range(self.mesh.masks):
            for i, size in enumerate(self.mesh.sizes):
                if mask >> i & 1 and size > 1:
                    if self._slow[i]:
                        slow[mask] *= size
                    else:
                        fast[mask] *= size
                        hops[mask] += size / 2
        latency = hops * (0.0 if self.chip.switched else HOP_SECONDS)
        across = (slow - 1) / slow / fast / (self.chip.slow_per_host / self.chip.host)
        return fast, slow, latency, (fast - 1) / fast / self.bandwidth, across, (slow > 1) * HOP_SECONDS

    def seconds(self, kind: str, mask: Mask, volume: Mask) -> Any:
        """Time of one collective over the axes of `mask`, `volume` bytes per group (after gathering, before reducing).

        On a mixture of fast and slow axes it is hierarchical: the fast part works on the whole volume, the slow part on
        what one device of the fast group then holds.
        """
        fast, slow, latency, per_byte, slow_per_byte, least = self._tables
        move = OPS[kind]
        if move.passes_on:
            many = fast[mask] * slow[mask] > 1
            return np.maximum(latency[mask], volume / self.bandwidth[mask]) * many
        inside = np.maximum(latency[mask], volume * per_byte[mask])
        across = volume * slow_per_byte[mask] + least[mask]
        if move.exchanges:
            inside = inside / (fast[mask] if self.chip.switched else 4.0)
            across = across / slow[mask]
        return move.crossings * (inside + across)
