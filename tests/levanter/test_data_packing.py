"""Rows out of documents: what each packing has in them, and that documents do not see each other."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import haliax as hax
from levanter.config import TrainConfig, loads
from levanter.data import build
from levanter.data.cache import CachedTokens
from levanter.data.packing import IGNORED, packed
from levanter.data.token_data import TokenData
from levanter.data.tokenizer import Gpt2Tokenizer
from levanter.data.tokens import ArrayTokens
from levanter.errors import UserError
from levanter.models.check import build as build_model
from levanter.models.lm_model import LmModel
from levanter.runtime.state import LmBatch, segments_of
from levanter.runtime.trainer import train

END = 99


def tokens_of(lengths: list[int], closed: bool = True) -> tuple[ArrayTokens, list[list[int]]]:
    """Documents of so many ids, each id of its own, and END behind each unless not `closed`."""
    documents, first = [], 100
    for length in lengths:
        documents.append([*range(first, first + length), *([END] if closed else [])])
        first += length
    ends = np.cumsum([len(each) for each in documents]) if documents else np.zeros(0, np.int64)
    return ArrayTokens(np.array([i for each in documents for i in each]), ends), documents


def learned(batch: tuple[np.ndarray, ...], row: int) -> list[tuple[int, list[int]]]:
    """For each target of a row that counts: it, and the inputs that its prediction sees."""
    tokens, targets, segments = (each[row].tolist() for each in batch)
    found = []
    for place, target in enumerate(targets):
        if target >= 0:
            seen = [t for t, s in zip(tokens[: place + 1], segments[: place + 1], strict=True) if s == segments[place]]
            found.append((target, seen))
    return found


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    seq_len=st.integers(1, 9),
    packing=st.sampled_from(["separate", "whole"]),
    closed=st.booleans(),
    end=st.sampled_from([END, None]),
)
def test_no_target_knows_of_another_document(
    lengths: list[int], seq_len: int, packing: str, closed: bool, end: int | None
) -> None:
    tokens, documents = tokens_of(lengths, closed)
    rows = packed(packing, tokens, seq_len, end)
    batch = rows.cut(np.arange(rows.count))
    assert all(part.shape == (rows.count, seq_len) and part.dtype == np.int32 for part in batch)
    home = {one: document for document in documents for one in document if one != END}
    seen_targets: list[int] = []
    for row in range(rows.count):
        for target, seen in learned(batch, row):
            seen_targets.append(target)
            *before, last = seen
            document = home[target] if target != END else home[last]
            at = len(document) - 1 if target == END else document.index(target)
            # The inputs are what stands before it in its document, from its start or from the start of the row.
            text = [*([end] if end is not None else []), *document[:at]]
            assert seen == text[len(text) - len(seen) :] and len(seen) >= 1
            del before
    everything = [one for document in documents for one in (document if end is not None else document[1:])]
    if packing == "whole":
        missed = len(everything) - len(seen_targets)
        # Without an end-of-text id a row has nothing to see before its first target.
        assert missed == 0 if end is not None else missed <= rows.count
        if end is not None:
            assert seen_targets == everything


def test_whole_documents_fill_rows_in_order() -> None:
    tokens, _ = tokens_of([2, 1, 5, 2])
    rows = packed("whole", tokens, 5, END)
    ids, targets, segments = rows.cut(np.arange(rows.count))
    e, i = END, IGNORED
    assert ids.tolist() == [[e, 100, 101, e, 102], [e, 103, 104, 105, 106], [107, e, 108, 109, e]]
    assert targets.tolist() == [[100, 101, e, 102, e], [103, 104, 105, 106, 107], [e, 108, 109, e, i]]
    assert segments.tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 1, 1, 2]]


def test_separate_windows_are_those_of_the_stream() -> None:
    tokens, _ = tokens_of([5, 3, 9, 2, 4, 6])
    stream, apart = (packed(packing, tokens, 4, END) for packing in ("stream", "separate"))
    assert stream.count == apart.count == 8
    rows = np.array([3, 0, 7])
    for left, right in zip(stream.cut(rows), apart.cut(rows), strict=False):
        np.testing.assert_array_equal(left, right)


MODELS = {
    "gpt2": {"type": "gpt2", "num_heads": 2},
    "llama": {"type": "llama", "num_heads": 2, "num_kv_heads": 1, "intermediate_dim": 24},
    "gemma3": {"type": "gemma3", "num_heads": 2, "num_kv_heads": 1, "intermediate_dim": 24, "head_dim": 8},
}


def config_of(model: dict[str, Any], data: dict[str, Any], **trainer: Any) -> TrainConfig:
    written = {
        "model": {"seq_len": 12, "vocab_size": 128, "hidden_dim": 16, "num_layers": 2, **model},
        "data": data,
        "optimizer": {"learning_rate": 0.01},
        "trainer": {"train_batch_size": 4, "eval_batches": 0, "sample_tokens": 0, **trainer},
    }
    return loads(json.dumps(written))


@pytest.mark.hurried
@pytest.mark.parametrize("name", MODELS)
def test_the_loss_of_a_packed_row_is_that_of_its_documents(name: str) -> None:
    config = config_of(MODELS[name], {"type": "text"})
    model: LmModel = jax.jit(lambda: build_model(config.model, jax.random.key(0)))()
    tokens, _ = tokens_of([3, 2, 4])
    ids = np.where(tokens.ids == END, 0, tokens.ids - 99)
    row = packed("whole", ArrayTokens(ids, tokens.ends), 12, 0).cut(np.array([0]))
    alone = np.zeros((2, 3, 12), np.int32)
    alone[1] = IGNORED
    for place, document in enumerate(np.split(ids, tokens.ends[:-1])):
        alone[0, place, : len(document)] = [0, *document[:-1]]
        alone[1, place, : len(document)] = document

    @jax.jit
    def evaluated(model: LmModel, batch: LmBatch) -> jax.Array:
        return model.evaluation_loss(batch.tokens, batch.targets, **segments_of(model, "evaluation_loss", batch))

    def loss(*arrays: np.ndarray) -> float:
        axes = (hax.Axis("batch", len(arrays[0])), config.model.Pos)
        batch = LmBatch(*(hax.named(jnp.asarray(each), axes) for each in arrays))
        return float(evaluated(model, batch))

    assert loss(*row) == pytest.approx(loss(*alone), rel=2e-5)
    assert loss(*row[:2]) != pytest.approx(loss(*alone), rel=1e-4)
    inputs, targets, segments = row
    for one in np.unique(segments):
        # Another document in its place changes no bit of what is said of the others.
        others = np.where(segments == one, IGNORED, targets)
        changed = np.where(segments == one, (inputs + 7) % 128, inputs)
        assert loss(changed, others, segments) == loss(inputs, others, segments)
        assert loss(changed, targets, segments) != loss(inputs, targets, segments)


def corpus(tmp_path: Path) -> dict[str, Any]:
    rows = [{"text": f"{i} one two three four"[: 6 + i % 12]} for i in range(200)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"type": "jsonl", "paths": [str(tmp_path / "rows.jsonl")], "cache_dir": str(tmp_path / "cache")}


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_of_whole_documents_is_the_same_on_a_mesh(tmp_path: Path) -> None:
    data = {**corpus(tmp_path), "packing": "whole"}
    found = []
    for mesh, evaluations in ((None, 0), ("data=2,model=2", 1)):
        run = tmp_path / f"run{mesh}"
        model = {**MODELS["llama"], "vocab_size": 50257, "num_layers": 1}
        config = config_of(model, data, run_dir=str(run), num_train_steps=2, mesh=mesh, eval_batches=evaluations)
        train(config, Console(quiet=True))
        found.append(losses(run))
    np.testing.assert_allclose(*found, rtol=2e-5)


def test_a_model_that_knows_of_no_documents_is_refused(tmp_path: Path) -> None:
    class Plain:
        def loss(self, tokens: Any, targets: Any, *, key: Any = None) -> Any: ...

    batch = LmBatch(*[hax.zeros(hax.Axis("position", 2))] * 3)
    with pytest.raises(UserError) as caught:
        segments_of(Plain(), "loss", batch)
    assert str(caught.value) == (
        "`Plain.loss` takes no `segments`, so that documents would see each other (data.packing): "
        "add the argument `segments: NamedArray | None = None` and let attention respect it, "
        "or set data.packing to stream"
    )
    assert segments_of(Plain(), "loss", LmBatch(batch.tokens, batch.targets)) == {}


def test_the_unigram_model_knows_of_ignored_targets(tmp_path: Path) -> None:
    config = config_of(MODELS["gpt2"], {**corpus(tmp_path), "packing": "whole", "heldout_fraction": 0.2}).data
    data = build(config, seq_len=12, seed=0, batch_size=4, notify=lambda _: None)
    assert data.ignores and (data.heldout_batches(2, 4)[0][1] == IGNORED).any()
    assert 0 < data.unigram_loss(data.heldout_batches(2, 4)) < 9
    tokens = CachedTokens("key", np.arange(30), np.arange(9))
    assert not TokenData(tokens, Gpt2Tokenizer(), seq_len=4, seed=0, batch_size=2).ignores


def test_conversations_are_packed_whole(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"{i} +", "completion": " one" * (1 + i % 5)}) for i in range(40)]
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    written = {"type": "chat", "paths": [str(tmp_path / "chats.jsonl")], "heldout_fraction": 0.2}
    alone, together = (
        build(
            config_of(MODELS["gpt2"], {**written, "packing": packing}).data,
            **{"seq_len": 16, "seed": 0, "batch_size": 4, "notify": lambda _: None},
        )
        for packing in ("stream", "whole")
    )
    assert together.num_train_windows < alone.num_train_windows / 1.5

    def answers(data: TokenData) -> list[list[int]]:
        """What is learned in an epoch, conversation by conversation."""
        _, targets, *apart = data.sequences(np.arange(data.num_train_windows))
        segments = apart[0] if apart else np.zeros_like(targets)
        found = [
            row[(own == one) & (row >= 0)].tolist()
            for row, own in zip(targets, segments, strict=True)
            for one in np.unique(own)
        ]
        return sorted(filter(None, found))

    assert answers(alone) == answers(together) and len(answers(alone)) > 20


@pytest.mark.slow
def test_a_second_resume_continues_as_the_first_did(tmp_path: Path) -> None:
    """A mixture of packed documents, stopped within epochs and at their ends, twice."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    sources = {name: {**corpus(tmp_path / name), "heldout_fraction": 0.2} for name in ("a", "b")}
    rows = [json.dumps({"text": f"{i} of b"}) for i in range(12)]  # an epoch is a few steps
    (tmp_path / "b" / "rows.jsonl").write_text("\n".join(rows))
    data = {"type": "mixture", "sources": sources, "weights": {"a": 1, "b": 2}, "packing": "whole"}
    data["cache_dir"] = str(tmp_path / "cache")
    data["schedule"] = [{"from_step": 3, "weights": {"b": 1}}]
    model = {**MODELS["gpt2"], "vocab_size": 50257, "num_layers": 1}

    def run(name: str, *lengths: int) -> list[float]:
        for length in lengths:
            given = {"run_dir": str(tmp_path / name), "num_train_steps": length}
            optimizer = {"lr_schedule": "constant", "warmup": 0}
            made = config_of(model, data, **given)
            train(dataclasses.replace(made, optimizer=dataclasses.replace(made.optimizer, **optimizer)))
        return losses(tmp_path / name)

    assert run("straight", 8) == run("stopped", 2, 5, 8)
