"""Chunks: what of a corpus is tokenized at once, kept in a file of its own, and never made twice.

The text of a corpus is cut into chunks of about `CHUNK` characters by its own content: a document ends a chunk by a
lottery on its hash, and a long document is cut every `CHUNK` characters from its own start. So where documents are
added, changed or taken away, the chunks around them change and no others. The key of a chunk is a hash of its text, the
tokenizer and the code that cuts, and the name of its file: what a build that was killed has done is found by the next
one, and so is what another corpus has in common with this one.

A file has a header in JSON, and then four arrays: the ids, where each document that ends in the chunk ends, the first
eight bytes of that document's hash, and the side that its source names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from levanter import durable
from levanter.data import cutting
from levanter.data.corpus import Corpus, Reading, stretches
from levanter.data.cutting import PIECE, TEXT_WEIGHT, Cutter, Piece
from levanter.data.encoding import encode, id_dtype
from levanter.data.split import Surveyor
from levanter.data.tokenizer import Tokenizer

FORMAT = 2
CHUNK = 1 << 24
_MAGIC = b"LVTOKENS"
_ALIGNMENT = 64


@dataclass
class TextChunk:
    """The text of a chunk.

    Attributes:
        ends: for each piece, whether a document ends with it.
        digests: the hash of each document that ends here.
        named: the side of each, as a number.
    """

    pieces: list[Piece] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    named: list[int] = field(default_factory=list)
    characters: int = 0
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add_document(self, text: str, digest: bytes, named: int) -> None:
        """A document that is one piece."""
        self.pieces.append(Piece(text))
        self._hash.update(b"d" + digest)
        self.end_document(digest, named, len(text))

    def add_piece(self, piece: Piece) -> None:
        """A piece of a document that goes on."""
        content = piece.text.encode("utf-8", "surrogatepass")
        self._hash.update(f"p{piece.skip} {piece.own} ".encode() + hashlib.sha256(content).digest())
        self.pieces.append(piece)
        self.ends.append(False)
        self.characters += len(piece.text) - piece.own

    def end_document(self, digest: bytes, named: int, characters: int = 0) -> None:
        """The last piece ends a document."""
        if characters:
            self.ends.append(True)
        else:
            self.ends[-1] = True
            self._hash.update(b"e" + digest)
        self._hash.update(b"%d" % named)
        self.digests.append(digest)
        self.named.append(named)
        self.characters += characters

    def key(self, identity: str) -> str:
        """The key of its tokens; `identity` is that of what makes them."""
        return hashlib.sha256(f"{identity}\n{self._hash.hexdigest()}".encode()).hexdigest()


def identity(tokenizer: Tokenizer) -> str:
    """Of all that decides the tokens of a text: the tokenizer and the code that cuts."""
    return json.dumps([FORMAT, cutting.CODE, tokenizer.identity, tokenizer.end_of_text])


def text_chunks(corpus: Corpus, tokenizer: Tokenizer, surveyor: Surveyor, reading: Reading) -> Iterator[TextChunk]:
    """The text of a corpus, chunk by chunk; `surveyor` reads it too."""
    chunk = TextChunk()
    cutter: Cutter | None = None
    of_document = 0  # characters of the document that goes on, in this chunk and before
    cut_at = CHUNK
    for part in stretches(corpus, reading):
        told = surveyor.read(part)
        if cutter is None:
            if told is not None and len(part.text) <= PIECE:
                if part.text:
                    chunk.add_document(part.text, told.digest, told.named)
                    if _closes(chunk, told.digest, told.characters):
                        yield chunk
                        chunk = TextChunk()
                continue
            cutter, of_document, cut_at = Cutter(tokenizer.cutting), 0, CHUNK
        for piece in cutter.feed(part.text):
            chunk.add_piece(piece)
            of_document += len(piece.text) - piece.own
            if of_document >= cut_at:
                cut_at += CHUNK
                yield chunk
                chunk = TextChunk()
        if told is not None:
            for piece in cutter.finish():
                chunk.add_piece(piece)
            cutter = None
            if chunk.pieces:
                chunk.end_document(told.digest, told.named)
                if _closes(chunk, told.digest, told.characters):
                    yield chunk
                    chunk = TextChunk()
    if chunk.pieces:
        yield chunk


def _closes(chunk: TextChunk, digest: bytes, characters: int) -> bool:
    """Whether a chunk ends with this document."""
    full = chunk.characters + TEXT_WEIGHT * len(chunk.pieces) >= 2 * CHUNK
    return full or int.from_bytes(digest[8:16]) * CHUNK < characters + TEXT_WEIGHT << 64


@dataclass(frozen=True)
class Chunk:
    """The tokens of a chunk.

    Attributes:
        ids: unsigned, of all its text.
        ends: int64, where in `ids` each document that ends here ends.
        numbers: uint64, the first 8 bytes of the hash of each of those documents.
        named: uint8, the side that its source names.
    """

    ids: np.ndarray
    ends: np.ndarray
    numbers: np.ndarray
    named: np.ndarray


def made(text: TextChunk, tokenizer: Tokenizer) -> Chunk:
    """The tokens of a text."""
    parts, counts = encode(tokenizer, text.pieces, text.ends)
    ids = np.concatenate(parts) if parts else np.zeros(0, id_dtype(tokenizer))
    ends = np.cumsum(counts)[np.asarray(text.ends, bool)]
    numbers = np.frombuffer(b"".join(digest[:8] for digest in text.digests), ">u8").astype("<u8")
    return Chunk(ids, ends.astype("<i8"), numbers, np.asarray(text.named, np.uint8))


def path_of(folder: Path, key: str) -> Path:
    """Where the chunk `key` is kept below the folder of all."""
    return folder / key[:2] / f"{key[2:40]}.tokens"


def write(path: Path, key: str, chunk: Chunk) -> None:
    """Keep a chunk, whole or not at all."""
    body = b"".join(_padded(part.tobytes()) for part in (chunk.ids, chunk.ends, chunk.numbers, chunk.named))
    header = {
        "key": key,
        "dtype": chunk.ids.dtype.str,
        "tokens": len(chunk.ids),
        "documents": len(chunk.ends),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    first = json.dumps(header).encode()
    head = _padded(_MAGIC + len(first).to_bytes(8, "little") + first)
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_file(path, head + body)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _ALIGNMENT)


def read(path: Path) -> Chunk:
    """A chunk, mapped from its file; its checksum is not looked at.

    Raises:
        ValueError, KeyError, OSError: it is no chunk, or its length is wrong.
    """
    header, first = _header(path)
    shapes = [
        (np.dtype(header["dtype"]), header["tokens"]),
        *((np.dtype(d), header["documents"]) for d in ("<i8", "<u8", "u1")),
    ]
    content = np.memmap(path, np.uint8, mode="r")
    arrays = []
    for dtype, count in shapes:
        size = dtype.itemsize * count
        arrays.append(np.asarray(content[first : first + size]).view(dtype))
        first += -(-size // _ALIGNMENT) * _ALIGNMENT
    if len(content) != first:
        raise ValueError("has the wrong size")
    return Chunk(*arrays)


def problem(path: Path, key: str) -> str | None:
    """What is wrong with the file of a chunk, or None; all of it is read."""
    try:
        header, first = _header(path)
        if header["key"] != key:
            return f"{path.name} is another chunk"
        read(path)
        with open(path, "rb") as file:
            file.seek(first)
            if hashlib.file_digest(file, "sha256").hexdigest() != header["sha256"]:
                return f"{path.name} does not match its checksum"
    except FileNotFoundError:
        return f"{path.name} is missing"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path.name} cannot be read"
    return None


def _header(path: Path) -> tuple[dict, int]:
    with open(path, "rb") as file:
        start = file.read(16)
        if start[:8] != _MAGIC:
            raise ValueError("is not a chunk of tokens")
        size = int.from_bytes(start[8:], "little")
        if size > 1 << 16:
            raise ValueError("has no header")
        header = json.loads(file.read(size))
    return header, -(-(16 + size) // _ALIGNMENT) * _ALIGNMENT
