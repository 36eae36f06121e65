"""What a process writes of a state: the shards that its devices hold, each shard once among all processes.

A shard that several devices hold (of an array that is replicated, or sharded over some axes of the mesh only) is
written by one of them; which one goes round with the arrays, so that each process has its share. Every process works
that out for itself, from the sharding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from levanter.checkpoint.regions import Region, region_of, whole

if TYPE_CHECKING:
    import jax

_THREADS = 4
_SPARE = 0.9
"""Of a device's free memory, what copies may take."""


@dataclass(frozen=True)
class Held:
    """An array, and the parts of it that this process writes; those on a device are fetched by who writes them."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    parts: list[tuple[Region, Any]]


def held(value: Any, number: int, process: int) -> Held:
    """The parts of an array that process `process` writes.

    Args:
        value: a jax.Array, something like a numpy array (the first process writes it), or what `Staging` has made.
        number: of the array among those of the state, the same in every process.
    """
    if isinstance(value, Held):
        return value
    if not hasattr(value, "addressable_shards"):
        values = np.asarray(value)
        values = np.asarray(values, values.dtype.newbyteorder("="), order="C")
        return Held(values.dtype, values.shape, [(whole(values.shape), values)] if process == 0 else [])
    return Held(np.dtype(value.dtype), tuple(value.shape), _own_shards(value, number))


class Staging:
    """Copies states out of the way of the step that overwrites them.

    Where the devices have room, the copy is made there, which the loop does not wait for, and fetched by who writes it.
    Else it is made in the host's memory, in the same place each time: fresh pages cost more than the copy.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, Region], np.ndarray] = {}

    def prepared(self, tree: Mapping[str, jax.Array | np.ndarray], process: int) -> Callable[[], None]:
        """What takes the host's memory for copies of `tree`, if they are made there; it may run in another thread, and
        has to be done before the first copy. Pages that are taken while steps run cost the loop nothing."""
        parts = _parts(tree, process)
        on_devices = [values for _, _, values in parts if not isinstance(values, np.ndarray)]
        on_host = len(on_devices) < len(parts) or not have_room(on_devices)
        wanted = [(name, region, values.dtype) for name, region, values in parts] if on_host else []

        def take() -> None:
            for name, region, dtype in wanted:
                buffer = np.empty(region.shape, dtype)
                buffer.reshape(-1).view(np.uint8).fill(0)
                self._buffers[name, region] = buffer

        return take

    def copied(self, tree: Mapping[str, jax.Array | np.ndarray], process: int) -> dict[str, Held]:
        """A copy of what this process writes of `tree`; it lasts until the next one."""
        views = {name: held(tree[name], number, process) for number, name in enumerate(sorted(tree))}
        parts = _parts(views, process)
        copies = self._copies(parts)
        found: dict[str, list[tuple[Region, Any]]] = {name: [] for name in views}
        for (name, region, _), copy in zip(parts, copies, strict=True):
            found[name].append((region, copy))
        return {name: Held(view.dtype, view.shape, found[name]) for name, view in views.items()}

    def _copies(self, parts: list[tuple[str, Region, Any]]) -> list[Any]:
        on_devices = [values for _, _, values in parts if not isinstance(values, np.ndarray)]
        if len(on_devices) == len(parts) and have_room(on_devices):
            self._buffers = {}
            return copies_on_devices(on_devices)
        for values in on_devices:  # all of them are on their way before the first is waited for
            values.copy_to_host_async()
        with ThreadPoolExecutor(_THREADS) as threads:
            copies = list(threads.map(lambda part: self._copy(*part), parts))
        self._buffers = {(name, region): copy for (name, region, _), copy in zip(parts, copies, strict=True)}
        return copies

    def _copy(self, name: str, region: Region, values: Any) -> np.ndarray:
        values = np.ascontiguousarray(np.asarray(values)).reshape(region.shape)
        buffer = self._buffers.get((name, region))
        if buffer is None or buffer.dtype != values.dtype:
            buffer = np.empty(values.shape, values.dtype)
        # As bytes: numpy copies those without holding the interpreter's lock, whatever their dtype.
        np.copyto(buffer.reshape(-1).view(np.uint8), values.reshape(-1).view(np.uint8))
        return buffer


def _parts(tree: Mapping[str, Any], process: int) -> list[tuple[str, Region, Any]]:
    """Every part that this process writes of the arrays of `tree`, by name."""
    views = ((name, held(tree[name], number, process)) for number, name in enumerate(sorted(tree)))
    return [(name, region, values) for name, view in views for region, values in view.parts]


def have_room(shards: Sequence[Any]) -> bool:
    """Whether each device has room for a copy of those of `shards` that it holds. A CPU's memory is the host's own."""
    for device, its in _by_device(shards).items():
        stats = device.memory_stats() or {}
        free = stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0)
        if sum(shard.nbytes for _, shard in its) > _SPARE * free:
            return False
    return True


def copies_on_devices(shards: Sequence[Any]) -> list[Any]:
    """A copy of each of these arrays of one device, on that device; it is on its way to the host when it is made."""
    copies: list[Any] = [None] * len(shards)
    for its in _by_device(shards).values():
        made = _copier()([shard for _, shard in its])
        for (number, _), copy in zip(its, made, strict=True):
            copy.copy_to_host_async()
            copies[number] = copy
    return copies


@cache
def _copier() -> Callable[[list[Any]], list[Any]]:
    import jax

    return jax.jit(lambda values: [value.copy() for value in values])


def _by_device(shards: Sequence[Any]) -> dict[Any, list[tuple[int, Any]]]:
    found: dict[Any, list[tuple[int, Any]]] = {}
    for number, shard in enumerate(shards):
        (device,) = shard.devices()
        found.setdefault(device, []).append((number, shard))
    return found


def _own_shards(value: Any, number: int) -> list[tuple[Region, Any]]:
    holders: dict[Region, list[Any]] = {}
    for device, index in value.sharding.devices_indices_map(value.shape).items():
        holders.setdefault(region_of(index, value.shape), []).append(device)
    found = []
    for shard in value.addressable_shards:
        region = region_of(shard.index, value.shape)
        devices = sorted(holders[region], key=lambda device: device.id)
        if devices[number % len(devices)] == shard.device:
            found.append((region, shard.data))
    return found
