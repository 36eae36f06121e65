"""What a process writes of a state: the shards that its devices hold, each shard once among all processes.

A shard that several devices hold (of an array that is replicated, or sharded over some axes of the mesh only) is
written by one of them; which one goes round with the arrays, so that each process has its share. Every process works
that out for itself, from the sharding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from levanter.checkpoint.regions import Region, region_of, whole

if TYPE_CHECKING:
    import jax

_THREADS = 4

Read = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Held:
    """An array, and the parts of it that this process writes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    parts: list[tuple[Region, np.ndarray]]


def held(value: Any, number: int, process: int) -> Held:
    """The parts of an array that process `process` writes, as views of the device's memory where it is the host's.

    Args:
        value: a jax.Array, something like a numpy array (the first process writes it), or what `copied` has made.
        number: of the array among those of the state, the same in every process.
    """
    if isinstance(value, Held):
        return value
    if not hasattr(value, "addressable_shards"):
        values = np.asarray(value)
        values = np.asarray(values, values.dtype.newbyteorder("="), order="C")
        return Held(values.dtype, values.shape, [(whole(values.shape), values)] if process == 0 else [])
    parts = [(region, np.asarray(shard.data)) for region, shard in _own_shards(value, number)]
    return Held(np.dtype(value.dtype), tuple(value.shape), parts)


class Staging:
    """Copies states out of the devices' way, into the same memory each time: fresh pages cost more than the copy."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, Region], np.ndarray] = {}

    def copied(self, tree: Mapping[str, jax.Array | np.ndarray], process: int) -> dict[str, Held]:
        """A copy of what this process writes of `tree`; it lasts until the next one."""
        shards = [
            shard
            for number, name in enumerate(sorted(tree))
            if hasattr(value := tree[name], "addressable_shards")
            for _, shard in _own_shards(value, number)
        ]
        for shard in shards:  # all of them are on their way before the first is waited for
            shard.data.copy_to_host_async()
        views = {name: held(tree[name], number, process) for number, name in enumerate(sorted(tree))}
        with ThreadPoolExecutor(_THREADS) as threads:
            copies = {
                name: [(region, threads.submit(self._copy, name, region, values)) for region, values in view.parts]
                for name, view in views.items()
            }
        copied = {
            name: Held(view.dtype, view.shape, [(region, copy.result()) for region, copy in copies[name]])
            for name, view in views.items()
        }
        wanted = {(name, region) for name, each in copied.items() for region, _ in each.parts}
        self._buffers = {key: buffer for key, buffer in self._buffers.items() if key in wanted}
        return copied

    def _copy(self, name: str, region: Region, values: np.ndarray) -> np.ndarray:
        buffer = self._buffers.get((name, region))
        if buffer is None or buffer.dtype != values.dtype:
            buffer = self._buffers[name, region] = np.empty(values.shape, values.dtype)
        # As bytes: numpy copies those without holding the interpreter's lock, whatever their dtype.
        np.copyto(buffer.reshape(-1).view(np.uint8), np.ascontiguousarray(values).reshape(-1).view(np.uint8))
        return buffer


def _own_shards(value: Any, number: int) -> list[tuple[Region, Any]]:
    holders: dict[Region, list[Any]] = {}
    for device, index in value.sharding.devices_indices_map(value.shape).items():
        holders.setdefault(region_of(index, value.shape), []).append(device)
    found = []
    for shard in value.addressable_shards:
        region = region_of(shard.index, value.shape)
        devices = sorted(holders[region], key=lambda device: device.id)
        if devices[number % len(devices)] == shard.device:
            found.append((region, shard))
    return found
