"""The tokens of a corpus with its two sides: a list of chunks, and which stretches of them each side is made of.

A view is a folder named by the identity of the data. It holds no token itself: `manifest.json` lists the chunks, and
for each side there are arrays of whole numbers (`levanter.data.tokens.Spans`). What files the chunks are is remembered
in `seen.json`: a file whose size, time or inode is another one than the last time is read and held against its checksum
before it is used; the others are not read at the start of a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from levanter import durable
from levanter.data import chunks
from levanter.data.chunks import Chunk
from levanter.data.corpus import HELDOUT, TRAIN
from levanter.data.split import BY_TAIL, NAMED_HELDOUT, UNNAMED, threshold
from levanter.data.tokens import SpannedTokens, Spans

SIDES = (TRAIN, HELDOUT)
_ARRAYS = ("starts", "sources", "ends", "counts")
_FORMAT = 1


@dataclass(frozen=True)
class View:
    """A corpus as it lies in the cache.

    Attributes:
        folder: of the view.
        chunk_folder: of all chunks.
        manifest: what `manifest.json` says.
    """

    folder: Path
    chunk_folder: Path
    manifest: dict[str, Any]

    @property
    def key(self) -> str:
        """The identity of the data."""
        return self.manifest["key"]

    @property
    def chunk_keys(self) -> list[str]:
        """The keys of its chunks, in the order of the text."""
        return [key for key, _ in self.manifest["chunks"]]

    def tokens(self, side: str) -> SpannedTokens:
        """The ids of a side."""
        firsts = np.cumsum([0, *(tokens for _, tokens in self.manifest["chunks"])])
        spans = Spans(*(_array(self.folder / f"{side}.{name}") for name in _ARRAYS))
        return SpannedTokens(spans, firsts, self._ids_of)

    def _ids_of(self, number: int) -> np.ndarray:
        key, _ = self.manifest["chunks"][number]
        return chunks.read(chunks.path_of(self.chunk_folder, key)).ids

    def files(self) -> Iterator[tuple[str, Path]]:
        """Every file by what it is called in `seen.json`."""
        for side in SIDES:
            for name in _ARRAYS:
                yield f"{side}.{name}", self.folder / f"{side}.{name}"
        for key, _ in self.manifest["chunks"]:
            yield key, chunks.path_of(self.chunk_folder, key)


def _array(path: Path) -> np.ndarray:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, np.int64)
    return np.asarray(np.memmap(path, "<i8", mode="r"))


def opened(folder: Path, chunk_folder: Path) -> View:
    """The view in a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: what is wrong with it, in a few words.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        view = View(folder, chunk_folder, manifest)
        fitting = manifest["format"] == _FORMAT and manifest["chunks"] is not None and view.key
    except FileNotFoundError:
        if folder.exists():
            raise ValueError("manifest.json is missing") from None
        raise
    except (ValueError, KeyError, TypeError):
        fitting = False
    if not fitting:
        raise ValueError("manifest.json cannot be read")
    return view


def check(view: View, everything: bool = False) -> None:
    """Look at the files of a view: those that have changed since the last time, or all of them.

    Raises:
        ValueError: what is wrong with one, in a few words.
    """
    seen_path = view.folder / "seen.json"
    seen: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        seen = json.loads(seen_path.read_bytes())
    now = {}
    for name, path in view.files():
        try:
            found = path.stat()
        except FileNotFoundError:
            raise ValueError(f"{path.name} is missing") from None
        now[name] = [found.st_size, found.st_mtime_ns, found.st_ino]
        if not everything and seen.get(name) == now[name]:
            continue
        if (trouble := _trouble(view, name, path)) is not None:
            raise ValueError(trouble)
    if now != seen:
        with contextlib.suppress(OSError):  # a cache that cannot be written can be read all the same
            durable.write_file(seen_path, json.dumps(now).encode())


def _trouble(view: View, name: str, path: Path) -> str | None:
    if name not in view.manifest["sha256"]:
        return chunks.problem(path, name)
    with open(path, "rb") as file:
        right = hashlib.file_digest(file, "sha256").hexdigest() == view.manifest["sha256"][name]
    return None if right else f"{path.name} does not match its checksum"


