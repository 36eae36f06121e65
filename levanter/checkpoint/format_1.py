"""Format 1, read only: an array to a folder, as zarr 3 lays it out, not compressed.

    arrays/NAME/zarr.json     shape, dtype, and the shape of a chunk
                c/0/1         the chunk at place (0, 1) of the grid: its values and a CRC-32C; a scalar has `c` alone

The manifest has the SHA-256 of all values in C order. (https://zarr-specs.readthedocs.io/en/latest/v3/core/)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from levanter.checkpoint import errors
from levanter.checkpoint.places import Place

FORMAT_1 = 1

_METADATA = "zarr.json"


@dataclass(frozen=True)
class ZarrFiles:
    """The checksums and sizes (bytes, by path) that the files of an array must have."""

    sha256: str
    zarr_sha256: str
    files: dict[str, int]


def read_zarr(
    checkpoint: Place, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], expected: ZarrFiles
) -> np.ndarray:
    """The values of the array `name`, compared with their checksums.

    Raises:
        DamagedCheckpoint: a file of the array is missing or altered.
    """
    folder = checkpoint.child("arrays").child(quote(name, safe=""))
    try:
        if problem := wrong_size(folder.files(), expected.files):
            raise errors.damaged(checkpoint.path, f"array {name}: {problem}")
        metadata = folder.read(_METADATA)
        if hashlib.sha256(metadata).hexdigest() != expected.zarr_sha256:
            raise errors.damaged(checkpoint.path, f"array {name}: {_METADATA} does not match its checksum")
        values = _read({file: folder.read(file) for file in expected.files})
    except (OSError, ValueError) as error:
        raise errors.damaged(checkpoint.path, f"array {name}: its values cannot be read") from error
    if values.dtype != dtype or values.shape != shape:
        raise errors.damaged(checkpoint.path, f"array {name}: {_METADATA} is that of another array")
    if hashlib.sha256(values.reshape(-1).view(np.uint8).data).hexdigest() != expected.sha256:
        raise errors.damaged(checkpoint.path, f"array {name}: its values do not match their checksum")
    return values


def wrong_size(found: dict[str, int], wanted: dict[str, int]) -> str | None:
    """The first file that is missing, too many, or not as long as it was."""
    for file in sorted(found.keys() | wanted.keys()):
        if file not in found:
            return f"{file} is missing"
        if file not in wanted:
            return f"{file} does not belong to it"
        if found[file] != wanted[file]:
            return f"{file} has {found[file]} bytes and not {wanted[file]}"
    return None


def _read(files: dict[str, bytes]) -> np.ndarray:
    """The array that files of zarr 3 hold, by their paths."""
    import tensorstore

    context = tensorstore.Context()
    memory = {"driver": "memory"}
    store = tensorstore.KvStore.open(memory, context=context).result()
    for path, content in files.items():
        store.write(path, content).result()
    spec = {"driver": "zarr3", "kvstore": memory}
    values: np.ndarray = tensorstore.open(spec, context=context, open=True, read=True).result().read().result()
    return values
