"""Conversations as ids in the token cache: made once, by one process, and read by all.

They lie in chunks as text does (`levanter.data.chunks`), each conversation a document of its chunk. An id and whether
it is to be learned are one number: twice the id, and one more if so. Neither the length of a sequence nor the share
that is held out has a part in it. A build that was killed finds its chunks again, and text that is added at the end
makes chunks of its own.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from levanter import durable
from levanter.data import chunks, errors, records
from levanter.data.cache import told_where_it_cannot_be_written
from levanter.data.chunks import Chunk
from levanter.data.corpus import HELDOUT, TRAIN, Reading
from levanter.data.records import Record
from levanter.data.sources.chat.corpus import ChatCorpus, Conversation
from levanter.data.split import NAMED_HELDOUT, NAMED_TRAIN, UNNAMED
from levanter.data.tokenizer import Tokenizer
from levanter.errors import UserError

Encode = Callable[[Conversation], tuple[list[int], list[bool]]]
_CODE = "chat 1"
_CHUNK_CHARACTERS = 1 << 22
_NAMED = {None: UNNAMED, TRAIN: NAMED_TRAIN, HELDOUT: NAMED_HELDOUT}


@dataclass(frozen=True)
class Encoded:
    """Conversations as ids, one after another.

    Attributes:
        ids: int32.
        learned: for each id whether it is to be learned.
        starts: where each conversation starts, and where the last one ends.
        numbers: uint64, the first 8 bytes of the hash of each one's text.
        named: uint8, the side that its file names, as `levanter.data.split` has it.
    """

    ids: np.ndarray
    learned: np.ndarray
    starts: np.ndarray
    numbers: np.ndarray
    named: np.ndarray


def conversations(
    corpus: ChatCorpus, tokenizer: Tokenizer, encode: Encode, cache_dir: Path, notify: Callable[[str], None]
) -> Encoded:
    """All conversations of a corpus, from the cache, where they are put first if need be.

    Raises:
        UserError: as `ChatCorpus.conversations` and `encode`, or the cache cannot be written.
    """
    folder = cache_dir / "tokens"
    request = records.request(corpus, tokenizer, 0.0) + "-chat"
    record_path = folder / "records" / f"{request}.json"
    identity = _identity(tokenizer)
    with told_where_it_cannot_be_written(cache_dir):
        record_path.parent.mkdir(parents=True, exist_ok=True)
        with durable.locked(record_path.with_suffix(".lock")):
            keys = _known(corpus, record_path, folder, identity, notify)
            if keys is None:
                keys = _built(corpus, record_path, folder, identity, encode, notify)
    return _joined([chunks.read(_path(folder, key)) for key in keys])


def _identity(tokenizer: Tokenizer) -> str:
    """Of what makes the ids; the chat template is in a file of the tokenizer."""
    files = {name: hashlib.sha256(content).hexdigest() for name, content in tokenizer.files().items()}
    told = [_CODE, chunks.FORMAT, tokenizer.identity, tokenizer.end_of_text, files]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _path(folder: Path, key: str) -> Path:
    return chunks.path_of(folder / "chunks", key)


def _known(
    corpus: ChatCorpus, record_path: Path, folder: Path, identity: str, notify: Callable[[str], None]
) -> list[str] | None:
    """The chunks of files that have not changed since they were read, or are gone; None where they must be read."""
    record = records.read(record_path)
    if record is None:
        return None
    made_by, *keys = record.view.split()
    whole = made_by == identity and all(chunks.problem(_path(folder, key), key) is None for key in keys)
    try:
        mark = corpus.fingerprint()
    except UserError:
        if not whole or not record.others_unchanged:
            raise
        notify(errors.text_is_gone(record.source, record.day))
        return keys
    return keys if whole and record.fits(mark) else None


def _built(
    corpus: ChatCorpus, record_path: Path, folder: Path, identity: str, encode: Encode, notify: Callable[[str], None]
) -> list[str]:
    began = time.time()
    mark = corpus.fingerprint()
    keys: list[str] = []
    told = False
    for some in _batches(corpus):
        key = _key(some, identity)
        if chunks.problem(_path(folder, key), key) is not None:
            if not told:
                notify(errors.tokenizing(corpus.source, folder))
                told = True
            chunks.write(_path(folder, key), key, _chunk(some, encode))
        keys.append(key)
    records.write(record_path, Record.of(" ".join([identity, *keys]), corpus, mark, Reading(), began))
    return keys


def _batches(corpus: ChatCorpus) -> Iterator[list[Conversation]]:
    """The conversations of a chunk each."""
    some: list[Conversation] = []
    held = 0
    for conversation in corpus.conversations():
        some.append(conversation)
        held += len(conversation.text)
        if held >= _CHUNK_CHARACTERS:
            yield some
            some, held = [], 0
    if some:
        yield some


def _key(some: list[Conversation], identity: str) -> str:
    digest = hashlib.sha256(identity.encode())
    for each in some:
        digest.update(json.dumps([each.messages, each.learned, each.side], sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _chunk(some: list[Conversation], encode: Encode) -> Chunk:
    found = [encode(each) for each in some]
    ids = np.array([2 * one + says for row, learned in found for one, says in zip(row, learned, strict=True)], "<u4")
    digests = [hashlib.sha256(each.text.encode("utf-8", "surrogatepass")).digest() for each in some]
    numbers = np.frombuffer(b"".join(digest[:8] for digest in digests), ">u8").astype("<u8")
    ends = np.cumsum([len(row) for row, _ in found]).astype("<i8")
    return Chunk(ids, ends, numbers, np.array([_NAMED[each.side] for each in some], np.uint8))


def _joined(parts: list[Chunk]) -> Encoded:
    firsts = np.cumsum([0, *(len(part.ids) for part in parts)])
    both = np.concatenate([np.zeros(0, "<u4"), *(part.ids for part in parts)])
    starts = np.concatenate([[0], *(part.ends + first for part, first in zip(parts, firsts[:-1], strict=True))])
    return Encoded(
        (both >> 1).astype(np.int32),
        (both & 1).astype(bool),
        starts.astype(np.int64),
        np.concatenate([np.zeros(0, "<u8"), *(part.numbers for part in parts)]),
        np.concatenate([np.zeros(0, np.uint8), *(part.named for part in parts)]),
    )