def write(
    folder: Path,
    chunk_folder: Path,
    keys: Sequence[str],
    rule: str,
    heldout_fraction: float,
    about: dict[str, Any],
) -> View:
    """Make the view of the chunks `keys`, and give it its name `folder`.

    Args:
        about: what else its manifest says, `key` among it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        lengths = _write_spans(staged, _read(chunk_folder, keys), rule, heldout_fraction)
        manifest = {"format": _FORMAT, **about, "rule": rule, "heldout_fraction": heldout_fraction}
        manifest["chunks"] = [[key, length] for key, length in zip(keys, lengths, strict=True)]
        view = View(staged, chunk_folder, manifest)
        for side in SIDES:
            (staged / f"{side}.counts").touch()
            tokens = view.tokens(side)
            (staged / f"{side}.counts").write_bytes(tokens.counted().astype("<i8").tobytes())
            manifest[side] = {"tokens": len(tokens), "documents": len(tokens.ends)}
        manifest["sha256"] = {
            f"{side}.{name}": durable.sha256_file(staged / f"{side}.{name}") for side in SIDES for name in _ARRAYS
        }
        seen = {name: [(at := path.stat()).st_size, at.st_mtime_ns, at.st_ino] for name, path in view.files()}
        (staged / "seen.json").write_text(json.dumps(seen), encoding="utf-8")
        (staged / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        durable.commit_tree(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return View(folder, chunk_folder, manifest)


def _read(chunk_folder: Path, keys: Sequence[str]) -> Iterator[Chunk]:
    return (chunks.read(chunks.path_of(chunk_folder, key)) for key in keys)


def _write_spans(folder: Path, found: Iterator[Chunk], rule: str, heldout_fraction: float) -> list[int]:
    """Write which stretches each side is made of; gives the length of each chunk."""
    lengths: list[int] = []
    first = document = 0  # where this chunk starts in the corpus, and where the document does that goes on
    with contextlib.ExitStack() as files:
        sides = [_SideWriter(folder, side, files.enter_context) for side in SIDES]
        for chunk in found:
            ends = chunk.ends + first
            starts = np.concatenate([[document], ends[:-1]]) if len(ends) else ends
            document = int(ends[-1]) if len(ends) else document
            if rule == BY_TAIL:
                # As `split.tail_start` has it.
                cuts = ends - np.rint((ends - starts) * heldout_fraction).astype(np.int64)
                sides[0].add(starts, cuts)
                sides[1].add(cuts, ends)
            else:
                heldout = is_heldout(chunk, heldout_fraction)
                sides[0].add(starts[~heldout], ends[~heldout])
                sides[1].add(starts[heldout], ends[heldout])
            lengths.append(len(chunk.ids))
            first += len(chunk.ids)
        for side in sides:
            side.close()
    return lengths


def is_heldout(chunk: Chunk, heldout_fraction: float) -> np.ndarray:
    """Of each document that ends in a chunk whether it is held out, as its source or its own text says."""
    by_number = chunk.numbers < np.uint64(threshold(heldout_fraction))
    return np.where(chunk.named == UNNAMED, by_number, chunk.named == NAMED_HELDOUT)


class _SideWriter:
    """Writes the arrays of a side, stretch by stretch."""

    def __init__(self, folder: Path, side: str, entered: Callable[[BinaryIO], BinaryIO]) -> None:
        self._files = {name: entered((folder / f"{side}.{name}").open("wb")) for name in _ARRAYS[:3]}
        self._length = 0  # of all that came
        self._written = 0  # of the stretches that are written
        self._held = np.zeros((2, 0), np.int64)  # start and stop of the stretch that may go on

    def add(self, starts: np.ndarray, stops: np.ndarray) -> None:
        """Documents, or parts of them, from `starts` to `stops` in the corpus, in order."""
        some = stops > starts
        starts, stops = starts[some], stops[some]
        if not len(starts):
            return
        ends = np.cumsum(stops - starts) + self._length
        self._write("ends", ends)
        self._length = int(ends[-1])
        starts, stops = np.concatenate([self._held, [starts, stops]], axis=1)
        # What follows without a gap is one stretch.
        gaps = np.flatnonzero(starts[1:] != stops[:-1])
        firsts, lasts = starts[np.concatenate([[0], gaps + 1])], stops[np.concatenate([gaps, [len(stops) - 1]])]
        self._spans(firsts[:-1], lasts[:-1])
        self._held = np.array([firsts[-1:], lasts[-1:]])

    def close(self) -> None:
        """No more comes."""
        self._spans(*self._held)
        self._write("starts", np.array([self._written]))

    def _spans(self, firsts: np.ndarray, lasts: np.ndarray) -> None:
        if not len(firsts):
            return
        stops = np.cumsum(lasts - firsts) + self._written
        self._write("starts", stops - (lasts - firsts))
        self._write("sources", firsts)
        self._written = int(stops[-1])

    def _write(self, name: str, values: np.ndarray) -> None:
        self._files[name].write(values.astype("<i8").tobytes())


def names(folder: Path) -> list[str]:
    """The views in a folder."""
    return sorted(name for name in os.listdir(folder) if not name.startswith(".")) if folder.is_dir() else []
