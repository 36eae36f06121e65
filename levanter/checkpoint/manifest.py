"""The manifest: what a checkpoint holds, where each part of it is, and the SHA-256 of all of it.

`manifest.json` names every array with its dtype and its shape, and cuts it into blocks: where a block begins in the
array, its shape, the file and the offset at which its bytes are (C order, little-endian, one block after the other),
and their SHA-256. It also has the size of every file. `manifest.sha256` holds the SHA-256 of `manifest.json` itself, in
the form that `sha256sum -c` reads. So each byte of a checkpoint is covered, and bound to its step, its array and its
place in it: the blocks by the manifest, the manifest by its checksum.

    step-7/data/00000-0-0     blocks, as one thread of process 0 wrote them
           manifest.json
           manifest.sha256

Format 1, which is read but no longer written, has an array to a folder (see `levanter.checkpoint.format_1`).
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import ml_dtypes
import numpy as np

from levanter.checkpoint import errors
from levanter.checkpoint.directory import check_name, missing
from levanter.checkpoint.format_1 import FORMAT_1, ZarrFiles
from levanter.checkpoint.locations import Location, location
from levanter.checkpoint.opening import place_of
from levanter.checkpoint.places import MARKER, Place
from levanter.checkpoint.regions import Region

FORMAT = 2

_FILE = "manifest.json"


@dataclass(frozen=True)
class Block:
    """A part of an array, and the place of its bytes."""

    region: Region
    file: str
    offset: int
    sha256: str


@dataclass(frozen=True)
class ArrayRecord:
    """One array of a checkpoint: its type and its parts; `zarr` in their place where format 1 wrote it."""

    dtype: str
    shape: tuple[int, ...]
    blocks: tuple[Block, ...] = ()
    zarr: ZarrFiles | None = None

    @cached_property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype; numpy has those of machine learning from `ml_dtypes`."""
        return np.dtype(getattr(ml_dtypes, self.dtype, self.dtype))

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.numpy_dtype.itemsize

    @property
    def blocks_follow_one_another(self) -> bool:
        """Whether the blocks, one after the other, are the array's values in C order."""
        done = 0
        for block in self.blocks:
            if block.region.offset_in(self.shape) != done:
                return False
            done += block.region.size
        return done == int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds. `arrays` is in name order; `files` has the size of each file with blocks in bytes."""

    step: int
    metadata: dict[str, Any]
    arrays: dict[str, ArrayRecord]
    files: dict[str, int]
    format: int = FORMAT
    written: float | None = None
    """When it was written, in seconds since 1970; None where that is not known."""

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return sum(record.nbytes for record in self.arrays.values())


def write_manifest(place: Place, manifest: Manifest) -> None:
    """Write both manifest files into a checkpoint that is being made; the last of them is what makes it one."""
    head = {
        "format": FORMAT,
        "step": manifest.step,
        "written": round(time.time(), 3),
        "metadata": manifest.metadata,
        "files": manifest.files,
    }
    lines = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
    arrays = (f"{json.dumps(name)}: {json.dumps(record_to_json(each))}" for name, each in manifest.arrays.items())
    content = ("{" + ",\n".join([*lines, '"arrays": {' + ",\n ".join(arrays) + "}"]) + "}\n").encode()
    place.write(_FILE, [content])
    place.write(MARKER, [_checksum_line(content)])


def read_manifest(path: Location | str) -> Manifest:
    """The manifest of a checkpoint.

    Raises:
        DamagedCheckpoint: a manifest file is missing or altered.
        UserError: there is no such folder, another format wrote it, or it has the name of another step.
    """
    path = location(path)
    place = place_of(path)
    if not place.exists():
        raise missing(path)
    content, checksum = (_read(place, file) for file in (_FILE, MARKER))
    if checksum != _checksum_line(content):
        raise errors.damaged(path, f"{_FILE} does not match {MARKER}")
    try:
        fields = json.loads(content)
        version = fields["format"]
        if version not in (FORMAT_1, FORMAT):
            raise errors.other_format(path, version, FORMAT)
        check_name(path, fields["step"])
        read = record_of_json if version == FORMAT else _record_of_format_1
        arrays = {name: read(record) for name, record in fields["arrays"].items()}
        metadata, files, written = fields["metadata"], fields.get("files", {}), fields.get("written")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise errors.damaged(path, f"{_FILE} is not that of a checkpoint") from error
    return Manifest(fields["step"], metadata, arrays, files, version, written)


def record_to_json(record: ArrayRecord) -> dict[str, Any]:
    """An array as the manifest has it."""
    blocks = [[b.file, b.offset, b.region.start, b.region.shape, b.sha256] for b in record.blocks]
    return {"dtype": record.dtype, "shape": record.shape, "blocks": blocks}


def record_of_json(fields: dict[str, Any]) -> ArrayRecord:
    """The same, back."""
    blocks = (
        Block(Region(tuple(start), tuple(shape)), file, offset, sha256)
        for file, offset, start, shape, sha256 in fields["blocks"]
    )
    return ArrayRecord(fields["dtype"], tuple(fields["shape"]), tuple(blocks))


def _record_of_format_1(fields: dict[str, Any]) -> ArrayRecord:
    zarr = ZarrFiles(fields["sha256"], fields["zarr_sha256"], fields["files"])
    return ArrayRecord(fields["dtype"], tuple(fields["shape"]), zarr=zarr)


def _read(place: Place, file: str) -> bytes:
    try:
        return place.read(file)
    except OSError as error:
        reason = "No such file or directory" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise errors.damaged(place.path, f"{PurePosixPath(file).name} cannot be read: {reason}") from error


def _checksum_line(content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {_FILE}\n".encode()
