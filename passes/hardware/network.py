"""The chips the planner knows, and what a collective costs on their networks.

Numbers and formulas: "How To Scale Your Model" (JAX team), chapters on sharded matrices and on GPUs. A mesh axis called
`replica` crosses the slow network (data-centre network, or InfiniBand); the other axes of a TPU mesh lie on its torus;
on GPUs the innermost axes lie inside a node as far as their product is at most the node's size.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ir.ops import OPS
from passes import errors
from passes.sharding.mesh import DeviceMesh, Mask

HOP_SECONDS = 1e-6
SLOW_AXIS = "replica"


@dataclass(frozen=True)
class Chip:
    """One accelerator. Rates are per second, `link` is bytes one way on one link (TPU) or egress of one GPU.

    `wraps_at` is the multiple at which a torus dimension closes into a ring (0: switched network, no torus).
    """

    name: str
    flops: float
    capacity: int
    memory_bandwidth: float
    link: float
    wraps_at: int
    slow_per_host: float
    host: int

    @property
    def switched(self) -> bool:
        return self.wraps_at == 0


_GB = 10**9
CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip("v4", 2.75e14, 32 * _GB, 1.2e12, 45e9, 4, 25e9, 4),
        Chip("v5e", 1.97e14, 16 * _GB, 8.1e11, 45e9, 16, 25e9, 8),
        Chip("v5p", 4.59e14, 96 * _GB, 2.8e12, 90e9, 4, 25e9, 4),
        Chip("v6e", 9.20e14, 32 * _GB, 1.6e12, 90e9, 16, 25e9, 8),
        Chip("a100", 3.1e14, 80 * _GB, 2.0e12, 300e9, 0, 200e9, 8),
        Chip("h100", 9.9e14, 80 * _GB, 3.4e12, 370e9, 0, 400e9, 8),
        Chip("h200", 9.9e14, 141 * _GB, 4.8e12, 370e9, 0, 400e9, 8),
    )
}


def chip_of(hardware: "str | Chip") -> Chip:
    """The chip called `hardware` (any case). Raises `PlanError` for an unknown one."""
    if isinstance(hardware, Chip):
        return hardware
    if hardware.lower() not in CHIPS:
        raise errors.unknown_hardware(hardware, tuple(CHIPS))
    return CHIPS[hardware.lower()]


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
    def _tables(self) -> tuple[Any, Any, Any, Any]:
        """[mask] → group on fast axes, hops on them, group on slow axes, slow bytes per second of one device."""
        fast, hops, slow = np.ones(self.mesh.masks), np.zeros(self.mesh.masks), np.ones(self.mesh.masks)
        for mask in range(self.mesh.masks):
            for i, size in enumerate(self.mesh.sizes):
                if mask >> i & 1 and size > 1:
                    if self._slow[i]:
                        slow[mask] *= size
                    else:
                        fast[mask] *= size
                        hops[mask] += size / 2
        return fast, hops, slow, np.full(self.mesh.masks, self.chip.slow_per_host / self.chip.host)

    def seconds(self, kind: str, mask: Mask, volume: Mask) -> Any:
        """Time of one collective over the axes of `mask`, `volume` bytes per group (after gathering, before reducing).

        On a mixture of fast and slow axes it is hierarchical: the fast part works on the whole volume, the slow part on
        what one device of the fast group then holds.
        """
        fast, hops, slow, slow_bandwidth = (table[mask] for table in self._tables)
        width = self.bandwidth[mask]
        latency = 0.0 if self.chip.switched else hops * HOP_SECONDS
        inside = np.maximum(latency, (fast - 1) / fast * volume / width)
        across = (slow - 1) / slow * volume / fast / slow_bandwidth + (slow > 1) * HOP_SECONDS
        move = OPS[kind]
        if move.exchanges:
            inside = inside / (fast if self.chip.switched else 4.0)
            across = across / slow
        if move.passes_on:
            return np.maximum(latency, volume / width) * (fast * slow > 1)
        return move.crossings * (inside + across)
