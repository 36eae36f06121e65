"""The safetensors format: a JSON header with dtype, shape and place of every tensor, then their bytes.

    8 bytes  length n of the header, little-endian
    n bytes  {"__metadata__": {"format": "pt"}, NAME: {"dtype": "F32", "shape": […], "data_offsets": [from, to]}, …}
    …        the bytes, in C order; a place counts from the end of the header

Both sides work through memory maps of one tensor at a time: what is not touched is not read, and a map that is dropped
takes its pages along. Files are laid out as the reference library does it, dtypes of more bytes first and names in
order within one, so that the same tensors give the same bytes. (https://huggingface.co/docs/safetensors)
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from levanter.hf import errors

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
# The reference's order of dtypes within a file, from the last to the first.
_RANKS = {
    code: rank for rank, code in enumerate(("BOOL", "U8", "I8", "I16", "F16", "BF16", "I32", "F32", "F64", "I64"))
}
_LONGEST_HEADER = 100_000_000


def holds(dtype: np.dtype[Any]) -> bool:
    """Whether the files can have tensors of this dtype."""
    return dtype in _CODES


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file: where it is, what it is, and its place in bytes from the start of the file."""

    file: Path
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def view(self, *, write: bool = False) -> np.ndarray:
        """The tensor as a memory map of its own, to be dropped when done with."""
        if self.nbytes == 0:
            return np.empty(self.shape, self.dtype)
        return np.memmap(self.file, self.dtype, "r+" if write else "r", self.offset, self.shape)


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the safetensors files of a model folder, by name.

    Raises:
        UserError: there are none, one that the index names is missing, or one is not whole.
    """
    index = folder / INDEX
    if index.exists():
        files = sorted(set(_weight_map(index).values()))
        for name in files:
            if not (folder / name).is_file():
                raise errors.shard_missing(index, name)
    elif (folder / SINGLE).is_file():
        files = [SINGLE]
    else:
        files = sorted(path.name for path in folder.glob("*.safetensors"))
    if not files:
        raise errors.no_weights(folder, sorted(path.name for path in folder.iterdir()))
    return {name: tensor for file in files for name, tensor in read_header(folder / file).items()}


def read_header(file: Path) -> dict[str, Tensor]:
    """Every tensor of one file, by name; no value is read.

    Raises:
        UserError: the file is not whole, or a dtype is none that can be read.
    """
    size = file.stat().st_size
    with open(file, "rb") as stream:
        start = stream.read(8)
        if start == b"version ":
            raise errors.not_safetensors(file, "it is a pointer of git-lfs (`git lfs pull` fetches what it points to)")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
            raise errors.not_safetensors(file, "its header does not fit in it")
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            return {name: _tensor(file, name, entry, 8 + length, size) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise errors.not_safetensors(file, "its header is damaged") from error


def _tensor(file: Path, name: str, entry: Mapping[str, Any], start: int, size: int) -> Tensor:
    if entry["dtype"] not in _DTYPES:
        raise errors.other_dtype(file, name, entry["dtype"], _DTYPES)
    first, last = entry["data_offsets"]
    found = Tensor(file, name, _DTYPES[entry["dtype"]], tuple(map(int, entry["shape"])), start + first)
    if last - first != found.nbytes or first < 0 or start + last > size:
        raise errors.not_safetensors(file, f"the bytes of `{name}` are cut off")
    return found


def _weight_map(index: Path) -> dict[str, str]:
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(file) for name, file in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.unreadable_json(index, f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Spec:
    """A tensor to be written."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def create_folder(folder: Path, tensors: Mapping[str, Spec], max_shard_bytes: int) -> dict[str, Tensor]:
    """Make the files for `tensors` in a folder, with all but their values, and the index where there are several.

    Args:
        tensors: in the order in which they are dealt out to files.
        max_shard_bytes: the most bytes of tensors in one file; a larger tensor has a file to itself.

    Returns: every tensor, to be filled through `view(write=True)`.
    """
    shards = list(_shards(tensors, max_shard_bytes))
    if len(shards) == 1:
        return create_file(folder / SINGLE, shards[0])
    created: dict[str, Tensor] = {}
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        created |= create_file(folder / name, shard)
        weight_map |= dict.fromkeys(shard, name)
    total = {
        "total_parameters": sum(math.prod(spec.shape) for spec in tensors.values()),
        "total_size": sum(spec.nbytes for spec in tensors.values()),
    }
    index = {"metadata": total, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return created


def create_file(file: Path, tensors: Mapping[str, Spec]) -> dict[str, Tensor]:
    """Make one file with all but the values."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    places = {}
    offset = 0
    for name, spec in sorted(tensors.items(), key=lambda item: (-_RANKS[_CODES[item[1].dtype]], item[0])):
        end = offset + spec.nbytes
        header[name] = {"dtype": _CODES[spec.dtype], "shape": list(spec.shape), "data_offsets": [offset, end]}
        places[name] = offset
        offset = end
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    with open(file, "wb") as stream:
        stream.write(struct.pack("<Q", len(content)) + content)
        os.ftruncate(stream.fileno(), stream.tell() + offset)
    start = 8 + len(content)
    return {name: Tensor(file, name, spec.dtype, spec.shape, start + places[name]) for name, spec in tensors.items()}


def _shards(tensors: Mapping[str, Spec], most: int) -> Iterator[dict[str, Spec]]:
    shard: dict[str, Spec] = {}
    size = 0
    for name, spec in tensors.items():
        if spec.nbytes > most:
            yield {name: spec}
            continue
        if shard and size + spec.nbytes > most:
            yield shard
            shard, size = {}, 0
        shard[name] = spec
        size += spec.nbytes
    if shard or not tensors:
        yield shard
