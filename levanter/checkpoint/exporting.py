"""Checkpoints in other forms: the arrays as one file that other programs read, and an older format as the newest."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from levanter import durable
from levanter.checkpoint import errors
from levanter.checkpoint.locations import Location, location
from levanter.checkpoint.manifest import FORMAT, ArrayRecord, Manifest, read_manifest
from levanter.checkpoint.reading import arrays_below, checked_manifest, read_array, read_regions
from levanter.checkpoint.regions import whole
from levanter.checkpoint.writing import BLOCK_BYTES, save
from levanter.hf import safetensors

SAFETENSORS, NPZ = ".safetensors", ".npz"


def export(path: Location | str, target: Path, part: str = "") -> list[str]:
    """Write the arrays of a checkpoint as one file, a part of an array at a time; returns their names.

    Args:
        target: the file, which ends in `.safetensors` or `.npz`; it is there whole or not at all.
        part: the start of the names of the arrays that are wanted, such as `model.`.

    Raises:
        DamagedCheckpoint: a byte of it is missing or altered.
        UserError: there is no such checkpoint, the file is there already, or it cannot hold what the checkpoint does.
        WorkFailed: the file cannot be written.
    """
    path = location(path)
    if target.suffix not in (SAFETENSORS, NPZ):
        raise errors.unknown_export(target)
    if target.exists():
        raise errors.target_exists(target)
    arrays = arrays_below(checked_manifest(path), part)
    if not arrays:
        raise errors.no_arrays(path, part)
    for name, record in arrays.items():
        if not _holds(target.suffix, record):
            raise errors.no_export_dtype(name, record.dtype, target.suffix)
    staged = target.with_name(f".{target.name}.tmp{target.suffix}")
    try:
        (_write_safetensors if target.suffix == SAFETENSORS else _write_npz)(path, arrays, staged)
        durable.sync(staged)
        os.replace(staged, target)
        durable.sync(target.absolute().parent)
    except OSError as error:
        raise errors.cannot_export(target, error) from error
    finally:
        with contextlib.suppress(OSError):  # a disk that cannot be written has no such file
            staged.unlink(missing_ok=True)
    return list(arrays)


def convert(path: Location | str, directory: Location | str) -> Location:
    """Write a checkpoint of an older format in the newest one, as `step-N` of another folder; returns where.

    Raises:
        DamagedCheckpoint: a byte of it is missing or altered.
        UserError: there is no such checkpoint, it has the newest format already, or it is there already.
        WorkFailed: the new one cannot be written.
    """
    path = location(path)
    manifest = read_manifest(path)
    if manifest.format == FORMAT:
        raise errors.newest_already(path, FORMAT)
    try:
        return save(directory, manifest.step, _Arrays(path, manifest), manifest.metadata)
    except FileExistsError as error:
        raise errors.target_exists(location(directory) / f"step-{manifest.step}") from error


class _Arrays(Mapping[str, np.ndarray]):
    """The arrays of a checkpoint, each read when it is asked for."""

    def __init__(self, path: Location, manifest: Manifest) -> None:
        self._path, self._manifest = path, manifest

    def __getitem__(self, name: str) -> np.ndarray:
        return read_array(self._path, name, self._manifest.arrays[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._manifest.arrays)

    def __len__(self) -> int:
        return len(self._manifest.arrays)


def _holds(suffix: str, record: ArrayRecord) -> bool:
    if suffix == SAFETENSORS:
        return safetensors.holds(record.numpy_dtype)
    return record.numpy_dtype.kind in "biufc"  # those that numpy has without `ml_dtypes`


def _write_safetensors(path: Location, arrays: Mapping[str, ArrayRecord], staged: Path) -> None:
    specs = {name: safetensors.Spec(record.numpy_dtype, record.shape) for name, record in arrays.items()}
    for name, tensor in safetensors.create_file(staged, specs).items():
        record, target = arrays[name], tensor.view(write=True)
        for region in whole(record.shape).cut(record.numpy_dtype.itemsize, BLOCK_BYTES):
            target[region.slices()] = read_regions(path, name, record, [region])[region]


def _write_npz(path: Location, arrays: Mapping[str, ArrayRecord], staged: Path) -> None:
    with zipfile.ZipFile(staged, "w", zipfile.ZIP_STORED) as archive:
        for name, record in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                npy.write_array(stream, read_array(path, name, record))
