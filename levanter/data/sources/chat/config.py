"""Conversations to learn answers from, as plain data (no JAX and no data set library here)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from levanter.data.config import DataConfig

if TYPE_CHECKING:
    from levanter.data.corpus import Corpus
    from levanter.data.token_data import TokenData


@dataclass(frozen=True)
class ChatDataConfig(DataConfig):
    """Conversations, one JSON object a line: `{"messages": [{"role": …, "content": …}, …]}`, of which the assistant's
    messages are learned, or `{"prompt": …, "completion": …}`. The tokenizer's chat template writes the former."""

    by_blocks = False

    paths: list[str] = field(default_factory=list)
    """Files or patterns such as chats/**/*.jsonl, from the working directory."""
    heldout_paths: list[str] = field(default_factory=list)
    """Files or patterns of the held-out conversations; empty means a share of `paths` is held out."""

    def corpus(self) -> Corpus:
        from levanter.data.sources.chat.corpus import ChatCorpus

        return ChatCorpus(tuple(self.paths), tuple(self.heldout_paths))

    def batches(self, *, seq_len: int, seed: int, batch_size: int, notify: Callable[[str], None]) -> TokenData:
        from levanter.data.sources.chat.chat_data import chat_data

        return chat_data(self, seq_len=seq_len, seed=seed, batch_size=batch_size, notify=notify)
