"""Texts to ids, many at once and in bounded memory.

What the library `tokenizers` gives for a text takes a hundred bytes a token until it is an array, so that texts are
encoded a few megabytes at a time, cut where they are long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from levanter.data.corpus import Corpus, Document
from levanter.data.cutting import PIECE, TEXT_WEIGHT, Piece, cut
from levanter.data.tokenizer import Tokenizer

_BATCH_CHARACTERS = 1 << 21


def encode(tokenizer: Tokenizer, pieces: Sequence[Piece], ends: Sequence[bool]) -> tuple[list[np.ndarray], np.ndarray]:
    """The ids of pieces, and how many each has, the end-of-text id of those that end a document with them.

    Returns: parts whose concatenation is the ids of all pieces, of the smallest dtype that holds every id; and int64
        [pieces].
    """
    dtype = id_dtype(tokenizer)
    found, counts = [], []
    for first, last in _batches(pieces):
        texts = [piece.text for piece in pieces[first:last]]
        lists = tokenizer.encode_batch(texts)
        for place, piece in enumerate(pieces[first:last]):
            if piece.skip:
                lists[place] = lists[place][piece.skip :]
        if tokenizer.end_of_text is not None:
            for ids, closes in zip(lists, ends[first:last], strict=True):
                if closes:
                    ids.append(tokenizer.end_of_text)
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        counts.append(lengths)
        found.append(np.fromiter(chain.from_iterable(lists), dtype, int(lengths.sum())))
    return found, np.concatenate(counts) if counts else np.zeros(0, np.int64)


def id_dtype(tokenizer: Tokenizer) -> np.dtype:
    """Of an array of its ids."""
    return np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")


def _batches(pieces: Sequence[Piece]) -> Iterator[tuple[int, int]]:
    """First and last of the pieces that are encoded together."""
    first = held = 0
    for place, piece in enumerate(pieces):
        held += len(piece.text) + TEXT_WEIGHT
        if held >= _BATCH_CHARACTERS:
            yield first, place + 1
            first, held = place + 1, 0
    if first < len(pieces):
        yield first, len(pieces)


def tokenized(corpus: Corpus, tokenizer: Tokenizer, dtype: np.dtype) -> Iterator[tuple[Document, np.ndarray]]:
    """Each document that has text, with its ids, closed by the end-of-text id."""
    documents: list[Document] = []
    pieces: list[Piece] = []
    ends: list[bool] = []
    held = 0
    for document in corpus.documents():
        if not document.text:
            continue
        own = [Piece(document.text)] if len(document.text) <= PIECE else cut(document.text, tokenizer.cutting)
        documents.append(document)
        pieces += own
        ends += [False] * (len(own) - 1) + [True]
        held += len(document.text) + TEXT_WEIGHT
        if held >= _BATCH_CHARACTERS:
            yield from _of_documents(tokenizer, documents, pieces, ends, dtype)
            documents, pieces, ends, held = [], [], [], 0
    yield from _of_documents(tokenizer, documents, pieces, ends, dtype)


def _of_documents(
    tokenizer: Tokenizer, documents: list[Document], pieces: list[Piece], ends: list[bool], dtype: np.dtype
) -> Iterator[tuple[Document, np.ndarray]]:
    if not documents:
        return
    parts, counts = encode(tokenizer, pieces, ends)
    stops = np.cumsum(counts)[np.asarray(ends)]
    yield from zip(documents, np.split(np.concatenate(parts).astype(dtype), stops[:-1]), strict=True)
