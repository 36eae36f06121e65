"""The devices of a mesh in the order in which it was priced: each mesh axis on its own part of the physical network.

A TPU says of each chip where it is (`coords`, and `slice_index` where there are several slices). JAX lists chips by
number, so a mesh that takes them as they are listed lies in the torus as it happens. GPUs are listed node by node.
"""

from collections.abc import Sequence
from itertools import permutations
from math import prod
from typing import Any

import numpy as np

from passes.hardware.network import Network
from passes.hardware.torus import Torus
from passes.sharding.mesh import IntArray


def arranged(devices: Sequence[Any], network: Network) -> list[Any]:
    """The devices of a mesh, row-major over it; as they are given where they are not chips of slices that have the form
    that was priced, or where mesh axes do not fill islands evenly."""
    torus, islands = network.torus, network.islands
    sizes, inside = network.mesh.sizes, islands.inside
    if not islands.even or len(devices) != prod(sizes):
        return list(devices)
    grid = np.empty((len(devices) // islands.size, *inside), dtype=object)
    if torus is None:
        for i in range(len(grid)):
            node = np.empty(islands.size, dtype=object)
            node[:] = devices[i * islands.size : (i + 1) * islands.size]
            grid[i] = node.reshape(inside)
        return _row_major(grid, sizes)
    by_slice: dict[int, list[Any]] = {}
    for device in devices:
        by_slice.setdefault(getattr(device, "slice_index", None) or 0, []).append(device)
    placed = [_placed(by_slice[i], torus.form) for i in sorted(by_slice)]
    if any(each is None for each in placed) or len(placed) != len(grid):
        return list(devices)
    for i, chips in enumerate(placed):
        grid[i] = _along(chips, torus)
    return _row_major(grid, sizes)


def _row_major(grid: Any, sizes: Sequence[int]) -> list[Any]:
    """[island, place along each mesh axis within it] → all devices; from island to island go the outer parts of mesh
    axes."""
    inside, rank = grid.shape[1:], len(sizes)
    outside = [size // part for size, part in zip(sizes, inside, strict=True)]
    split = grid.reshape(*outside, *inside)
    pairs = [place for i in range(rank) for place in (i, rank + i)]
    return list(split.transpose(pairs).reshape(-1))


def _placed(chips: Sequence[Any], form: Sequence[int]) -> Any:
    """[place along each dim of the form] → chip; None where the chips are of another form."""
    known = [getattr(chip, "coords", None) for chip in chips]
    if any(each is None for each in known):
        return None
    coords: IntArray = np.array(known, dtype=np.int64)
    coords -= coords.min(axis=0)
    found = tuple(int(size) for size in coords.max(axis=0) + 1)
    padded = (*form, *(1,) * (len(found) - len(form)))
    order = next((each for each in permutations(range(len(found))) if tuple(found[i] for i in each) == padded), None)
    if order is None or len({tuple(each) for each in coords.tolist()}) != len(chips) or prod(found) != len(chips):
        return None
    grid = np.empty(padded, dtype=object)
    for chip, place in zip(chips, coords[:, list(order)].tolist(), strict=True):
        grid[tuple(place)] = chip
    return grid.reshape(form)


def _along(chips: Any, torus: Torus) -> Any:
    """[place along each dim] → [place along each mesh axis]."""
    nested, dims = torus.nested, range(len(torus.form))
    split = chips.reshape([torus.parts[axis][dim] for dim in dims for axis in nested])
    place = {axis: i for i, axis in enumerate(nested)}
    order = [dim * len(nested) + place[axis] for axis in range(len(nested)) for dim in dims]
    return split.transpose(order).reshape([prod(each) for each in torus.parts])
