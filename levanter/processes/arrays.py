"""Arrays over the devices of several processes, from the rows that each process has, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from levanter.processes import errors
from levanter.processes.group import Group


def rows_here(sharding: jax.sharding.Sharding, shape: tuple[int, ...]) -> np.ndarray:
    """The rows of a batch that devices of this process hold, in order.

    Args:
        shape: of the batch; all its axes but the last number the rows, and only the first of them is sharded.
    """
    indices = sharding.addressable_devices_indices_map(shape).values()
    held = [index[0].indices(shape[0]) for index in indices if index]
    places = np.unique(np.concatenate([np.arange(first, last) for first, last, _ in held]))
    each = math.prod(shape[1:-1])
    return (places[:, None] * each + np.arange(each)).reshape(-1)


def from_rows(
    sharding: jax.sharding.Sharding, shape: tuple[int, ...], rows: np.ndarray, values: np.ndarray
) -> jax.Array:
    """A batch of which this process has some rows.

    Args:
        shape: as in `rows_here`.
        rows: those that it has, in order: the rows of `rows_here`.
        values: [row, position] of these.
    """
    each = math.prod(shape[1:-1])
    places, values = rows[::each] // each, values.reshape(-1, *shape[1:])

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index
        first, last, _ = index[0].indices(shape[0])
        start = int(np.searchsorted(places, first))
        return values[(slice(start, start + last - first), *index[1:])]

    return jax.make_array_from_callback(shape, sharding, part)


def check_devices(mesh: str | None, wanted: int, members: Group) -> None:
    """Hold the devices of a mesh against those of all processes.

    Args:
        mesh: as the user wrote it.

    Raises:
        UserError: it leaves some of them out, or wants more.
    """
    devices = jax.device_count()
    if members.count > 1 and (mesh is None or wanted != devices):
        raise errors.mesh_needs_all(mesh, wanted, devices, members.count)


def by_the_first(members: Group, tree: Any, use: Callable[[Any], None]) -> None:
    """`use(tree)` in the first process, with every array whole on one of its devices where several have parts of it.

    Every process calls it: they send what they have. The arrays pass through the memory of the hosts.
    """
    if members.count == 1:
        use(tree)
        return
    from jax.experimental import multihost_utils

    whole = multihost_utils.process_allgather(tree, tiled=True)
    if members.index == 0:
        device = jax.local_devices()[0]
        with jax.default_device(device):
            use(jax.device_put(whole, device))
