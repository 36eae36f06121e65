"""Perplexity: how well a model predicts text, for each domain of it and for all of it.

A domain is a file, or all that a source has. Its documents stand one after the other with the end-of-text id between
them, and every token but the first is asked for once. The model reads a window of them at a time: each window asks for
`stride` tokens, and begins as far before them as the model can read. With a stride as long as a window (the fastest)
the first tokens of each have little before them; a short one gives every token a long past, at the price of time.

    perplexity    exp of the mean loss in nats per token: of one tokenizer only, since it depends on what a token is
    bits/byte     the loss of the whole text in bits over its length in UTF-8 bytes: the same measure for all tokenizers
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from levanter.data.config import DataConfig
from levanter.data.corpus import HELDOUT, Corpus
from levanter.data.encoding import tokenized
from levanter.data.split import BY_TAIL, document_side, survey, tail_start
from levanter.data.tokenizer import Tokenizer
from levanter.inference import errors
from levanter.inference.score import Row, Scorer

HELDOUT_ONLY, ALL = "heldout", "all"
SPLITS = (HELDOUT_ONLY, ALL)


@dataclass(frozen=True)
class Text:
    """The ids of a domain, and how many bytes of UTF-8 they stand for."""

    ids: np.ndarray
    num_bytes: int


@dataclass(frozen=True)
class Perplexity:
    """What a domain came to: `nats` is the loss of its `tokens` asked for, all together."""

    domain: str
    tokens: int
    num_bytes: int
    nats: float

    @property
    def loss(self) -> float:
        """In nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))  # beyond that it is no float

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.num_bytes

    def as_dict(self) -> dict[str, str | int | float]:
        return {
            "domain": self.domain,
            "tokens": self.tokens,
            "bytes": self.num_bytes,
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
        }


def texts_of(data: DataConfig, tokenizer: Tokenizer, split: str, domain: str | None = None) -> dict[str, Text]:
    """The text of a source by domain, tokenized.

    Args:
        split: `heldout` takes what training with this source leaves out, `all` takes everything.
        domain: the name of all of it; None leaves that to the source. The sources of a mixture have their own names.

    Raises:
        UserError: the source cannot be read, or has no such text.
    """
    if sources := data.parts():  # each holds out text by its own rule
        return {name: texts_of(each, tokenizer, split, name)[name] for name, each in sources.items()}
    corpus = data.corpus()
    parts: dict[str, list[np.ndarray]] = defaultdict(list)
    num_bytes: dict[str, int] = defaultdict(int)
    dtype = np.dtype(np.int32)
    for own, ids, size in _documents(corpus, data.heldout_fraction, tokenizer, split, dtype):
        name = domain or own
        if parts[name] and tokenizer.end_of_text is not None:
            parts[name].append(np.asarray([tokenizer.end_of_text], dtype))
        parts[name].append(ids)
        num_bytes[name] += size
    found = {name: Text(np.concatenate(each), num_bytes[name]) for name, each in parts.items()}
    found = {name: text for name, text in found.items() if len(text.ids) > 1}
    if not found:
        raise errors.no_text(corpus.source, split)
    return found


def _documents(
    corpus: Corpus, heldout_fraction: float, tokenizer: Tokenizer, split: str, dtype: np.dtype
) -> Iterator[tuple[str, np.ndarray, int]]:
    """Domain, ids and bytes of every document of a split, without the end-of-text id that closes it."""
    rule = survey(corpus, heldout_fraction).rule if split == HELDOUT_ONLY else None
    for document, closed in tokenized(corpus, tokenizer, dtype):
        ids = closed if tokenizer.end_of_text is None else closed[:-1]
        size = len(document.text.encode("utf-8", "surrogatepass"))
        if rule == BY_TAIL:
            ids = ids[tail_start(len(closed), heldout_fraction) :]
            size = len(tokenizer.decode(ids).encode("utf-8", "surrogatepass"))
        elif rule is not None and document_side(document, heldout_fraction) != HELDOUT:
            continue
        if len(ids):
            yield document.domain or corpus.source, ids, size


def windows(ids: Sequence[int] | np.ndarray, length: int, stride: int) -> Iterator[Row]:
    """Rows that ask for every token but the first, once.

    Args:
        length: the most tokens that the model reads.
        stride: tokens that a row asks for, at most `length`.
    """
    for start in range(1, len(ids), stride):
        stop = min(start + stride, len(ids))
        begin = max(0, stop - 1 - length)
        yield Row(ids[begin:stop], start - begin)


def perplexities(scorer: Scorer, texts: Mapping[str, Text], length: int, stride: int) -> list[Perplexity]:
    """The perplexity of each text, in order; see `windows`."""
    found = []
    for name, text in texts.items():
        scores = list(scorer(windows(text.ids, length, stride)))
        nats = -math.fsum(score.log_likelihood for score in scores)
        found.append(Perplexity(name, sum(score.count for score in scores), text.num_bytes, nats))
    return found


def together(parts: Sequence[Perplexity]) -> Perplexity:
    """All domains as one."""
    tokens, num_bytes = sum(each.tokens for each in parts), sum(each.num_bytes for each in parts)
    return Perplexity("all", tokens, num_bytes, math.fsum(each.nats for each in parts))
