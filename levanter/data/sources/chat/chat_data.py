"""Batches of conversations: one a row, padded, with every target ignored that is not to be learned.

Which tokens of a conversation are an answer is found by asking the chat template twice: with the conversation before
the answer and the turn of the assistant opened, and with the answer. What the second adds to the first is the answer
and what closes it. The order of the rows is a pure function of seed and step, as that of windows of text is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np

from levanter.data import errors
from levanter.data.cache import cache_dir_of
from levanter.data.packing import IGNORED, STREAM, Batch
from levanter.data.sources.chat.chat_cache import Encoded, conversations
from levanter.data.sources.chat.corpus import ChatCorpus, Conversation
from levanter.data.split import NAMED_HELDOUT, UNNAMED, threshold
from levanter.data.token_data import TokenData
from levanter.data.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from levanter.data.sources.chat.config import ChatDataConfig


@dataclass(frozen=True)
class Rows:
    """Conversations as ids, one after another.

    Attributes:
        ids: int32, of all rows.
        learned: for each id whether it is to be learned.
        starts: where each row starts, and where the last one ends.
    """

    ids: np.ndarray
    learned: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Sides:
    """The rows of both sides. Equal `key`s mean equal rows."""

    key: str
    train: Rows
    heldout: Rows


class ChatData(TokenData):
    """Training and held-out batches of conversations."""

    ignores = True

    @cached_property
    def unigram_counts(self) -> np.ndarray:
        return np.bincount(self._tokens.train.ids[self._tokens.train.learned], minlength=self.vocab_size)

    def unigram_loss(self, batches: Sequence[Batch] | None = None) -> float:
        """See `TokenData`; of the tokens that are learned alone."""
        counts = self.unigram_counts + 1
        heldout = self._tokens.heldout
        targets = [heldout.ids[heldout.learned]] if batches is None else [each.reshape(-1) for _, each, *_ in batches]
        ids = np.concatenate([each[each >= 0] for each in targets])
        return float(-np.log(counts / counts.sum())[ids].mean()) if len(ids) else 0.0

    def _windows_of(self, tokens: Rows) -> int:
        return len(self._firsts(tokens)) - 1

    def _cut(self, tokens: Rows, windows: np.ndarray) -> Batch:
        ids = np.zeros((len(windows), self._seq_len), np.int32)
        targets = np.full_like(ids, IGNORED)
        segments = np.zeros_like(ids)
        firsts = self._firsts(tokens)
        for row, window in enumerate(windows):
            at = 0
            for number, one in enumerate(range(firsts[window], firsts[window + 1])):
                start, stop = tokens.starts[one : one + 2]
                length = min(stop - start - 1, self._seq_len)
                place = slice(at, at + length)
                ids[row, place] = tokens.ids[start : start + length]
                next_ids, learned = (each[start + 1 : start + 1 + length] for each in (tokens.ids, tokens.learned))
                targets[row, place] = np.where(learned, next_ids, IGNORED)
                segments[row, place] = number
                at += length
            segments[row, at:] = firsts[window + 1] - firsts[window]
        return (ids, targets) if self.packing == STREAM else (ids, targets, segments)

    def _firsts(self, tokens: Rows) -> np.ndarray:
        """The first conversation of each row, and how many there are in all."""
        if self.packing == STREAM:
            return np.arange(len(tokens.starts))
        return self._rows_of(tokens is self._tokens.heldout)

    @cache  # noqa: B019 (there are two, which live as long as this does)
    def _rows_of(self, heldout: bool) -> np.ndarray:
        lengths = np.minimum(
            np.diff((self._tokens.heldout if heldout else self._tokens.train).starts) - 1, self._seq_len
        )
        firsts, held = [0], 0
        for one, length in enumerate(lengths):
            if held + length > self._seq_len:
                firsts.append(one)
                held = 0
            held += length
        return np.array([*firsts, len(lengths)])


def chat_data(
    config: ChatDataConfig, *, seq_len: int, seed: int, batch_size: int, notify: Callable[[str], None]
) -> ChatData:
    """The conversations of a config, tokenized.

    Raises:
        UserError: a file cannot be read, a line is no conversation, the tokenizer has no chat template or one that does
            not write a conversation as the continuation of its beginning, or there is nothing to learn or to hold out.
    """
    tokenizer = load_tokenizer(config.tokenizer)
    corpus = ChatCorpus(tuple(config.paths), tuple(config.heldout_paths))
    if not corpus.paths:
        raise errors.no_paths()
    found = conversations(
        corpus,
        tokenizer,
        lambda each: encoded(each, tokenizer, config.tokenizer),
        cache_dir_of(config.cache_dir),
        notify,
    )
    count = len(found.numbers)
    cut = int((np.diff(found.starts) > seq_len + 1).sum())
    teaches = _teaches(found, seq_len)
    if cut:
        notify(f"{cut} of {count} conversations are longer than model.seq_len {seq_len} and cut off there")
    if not teaches.all():
        left_out = int((~teaches).sum())
        notify(f"{left_out} of {count} conversations have no answer within model.seq_len and are left out")
    held_out = _held_out(found, config.heldout_fraction)
    train, held = (_rows(found, teaches & (held_out == side)) for side in (False, True))
    for rows, name in ((train, "training"), (held, "held-out")):
        if not len(rows):
            raise errors.no_conversations(name, corpus.source)
    return ChatData(
        Sides(_key(train, held, tokenizer), train, held),
        tokenizer,
        seq_len=seq_len,
        seed=seed,
        batch_size=batch_size,
        packing=config.packing,
    )


def encoded(conversation: Conversation, tokenizer: Tokenizer, name: str) -> tuple[list[int], list[bool]]:
    """The ids of a conversation, and for each whether it is to be learned.

    Raises:
        UserError: the tokenizer, called `name`, has no chat template, or it writes a conversation otherwise once more
            is said.
    """
    messages = conversation.messages
    if conversation.is_plain:
        prompt, completion = (tokenizer.encode(message["content"]) for message in messages)
        prompt = [*_opening(tokenizer), *prompt]
        end = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
        return [*prompt, *completion, *end], [False] * len(prompt) + [True] * (len(completion) + len(end))
    ids = tokenizer.apply_chat_template(messages)
    learned = [False] * len(ids)
    for place, is_learned in enumerate(conversation.learned):
        if not is_learned:
            continue
        before = tokenizer.apply_chat_template(messages[:place], add_generation_prompt=True)
        after = tokenizer.apply_chat_template(messages[: place + 1])
        if after[: len(before)] != before or ids[: len(after)] != after:
            raise errors.template_rewrites(name, conversation.where)
        learned[len(before) : len(after)] = [True] * (len(after) - len(before))
    return ids, learned


def _opening(tokenizer: Tokenizer) -> list[int]:
    """What the tokenizer puts before a prompt, such as the `<s>` of LLaMA."""
    bare, whole = tokenizer.encode("a"), tokenizer.encode("a", special_tokens=True)
    for start in range(len(whole)):
        if whole[start : start + len(bare)] == bare:
            return whole[:start]
    return []


def _teaches(found: Encoded, seq_len: int) -> np.ndarray:
    """For each conversation whether something of it is learned, of what a row has room for."""
    before = np.concatenate([[0], np.cumsum(found.learned)])
    starts, stops = found.starts[:-1], found.starts[1:]
    return before[np.minimum(starts + seq_len + 1, stops)] > before[np.minimum(starts + 1, stops)]


def _held_out(found: Encoded, fraction: float) -> np.ndarray:
    """For each conversation whether it is held out: as its file says, else by its text, else the last ones."""
    if (found.named != UNNAMED).any():
        return found.named == NAMED_HELDOUT
    by_text = found.numbers < np.uint64(threshold(fraction))
    count = len(by_text)
    if fraction / 2 <= by_text.sum() / max(count, 1) <= min(2 * fraction, 0.9):
        return by_text
    return np.arange(count) >= count - max(1, round(count * fraction))


def _rows(found: Encoded, chosen: np.ndarray) -> Rows:
    """The conversations that are chosen."""
    lengths = np.diff(found.starts)
    taken = np.repeat(chosen, lengths)
    return Rows(found.ids[taken], found.learned[taken], np.concatenate([[0], np.cumsum(lengths[chosen])]))


def _key(train: Rows, heldout: Rows, tokenizer: Tokenizer) -> str:
    digest = hashlib.sha256(json.dumps(["chat", 1, tokenizer.identity]).encode())
    for rows in (train, heldout):
        for array in (rows.ids, rows.learned, rows.starts.astype(np.int64)):
            digest.update(array.tobytes())
    return digest.hexdigest()
