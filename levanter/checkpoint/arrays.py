"""One array on the disk: zarr 3 through tensorstore, each chunk closed by a CRC-32C.

Chunks are not compressed: zstd takes 8% off float32 weights and makes the write 2.5 times as long. An array is one file
up to 64 MiB and is cut along its leading axes beyond that.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from levanter import durable
from levanter.checkpoint import errors
from levanter.checkpoint.manifest import ArrayRecord, array_folder

CHUNK_BYTES = 64 << 20

_SYSTEM_ERROR = re.compile(r"os_error_code='(\d+)'")


def write_array(checkpoint: Path, name: str, values: np.ndarray, chunk_bytes: int = CHUNK_BYTES) -> ArrayRecord:
    """Write `values` as the array `name` of a checkpoint that is being made. The caller flushes the files.

    Raises:
        OSError: the disk is full or fails.
    """
    import tensorstore

    values = np.asarray(values, values.dtype.newbyteorder("="), order="C")
    folder = array_folder(checkpoint, name)
    try:
        store = tensorstore.open(_spec(folder, values, chunk_bytes), create=True).result()
        store.write(values, can_reference_source_data_indefinitely=True).result()
    except ValueError as error:
        # tensorstore raises ValueError for everything; a refusal of the system has its number in the text.
        if code := _SYSTEM_ERROR.search(str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
        raise
    return ArrayRecord(
        dtype=values.dtype.name,
        shape=values.shape,
        sha256=sha256_values(values),
        zarr_sha256=durable.sha256_file(folder / "zarr.json"),
        files=_sizes(folder),
    )


def read_array(checkpoint: Path, name: str, record: ArrayRecord) -> np.ndarray:
    """The values of the array `name`, compared with their checksums.

    Raises:
        DamagedCheckpoint: a file of the array is missing or altered.
    """
    import tensorstore

    folder = array_folder(checkpoint, name)
    try:
        if problem := _wrong_size(_sizes(folder), record.files):
            raise errors.damaged(checkpoint, f"array {name}: {problem}")
        if durable.sha256_file(folder / "zarr.json") != record.zarr_sha256:
            raise errors.damaged(checkpoint, f"array {name}: zarr.json does not match its checksum")
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/"}}
        values = tensorstore.open(spec, open=True, read=True).result().read().result()
    except (OSError, ValueError) as error:
        raise errors.damaged(checkpoint, f"array {name}: its values cannot be read") from error
    if sha256_values(values) != record.sha256:
        raise errors.damaged(checkpoint, f"array {name}: its values do not match their checksum")
    return values


def sha256_values(values: np.ndarray) -> str:
    """SHA-256 of the raw bytes of a C-ordered array, in hexadecimal."""
    return hashlib.sha256(values.reshape(-1).view(np.uint8).data).hexdigest()


def chunk_shape(shape: Sequence[int], itemsize: int, chunk_bytes: int) -> list[int]:
    """The largest chunk of at most `chunk_bytes` that is whole along the trailing axes (never less than one value)."""
    chunk = [max(1, size) for size in shape]
    for axis in range(len(chunk)):
        rest = int(np.prod(chunk[axis + 1 :], dtype=np.int64)) * itemsize
        chunk[axis] = max(1, min(chunk[axis], chunk_bytes // rest))
        if chunk[axis] * rest <= chunk_bytes:
            break
    return chunk


def _wrong_size(found: dict[str, int], wanted: dict[str, int]) -> str | None:
    """The first file that is missing, too many, or not as long as it was."""
    for file in sorted(found.keys() | wanted.keys()):
        if file not in found:
            return f"{file} is missing"
        if file not in wanted:
            return f"{file} does not belong to it"
        if found[file] != wanted[file]:
            return f"{file} has {found[file]} bytes and not {wanted[file]}"
    return None


def _sizes(folder: Path) -> dict[str, int]:
    """The size in bytes of every file below `folder`, by its path there, in the order of the paths."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _spec(folder: Path, values: np.ndarray, chunk_bytes: int) -> dict[str, Any]:
    endian = {"configuration": {"endian": "little"}} if values.dtype.itemsize > 1 else {}
    chunk = chunk_shape(values.shape, values.dtype.itemsize, chunk_bytes)
    return {
        "driver": "zarr3",
        # Flushing each file as it is written is slower than flushing the finished tree at once.
        "kvstore": {"driver": "file", "path": f"{folder}/", "file_io_sync": False},
        "metadata": {
            "shape": list(values.shape),
            "data_type": values.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "codecs": [{"name": "bytes", **endian}, {"name": "crc32c"}],
        },
        # A chunk of zeros is written too, or -0.0 could come back as 0.0.
        "store_data_equal_to_fill_value": True,
    }
