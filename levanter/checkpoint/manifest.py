"""The manifest: what a checkpoint holds, and the SHA-256 of all of it.

`manifest.json` names every array with its dtype, its shape, the SHA-256 of its raw bytes (C order, little-endian) and
of its `zarr.json`, and the size of each of its files (zarr reads a missing chunk as zeros, without a word).
`manifest.sha256` holds the SHA-256 of `manifest.json` itself, in the form that `sha256sum -c` reads. So each byte of a
checkpoint is covered: the manifest by its checksum, the metadata and the values by the manifest, and each chunk also by
its own CRC-32C.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from levanter.checkpoint import errors
from levanter.checkpoint.directory import check_name

FORMAT = 1

_FILE = "manifest.json"
_CHECKSUM_FILE = "manifest.sha256"


@dataclass(frozen=True)
class ArrayRecord:
    """One array of a checkpoint: its type, and the checksums and sizes (bytes, by path) that its files must have."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str
    zarr_sha256: str
    files: dict[str, int]


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds. `arrays` is in name order."""

    step: int
    metadata: dict[str, Any]
    arrays: dict[str, ArrayRecord]


def array_folder(checkpoint: Path, name: str) -> Path:
    """Where the array called `name` is kept in a checkpoint."""
    return checkpoint / "arrays" / quote(name, safe="")


def write_manifest(checkpoint: Path, manifest: Manifest) -> None:
    """Write both manifest files into the folder of a checkpoint that is being made."""
    content = (json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1) + "\n").encode()
    (checkpoint / _FILE).write_bytes(content)
    (checkpoint / _CHECKSUM_FILE).write_bytes(_checksum_line(content))


def read_manifest(checkpoint: Path) -> Manifest:
    """The manifest of the checkpoint in the folder `checkpoint`.

    Raises:
        DamagedCheckpoint: a manifest file is missing or altered.
        UserError: there is no such folder, another format wrote it, or it has the name of another step.
    """
    if not checkpoint.is_dir():
        raise errors.no_such_path(checkpoint)
    try:
        content = (checkpoint / _FILE).read_bytes()
        checksum = (checkpoint / _CHECKSUM_FILE).read_bytes()
    except OSError as error:
        raise errors.damaged(checkpoint, f"{Path(error.filename).name} cannot be read: {error.strerror}") from error
    if checksum != _checksum_line(content):
        raise errors.damaged(checkpoint, f"{_FILE} does not match {_CHECKSUM_FILE}")
    fields = json.loads(content)
    if fields["format"] != FORMAT:
        raise errors.other_format(checkpoint, fields["format"], FORMAT)
    check_name(checkpoint, fields["step"])
    arrays = {
        name: ArrayRecord(**{**record, "shape": tuple(record["shape"])}) for name, record in fields["arrays"].items()
    }
    return Manifest(fields["step"], fields["metadata"], arrays)


def _checksum_line(content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {_FILE}\n".encode()
