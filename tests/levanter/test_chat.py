"""Conversations become rows of which the answers alone are learned, in an order that seed and step decide."""

from __future__ import annotations

import dataclasses
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import haliax as hax
import haliax.nn as hnn
from levanter.config import TrainConfig, loads
from levanter.data import build, records
from levanter.data.sources.chat import chat_cache, chat_data
from levanter.data.sources.chat.chat_data import ChatData, encoded
from levanter.data.sources.chat.config import ChatDataConfig
from levanter.data.sources.chat.corpus import ChatCorpus
from levanter.data.tokenizer import load_tokenizer
from levanter.errors import UserError
from levanter.models.gpt2.config import Gpt2Config
from levanter.models.gpt2.gpt2 import Gpt2LMHeadModel
from levanter.registry import MODELS
from levanter.runtime.config import TrainerConfig
from levanter.runtime.trainer import train

pytestmark = pytest.mark.hurried

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# As templates of models that think: what was thought before the last question is not written again.
FORGETFUL = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['role'] == 'assistant' and not loop.last %}…{% else %}{{ message['content'] }}{% endif %}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer_folder(folder: Path, template: str | None = TEMPLATE) -> Path:
    """A tokenizer of one token a character, with marks for roles."""
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("jinja2")
    marks = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    vocab = {token: at for at, token in enumerate([*marks, *(chr(at) for at in range(32, 127)), "…", "[UNK]"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    made.decoder = tokenizers.decoders.Fuse()
    made.add_special_tokens(marks)
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "unk_token": "[UNK]"}
    if template is not None:
        described["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    return folder


def said(*turns: str) -> dict[str, Any]:
    """A conversation in which user and assistant take turns."""
    return {"messages": [{"role": ("user", "assistant")[at % 2], "content": turn} for at, turn in enumerate(turns)]}


def written(folder: Path, *lines: Any, name: str = "chats.jsonl") -> str:
    path = folder / name
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(path)


def learned_text(conversation: Any, folder: Path, template: str | None = TEMPLATE) -> tuple[str, list[str]]:
    """The whole text of a conversation, and the stretches of it that are learned."""
    name = str(tokenizer_folder(folder / "tokenizer", template))
    tokenizer = load_tokenizer(name)
    (found,) = ChatCorpus((written(folder, conversation),)).conversations()
    ids, learned = encoded(found, tokenizer, name)
    stretches, open_one = [], False
    for one, is_learned in zip(ids, learned, strict=True):
        if is_learned:
            if not open_one:
                stretches.append([])
            stretches[-1].append(one)
        open_one = is_learned
    return tokenizer.decode(ids), [tokenizer.decode(each) for each in stretches]


@pytest.mark.parametrize(
    ("conversation", "text", "learned"),
    [
        (said("hi", "ho", "and", "so"),
         "<|user|>hi<|end|><|assistant|>ho<|end|><|user|>and<|end|><|assistant|>so<|end|>",
         ["ho<|end|>", "so<|end|>"]),
        ({"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "a"},
                       {"role": "assistant", "content": "b", "weight": 0}, {"role": "user", "content": "c"},
                       {"role": "assistant", "content": "d"}, {"role": "user", "content": "bye"}]},
         "<|system|>be<|end|><|user|>a<|end|><|assistant|>b<|end|><|user|>c<|end|><|assistant|>d<|end|><|user|>bye<|end|>",
         ["d<|end|>"]),
        ({"prompt": "1+1=", "completion": "2"}, "1+1=2<|end|>", ["2<|end|>"]),
        ({"prompt": said("x", "y", "z")["messages"], "completion": [{"role": "assistant", "content": "w"}]},
         "<|user|>x<|end|><|assistant|>y<|end|><|user|>z<|end|><|assistant|>w<|end|>", ["w<|end|>"]),
    ],
)  # fmt: skip
def test_answers_alone_are_learned(conversation: Any, text: str, learned: list[str], tmp_path: Path) -> None:
    assert learned_text(conversation, tmp_path) == (text, learned)


def test_a_template_that_rewrites_what_was_said(tmp_path: Path) -> None:
    assert learned_text(said("a", "b"), tmp_path, FORGETFUL)[1] == ["b<|end|>"]
    (found,) = ChatCorpus((written(tmp_path, said("a", "b", "c", "d")),)).conversations()
    name = str(tmp_path / "tokenizer")
    with pytest.raises(UserError) as caught:
        encoded(found, load_tokenizer(name), name)
    assert str(caught.value) == (
        f"the chat template of the tokenizer '{name}' writes the conversation in {tmp_path / 'chats.jsonl'}:1 "
        "otherwise once more is said, so which tokens are an answer cannot be told: split it, so that each line ends "
        "with the answer to learn"
    )


SHAPE = (
    'write a line as {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]} '
    'or {"prompt": "…", "completion": "…"}'
)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1, 2]", "it is not a JSON object"),
        ({"text": "a"}, "it has neither `messages` nor `prompt` and `completion`"),
        (said("a", "b\ud83d"), "it has half of a surrogate pair, which is no character"),
        ({"messages": []}, "its messages are no list, or an empty one"),
        ({"messages": [{"content": "a"}]}, "a message of it has no `role`"),
        ({"messages": [{"role": "user", "content": 3}]}, "the `content` of a message is not text"),
        (said("a"), "no message of it is the assistant's, so there is nothing to learn"),
        ({"prompt": "a", "completion": said("b")["messages"]},
         "its prompt and its completion are not both text or both messages"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_conversation_is_said(line: Any, reason: str, tmp_path: Path) -> None:
    path = written(tmp_path, said("a", "b"), "", line)
    with pytest.raises(UserError) as caught:
        list(ChatCorpus((path,)).conversations())
    assert str(caught.value) == f"{path}:3 is not a conversation: {reason}; {SHAPE}"


def data_of(tmp_path: Path, *, seed: int = 0, seq_len: int = 12, batch_size: int = 3, **fields: Any) -> Any:
    notes: list[str] = []
    if not (tmp_path / "tokenizer").exists():
        tokenizer_folder(tmp_path / "tokenizer")
    lines = [said(f"q{at}", f"{at}" * (1 + at % 3)) for at in range(10)]
    config = ChatDataConfig(
        tokenizer=str(tmp_path / "tokenizer"), paths=[written(tmp_path, *lines)], heldout_fraction=0.2, **fields
    )
    found = build(config, seq_len=seq_len, seed=seed, batch_size=batch_size, notify=notes.append)
    assert isinstance(found, ChatData)
    return found, [note for note in notes if not note.startswith("tokenizing ")]


def test_rows_are_padded_and_targets_follow_tokens(tmp_path: Path) -> None:
    data, notes = data_of(tmp_path)
    assert notes == [] and data.num_train_windows == 9
    tokens, targets = data.train_batch(0)
    assert tokens.shape == targets.shape == (3, 12) and tokens.dtype == targets.dtype == np.int32
    for row, wanted in zip(tokens, targets, strict=True):
        text = data.tokenizer.decode(row)
        answer = data.tokenizer.decode(wanted[wanted >= 0])
        assert answer.endswith("<|end|>") and f"<|assistant|>{answer}".startswith("<|assistant|>" + answer[:-7])
        assert f"<|assistant|>{answer.removesuffix('<|end|>')}" in text
        for place in np.flatnonzero(wanted[:-1] >= 0):
            if place + 1 < len(row) and wanted[place + 1] >= 0:
                assert row[place + 1] == wanted[place]


def test_the_order_is_of_seed_and_step(tmp_path: Path) -> None:
    (data, _), (again, _), (other, _) = data_of(tmp_path), data_of(tmp_path), data_of(tmp_path, seed=1)
    for step in (5, 0, 3):
        for left, right in zip(data.train_batch(step), again.train_batch(step), strict=True):
            np.testing.assert_array_equal(left, right)
    assert any(not np.array_equal(data.train_batch(at)[0], other.train_batch(at)[0]) for at in range(3))
    # Nine rows in batches of three: in 27 each is there three times.
    seen = np.concatenate([data.train_batch(step)[0] for step in range(9)])
    assert sorted(np.unique(seen, axis=0, return_counts=True)[1]) == [3] * 9
    assert data.identity == again.identity == other.identity
    held_out = written(tmp_path, said("x", "y"), name="h.jsonl")
    assert data.identity != data_of(tmp_path, heldout_paths=[held_out])[0].identity


def test_what_is_too_long_is_cut_and_said(tmp_path: Path) -> None:
    data, notes = data_of(tmp_path, seq_len=7)
    assert notes == ["3 of 10 conversations are longer than model.seq_len 7 and cut off there"]
    assert all((targets >= 0).any(axis=1).all() for _, targets in [data.train_batch(at) for at in range(3)])
    with pytest.raises(UserError) as caught:
        data_of(tmp_path, seq_len=4)
    assert str(caught.value) == (
        f"no conversation is left for the training side of {tmp_path / 'chats.jsonl'}: give more of them, "
        "name other files with data.heldout_paths, or set another data.heldout_fraction"
    )


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The places of all conversations that are tokenized."""
    places: list[str] = []
    encode = chat_data.encoded

    def encoded(conversation: Any, *others: Any) -> Any:
        places.append(conversation.where)
        return encode(conversation, *others)

    monkeypatch.setattr(chat_data, "encoded", encoded)
    monkeypatch.setattr(chat_cache, "_CHUNK_CHARACTERS", 12)
    monkeypatch.setattr(records, "YOUNG_SECONDS", -1.0)
    return places


def test_conversations_are_tokenized_once_for_all_processes(tmp_path: Path, counted: list[str]) -> None:
    cache = {"cache_dir": str(tmp_path / "cache")}
    path = written(tmp_path, *(said(f"q{at}", f"{at}") for at in range(20)))
    config = ChatDataConfig(tokenizer=str(tokenizer_folder(tmp_path / "tokenizer")), paths=[path], **cache)

    def built(_: int) -> Any:
        return build(config, seq_len=12, seed=0, batch_size=3, notify=lambda line: None)

    with ThreadPoolExecutor(4) as threads:  # the lock is one of files, so that threads wait as processes do
        made = list(threads.map(built, range(4)))
    assert len({data.identity for data in made}) == 1
    assert len(counted) == 20 == len(set(counted))
    data_of(tmp_path, seq_len=9, packing="whole", **cache)  # other conversations
    assert len(counted) == 30
    data_of(tmp_path, **cache)
    assert len(counted) == 30


def test_what_of_the_conversations_is_new_is_tokenized(tmp_path: Path, counted: list[str]) -> None:
    cache = {"cache_dir": str(tmp_path / "cache")}
    first, _ = data_of(tmp_path, **cache)
    (tmp_path / "more.jsonl").write_text(json.dumps(said("more", "of it")) + "\n")
    config = {"heldout_paths": [str(tmp_path / "more.jsonl")], **cache}
    assert data_of(tmp_path, **config)[0].identity != first.identity
    chunks_before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.tokens")}
    del counted[:]
    # A damaged chunk is made again, and no other.
    damaged = min(chunks_before)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    assert data_of(tmp_path, **cache)[0].identity == first.identity
    assert 0 < len(counted) < 10
    del counted[:]
    # Another template is other text.
    described = json.loads((tmp_path / "tokenizer" / "tokenizer_config.json").read_text())
    described["chat_template"] = TEMPLATE.replace("<|end|>", "!<|end|>")
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(described))
    assert data_of(tmp_path, **cache)[0].identity != first.identity and len(counted) == 10


def test_conversations_may_be_gone(tmp_path: Path, counted: list[str]) -> None:
    data, _ = data_of(tmp_path, cache_dir=str(tmp_path / "cache"))
    path = tmp_path / "chats.jsonl"
    config = ChatDataConfig(
        tokenizer=str(tmp_path / "tokenizer"),
        paths=[str(path)],
        heldout_fraction=0.2,
        cache_dir=str(tmp_path / "cache"),
    )
    path.unlink()
    notes: list[str] = []
    again = build(config, seq_len=12, seed=0, batch_size=3, notify=notes.append)
    assert again.identity == data.identity and len(counted) == 10
    assert notes[0].startswith(f"the text of {path} is gone or out of reach: using the tokens that were made of it on ")


def test_the_unigram_model_is_of_answers(tmp_path: Path) -> None:
    data, _ = data_of(tmp_path)
    heldout = data.heldout_batches(2, 2)
    loss = data.unigram_loss(heldout)
    assert 0 < loss < np.log(data.vocab_size)
    assert data.unigram_loss([(np.zeros((1, 2), np.int32), np.full((1, 2), -1, np.int32))]) == 0.0


class Careless(Gpt2LMHeadModel):
    """Its loss is a mean over all targets."""

    def loss(self, tokens: hax.NamedArray, targets: hax.NamedArray, *, key: Any = None) -> Any:
        wanted = hnn.one_hot(targets, self.Vocab)
        return -hax.mean(
            hax.sum(hnn.log_softmax(self(tokens, key=key), self.Vocab) * (wanted + 0.01), self.Vocab)
        ).scalar()

    def evaluation_loss(self, tokens: hax.NamedArray, targets: hax.NamedArray) -> Any:
        return self.loss(tokens, targets)


@dataclasses.dataclass(frozen=True)
class CarelessConfig(Gpt2Config):
    def build(self, Vocab: hax.Axis, *, key: Any) -> Any:
        made = Gpt2LMHeadModel.init(self, Vocab, key=key)
        return Careless(**{name: getattr(made, name) for name in Careless.__dataclass_fields__})


def test_a_model_that_counts_what_is_ignored_is_refused(tmp_path: Path) -> None:
    tokenizer_folder(tmp_path / "tokenizer")
    path = written(tmp_path, *[said("a", letter) for letter in "abcdefgh"])
    config = TrainConfig(
        model=CarelessConfig(seq_len=12, vocab_size=101, hidden_dim=8, num_heads=2, num_layers=1),
        data=ChatDataConfig(tokenizer=str(tmp_path / "tokenizer"), paths=[path], heldout_fraction=0.1),
        trainer=TrainerConfig(train_batch_size=2, num_train_steps=2, run_dir=str(tmp_path / "run")),
    )
    MODELS.add("careless", CarelessConfig)
    try:
        with pytest.raises(UserError) as caught:
            train(config, Console(file=io.StringIO()))
    finally:
        MODELS.remove("careless")
    assert str(caught.value) == (
        "the loss of Careless counts negative targets, which are those that nothing is to be learned from (data.type): "
        "return `levanter.models.loss.mean_loss(losses, targets)`, with a number for each target"
    )


def test_a_run_learns_to_answer(tmp_path: Path) -> None:
    tokenizer_folder(tmp_path / "tokenizer")
    path = written(tmp_path, *[said(f"say {letter}", letter * 3) for letter in "abcdefgh" for _ in range(4)])
    config = loads(
        "model: {type: gpt2, seq_len: 24, vocab_size: 101, hidden_dim: 16, num_heads: 2, num_layers: 1}\n"
        f"data: {{type: chat, tokenizer: '{tmp_path / 'tokenizer'}', paths: ['{path}'], heldout_fraction: 0.1}}\n"
        "optimizer: {learning_rate: 0.02, warmup: 2, lr_schedule: constant}\n"
        f"trainer: {{train_batch_size: 8, num_train_steps: 60, eval_every: 0, eval_batches: 1, microbatches: 2, "
        f"sample_tokens: 3, run_dir: '{tmp_path / 'run'}'}}\n"
    )
    out = io.StringIO()
    train(config, Console(file=out, width=200))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.3 * losses[0]
    assert "held-out loss" in out.getvalue()
