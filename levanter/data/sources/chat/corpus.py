"""Conversations from files of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from levanter.data import errors
from levanter.data.corpus import HELDOUT, TRAIN, Document, Fingerprint
from levanter.data.sources.files import JSONL_ENDINGS, File, expand, fingerprint
from levanter.data.sources.rows import HALF_A_PAIR, half_a_pair
from levanter.data.sources.text.corpus import read

ASSISTANT = "assistant"


@dataclass(frozen=True)
class Conversation:
    """What is said, and which of it is to be learned.

    Attributes:
        messages: as a chat template takes them; of a prompt and its completion in plain text two without roles.
        learned: for each message, whether a model is to say it.
        side: "train" or "heldout" where the files say so, else None.
        where: file and line.
    """

    messages: tuple[Mapping[str, Any], ...]
    learned: tuple[bool, ...]
    side: str | None
    where: str

    @property
    def is_plain(self) -> bool:
        """Whether it is text that no template is put around."""
        return all("role" not in message for message in self.messages)

    @property
    def text(self) -> str:
        """All that is said, in the form that decides whether it is held out."""
        return "\n\n".join(str(message.get("content") or "") for message in self.messages)


@dataclass(frozen=True)
class ChatCorpus:
    """Conversations in the order of the files and their lines."""

    paths: tuple[str, ...]
    heldout_paths: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return ", ".join(self.paths)

    def conversations(self) -> Iterator[Conversation]:
        """Every conversation, from the first, at each call.

        Raises:
            UserError: a file cannot be read, or a line is no conversation.
        """
        if not self.paths:
            raise errors.no_paths()
        train_side = TRAIN if self.heldout_paths else None
        train = expand("paths", self.paths, JSONL_ENDINGS)
        heldout = expand("heldout_paths", self.heldout_paths, JSONL_ENDINGS)
        yield from _of_files(train, train_side)
        yield from _of_files(heldout, HELDOUT)

    def fingerprint(self) -> Fingerprint:
        """See `levanter.data.corpus.Streamed`."""
        fields = (("paths", self.paths), ("heldout_paths", self.heldout_paths))
        return fingerprint(file for field, paths in fields for file in expand(field, paths, JSONL_ENDINGS))

    def documents(self) -> Iterator[Document]:
        for conversation in self.conversations():
            yield Document(conversation.text, conversation.side)


def _of_files(files: Iterable[File], side: str | None) -> Iterator[Conversation]:
    for file in files:
        for number, line in enumerate(read(file).split("\n"), start=1):
            if line.strip():
                yield _conversation(line, side, f"{file.path}:{number}")


def _conversation(line: str, side: str | None, where: str) -> Conversation:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise errors.no_conversation(where, f"it is not JSON ({error})") from error
    except RecursionError as error:
        raise errors.no_conversation(where, "it is nested too deeply") from error
    if "\\u" in line and half_a_pair(json.dumps(found, ensure_ascii=False)):
        raise errors.no_conversation(where, HALF_A_PAIR)
    if not isinstance(found, dict):
        raise errors.no_conversation(where, "it is not a JSON object")
    if "messages" in found:
        messages = _messages(found["messages"], where)
        learned = [message["role"] == ASSISTANT and message.get("weight", 1) != 0 for message in messages]
    elif "prompt" in found and "completion" in found:
        prompt, completion = (_said(found[name], where) for name in ("prompt", "completion"))
        if ("role" in prompt[0]) != ("role" in completion[0]):
            raise errors.no_conversation(where, "its prompt and its completion are not both text or both messages")
        messages = [*prompt, *completion]
        learned = [False] * len(prompt) + [message.get("role", ASSISTANT) == ASSISTANT for message in completion]
    else:
        raise errors.no_conversation(where, "it has neither `messages` nor `prompt` and `completion`")
    if not any(learned):
        raise errors.no_conversation(where, "no message of it is the assistant's, so there is nothing to learn")
    # `weight` is for the trainer; a template has no place for it.
    kept = tuple({name: value for name, value in message.items() if name != "weight"} for message in messages)
    return Conversation(kept, tuple(learned), side, where)


def _said(said: Any, where: str) -> list[dict[str, Any]]:
    return [{"content": said}] if isinstance(said, str) else _messages(said, where)


def _messages(messages: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise errors.no_conversation(where, "its messages are no list, or an empty one")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise errors.no_conversation(where, "a message of it has no `role`")
        if not isinstance(message.get("content"), str) and "tool_calls" not in message:
            raise errors.no_conversation(where, "the `content` of a message is not text")
    return messages
