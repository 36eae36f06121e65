"""Loading: a checkpoint's arrays on devices, laid out as asked.

Of each array those blocks are read, once, that the devices of this process need a part of, each of them verified by its
own checksum. So the mesh and the processes that load need not be those that saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from levanter.checkpoint import errors
from levanter.checkpoint.locations import Location, location
from levanter.checkpoint.manifest import ArrayRecord
from levanter.checkpoint.reading import arrays_below, checked_manifest, in_threads, read_array, read_regions
from levanter.checkpoint.regions import region_of


def load(
    path: Location | str,
    *,
    like: Mapping[str, Any] | None = None,
    shardings: Mapping[str, jax.sharding.Sharding] | None = None,
    part: str = "",
) -> dict[str, jax.Array]:
    """The arrays of the checkpoint `path`, on devices.

    Args:
        like: the arrays to expect, each with a `shape` and a `dtype`; the result has their order. None takes all there
            are, in name order.
        shardings: how to lay each of them out; None puts all on the default device.
        part: the start of the names of the arrays to load, such as `model.`; the others are not read.

    Raises:
        DamagedCheckpoint: a byte of what is read is missing or altered.
        CheckpointMismatch: it holds other arrays than `like`, or 64-bit ones that JAX is not set to keep.
        UserError: there is no such checkpoint, or another format wrote it.
    """
    path = location(path)
    manifest = checked_manifest(path)
    arrays = arrays_below(manifest, part)
    if like is not None and (differences := _differences(arrays, like)):
        raise errors.mismatch(path, differences)
    names = list(arrays if like is None else like)

    def one(name: str) -> jax.Array:
        placed = _placed(path, name, arrays[name], None if shardings is None else shardings[name])
        if placed.dtype != arrays[name].numpy_dtype:  # JAX halves 64-bit values without a word unless told to keep them
            raise errors.needs_x64(path, name, arrays[name].dtype)
        return placed

    return dict(zip(names, in_threads(names, one), strict=True))


def _placed(path: Location, name: str, record: ArrayRecord, sharding: jax.sharding.Sharding | None) -> jax.Array:
    if sharding is None:
        return jax.device_put(read_array(path, name, record))
    needed = {
        region_of(index or (), record.shape)
        for index in sharding.addressable_devices_indices_map(record.shape).values()
    }
    values = read_regions(path, name, record, needed)

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        return values[region_of(index or (), record.shape)]

    return jax.make_array_from_callback(record.shape, sharding, part)


def _differences(arrays: Mapping[str, ArrayRecord], like: Mapping[str, Any]) -> list[str]:
    found = [f"{name} is not in it" for name in like if name not in arrays]
    found += [f"{name} is in it and not expected" for name in arrays if name not in like]
    for name, expected in like.items():
        record = arrays.get(name)
        wanted = (np.dtype(expected.dtype).name, tuple(expected.shape))
        if record is not None and (record.dtype, record.shape) != wanted:
            found.append(f"{name} is {_type(record.dtype, record.shape)} and not {_type(*wanted)}")
    return found


def _type(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]"
