"""Loading: a checkpoint's arrays on devices, laid out as asked.

An array is read whole, verified, and only then laid out, so the mesh that loads need not be the mesh that saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from levanter.checkpoint import errors
from levanter.checkpoint.manifest import Manifest, read_manifest
from levanter.checkpoint.reading import for_each_array


def load(
    path: Path | str,
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
        DamagedCheckpoint: a byte of it is missing or altered.
        CheckpointMismatch: it holds other arrays than `like`, or 64-bit ones that JAX is not set to keep.
        UserError: there is no such checkpoint, or another format wrote it.
    """
    path = Path(path)
    whole = read_manifest(path)
    arrays = {name: record for name, record in whole.arrays.items() if name.startswith(part)}
    manifest = Manifest(whole.step, whole.metadata, arrays)
    if like is not None and (differences := _differences(manifest, like)):
        raise errors.mismatch(path, differences)
    names = list(manifest.arrays if like is None else like)

    def place(name: str, values: np.ndarray) -> jax.Array:
        placed = jax.device_put(values, None if shardings is None else shardings[name])
        if placed.dtype != values.dtype:  # JAX halves 64-bit values without a word unless told to keep them
            raise errors.needs_x64(path, name, values.dtype.name)
        return placed

    return dict(zip(names, for_each_array(path, manifest, names, place), strict=True))


def _differences(manifest: Manifest, like: Mapping[str, Any]) -> list[str]:
    found = [f"{name} is not in it" for name in like if name not in manifest.arrays]
    found += [f"{name} is in it and not expected" for name in manifest.arrays if name not in like]
    for name, expected in like.items():
        record = manifest.arrays.get(name)
        wanted = (np.dtype(expected.dtype).name, tuple(expected.shape))
        if record is not None and (record.dtype, record.shape) != wanted:
            found.append(f"{name} is {_type(record.dtype, record.shape)} and not {_type(*wanted)}")
    return found


def _type(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]"
