"""The token cache: a corpus is tokenized once, and later runs map the ids into memory.

A cache is a folder named by a hash of everything that decides its content (the text, the tokenizer, the split), so a
changed file or setting makes another cache and nothing ever has to be cleared. It holds the ids of each side as raw
little-endian integers and a `manifest.json` with their counts and SHA-256. The folder is written aside and renamed; its
checksums are compared at every opening, and a cache that fails is built again. One lock file per cache makes a second
process wait for the first instead of doing the same work.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from levanter import durable
from levanter.data import errors
from levanter.data.corpus import HELDOUT, TRAIN, Corpus, Document
from levanter.data.split import BY_TAIL, Survey, document_side, survey, tail_start
from levanter.data.tokenizer import Tokenizer, pieces

_FORMAT = 1
_SIDES = (TRAIN, HELDOUT)
_BATCH_CHARACTERS = 8 << 20


@dataclass(frozen=True)
class CachedTokens:
    """The ids of both sides, one-dimensional, mapped from the cache. Equal `key`s mean equal ids."""

    key: str
    train: np.ndarray
    heldout: np.ndarray


def default_cache_dir() -> Path:
    """~/.cache/levanter-compiler, or the same below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "levanter-compiler"


def cached_tokens(
    corpus: Corpus,
    tokenizer: Tokenizer,
    heldout_fraction: float,
    cache_dir: Path,
    notify: Callable[[str], None],
) -> CachedTokens:
    """The tokens of `corpus`, from the cache in `cache_dir`, which is made first where it is missing or damaged.

    Raises:
        UserError: the corpus cannot be read or is empty, or the cache cannot be written.
    """
    found = survey(corpus, heldout_fraction)
    if found.characters == 0:
        raise errors.corpus_empty(corpus.source)
    key = _key(found, tokenizer, heldout_fraction)
    folder = cache_dir / "tokens" / key[:32]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with durable.locked(folder.with_suffix(".lock")):
            if folder.exists():
                problem = _problem(folder, key)
                if problem is None:
                    return _open(folder)
                notify(f"the token cache {folder} is damaged ({problem}): building it again")
                shutil.rmtree(folder)
            notify(f"tokenizing {found.characters:,} characters of {corpus.source} (once; kept in {folder})")
            _build(folder, key, corpus, tokenizer, heldout_fraction, found.rule)
            return _open(folder)
    except OSError as error:
        raise errors.cache_unwritable(cache_dir, error.strerror or str(error)) from error


def _key(found: Survey, tokenizer: Tokenizer, heldout_fraction: float) -> str:
    parts = {
        "format": _FORMAT,
        "corpus": found.sha256,
        "split": [found.rule, heldout_fraction],
        "tokenizer": tokenizer.identity,
        "end_of_text": tokenizer.end_of_text,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _problem(folder: Path, key: str) -> str | None:
    """What is wrong with a cache on disk, or None."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if manifest["key"] != key:
            return "manifest.json is of another cache"
        dtype = np.dtype(manifest["dtype"])
        for side in _SIDES:
            file = folder / f"{side}.bin"
            if file.stat().st_size != manifest["sides"][side]["tokens"] * dtype.itemsize:
                return f"{file.name} has the wrong size"
            if durable.sha256_file(file) != manifest["sides"][side]["sha256"]:
                return f"{file.name} does not match its checksum"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, TypeError, KeyError):
        return "manifest.json cannot be read"
    return None


def _open(folder: Path) -> CachedTokens:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    dtype = np.dtype(manifest["dtype"])

    def side(name: str) -> np.ndarray:
        if manifest["sides"][name]["tokens"] == 0:  # an empty file cannot be mapped
            return np.zeros(0, dtype)
        return np.memmap(folder / f"{name}.bin", dtype, mode="r")

    return CachedTokens(manifest["key"], side(TRAIN), side(HELDOUT))


def _build(folder: Path, key: str, corpus: Corpus, tokenizer: Tokenizer, heldout_fraction: float, rule: str) -> None:
    staged = folder.with_suffix(".tmp")
    # Only the holder of the lock is here, so what is left there is of a process that was killed.
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    with open(staged / f"{TRAIN}.bin", "wb") as train, open(staged / f"{HELDOUT}.bin", "wb") as heldout:
        writers = {TRAIN: _SideWriter(train), HELDOUT: _SideWriter(heldout)}
        for document, ids in tokenized(corpus, tokenizer, dtype):
            if rule == BY_TAIL:
                cut = tail_start(len(ids), heldout_fraction)
                writers[TRAIN].write(ids[:cut])
                writers[HELDOUT].write(ids[cut:])
            else:
                writers[document_side(document, heldout_fraction)].write(ids)
    sides = {side: writers[side].summary() for side in _SIDES}
    manifest = {"format": _FORMAT, "key": key, "dtype": dtype.str, "sides": sides}
    (staged / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    durable.commit_tree(staged, folder)


class _SideWriter:
    """Appends ids to one side's file, counting and hashing them on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._tokens = 0

    def write(self, ids: np.ndarray) -> None:
        content = ids.tobytes()
        self._file.write(content)
        self._digest.update(content)
        self._tokens += len(ids)

    def summary(self) -> dict[str, Any]:
        return {"tokens": self._tokens, "sha256": self._digest.hexdigest()}


def tokenized(corpus: Corpus, tokenizer: Tokenizer, dtype: np.dtype) -> Iterator[tuple[Document, np.ndarray]]:
    """Each document that has text, with its ids, closed by the end-of-text id. Holds a few megabytes at a time."""
    for documents in _batches(corpus):
        parts = [pieces(document.text) for document in documents]
        encoded = iter(tokenizer.encode_batch([piece for part in parts for piece in part]))
        for document, part in zip(documents, parts, strict=True):
            ids = [np.asarray(next(encoded), dtype) for _ in part]
            if tokenizer.end_of_text is not None:
                ids.append(np.asarray([tokenizer.end_of_text], dtype))
            yield document, np.concatenate(ids)


def _batches(corpus: Corpus) -> Iterator[list[Document]]:
    batch: list[Document] = []
    for document in corpus.documents():
        if document.text:
            batch.append(document)
        if sum(len(held.text) for held in batch) >= _BATCH_CHARACTERS:
            yield batch
            batch = []
    if batch:
        yield batch
