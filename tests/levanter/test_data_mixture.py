"""Mixtures: shares that are exact in steps, and an order that is a pure function of seed and step."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haliax import Axis
from levanter.config import dump, loads
from levanter.data import MixtureDataConfig, TextDataConfig, build
from levanter.data.cache import CachedTokens
from levanter.data.sources.mixture.mixture_data import MixtureData
from levanter.data.sources.mixture.shares import Shares
from levanter.data.token_data import TokenData
from levanter.data.tokenizer import Gpt2Tokenizer
from levanter.errors import UserError
from levanter.inference.perplexity import texts_of
from levanter.runtime.heldout import HeldOut
from levanter.runtime.state import LmBatch, named_batch

GPT2 = Gpt2Tokenizer()
NAMES = ["a", "b", "c"]

weights = st.lists(st.floats(0, 10), min_size=3, max_size=3).filter(lambda each: sum(each) > 0)
schedules = st.lists(st.tuples(st.integers(1, 40), weights), max_size=3, unique_by=lambda each: each[0])


def stages_of(first: list[float], later: list[tuple[int, list[float]]]) -> list[tuple[int, dict[str, float]]]:
    return [(step, dict(zip(NAMES, each, strict=True))) for step, each in [(0, first), *sorted(later)]]


@settings(max_examples=100, deadline=None)
@given(first=weights, later=schedules, batch=st.integers(1, 9), seed=st.integers(0, 9))
def test_shares_are_exact_after_every_step(
    first: list[float], later: list[tuple[int, list[float]]], batch: int, seed: int
) -> None:
    stages = stages_of(first, later)
    shares = Shares(NAMES, stages, batch, seed)
    exact = dict.fromkeys(NAMES, Fraction(0))
    numbers: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for step in range(50):
        own = [each for start, each in stages if start <= step][-1]
        for name in NAMES:
            exact[name] += batch * Fraction(own[name]) / sum(map(Fraction, own.values()))
        sources, of_source = shares.rows(step)
        assert len(sources) == batch
        for source, number in sorted(zip(sources.tolist(), of_source.tolist(), strict=True)):
            numbers[source].append(number)
        for name, count in zip(NAMES, shares.before(step + 1), strict=True):
            assert abs(count - exact[name]) < 2 * len(stages)
    # Each source's rows are read one after the other, and none is left out.
    assert all(read == list(range(len(read))) for read in numbers.values())
    assert [len(read) for read in numbers.values()] == shares.before(50)


def part(first: int, windows: int, batch: int = 6, packing: str = "stream") -> TokenData:
    ids = np.arange(first, first + 4 * windows + 1)
    tokens = CachedTokens(f"from {first}", ids, ids[:9])
    return TokenData(tokens, GPT2, seq_len=4, seed=0, batch_size=batch, packing=packing)


def mixture(batch: int = 6, packing: str = "stream") -> MixtureData:
    parts = {"a": part(0, 10, batch, packing), "b": part(1000, 7, batch, packing), "c": part(2000, 50, batch, packing)}
    return MixtureData(parts, stages_of([1, 2, 3], [(5, [0, 0, 1])]), batch_size=batch)


def test_rows_are_of_the_sources_that_the_weights_say() -> None:
    data = mixture()
    for step in range(8):
        of = (data.train_batch(step)[0][:, 0] // 1000).tolist()
        assert [of.count(each) for each in range(3)] == ([1, 2, 3] if step < 5 else [0, 0, 6])
    assert data.shares(7) == {"a": 5, "b": 10, "c": 27}
    # Ten rows of b are an epoch of seven and three of the next.
    read = np.concatenate([data.train_batch(step)[0][:, 0] for step in range(5)])
    counts = np.unique(read[(read >= 1000) & (read < 2000)], return_counts=True)[1]
    assert sorted(counts) == [1, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("packing", ["stream", "separate", "whole"])
def test_any_rows_of_any_step_at_any_time(packing: str) -> None:
    """A resumed run, the second time too, on another number of processes: each asks for its rows of its steps."""
    straight = mixture(packing=packing)
    steps = {step: straight.train_batch(step) for step in range(30)}  # several epochs of every source
    for resumed in (13, 4, 21, 0, 28):
        again = mixture(packing=packing)
        for step in range(resumed, min(resumed + 3, 30)):
            for processes in (1, 2, 3):
                shares = [again.train_rows(step, range(i, 6, processes)) for i in range(processes)]
                for column, whole in enumerate(steps[step]):
                    for i, share in enumerate(shares):
                        np.testing.assert_array_equal(share[column], whole[i::processes])


def test_held_out_rows_are_of_the_last_weights() -> None:
    data = mixture()
    (batch, *_) = data.heldout_batches(1, 6)
    assert (batch[0][:, 0] >= 2000).all() and batch[0].shape == (6, 4)
    even = MixtureData(data.parts, stages_of([1, 1, 2], []), batch_size=6)
    of = (even.heldout_rows(8)[0][:, 0] // 1000).tolist()
    assert [of.count(each) for each in range(3)] == [2, 2, 4]
    assert 0 < even.unigram_loss() < 12 and len({data.identity, even.identity, mixture().identity}) == 2


@pytest.mark.parametrize("packing", ["stream", "whole"])
def test_some_held_out_rows_are_read_alone(packing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each of several processes asks for, of a mixture and of one source."""
    even = MixtureData(mixture(packing=packing).parts, stages_of([1, 1, 2], []), batch_size=6)
    for data in (even, even.parts["c"]):
        whole = data.heldout_rows(12)
        read: list[int] = []
        cut = TokenData._cut

        def counted(self: TokenData, tokens: Any, windows: Any, read: list[int] = read, cut: Any = cut) -> Any:
            read.append(len(windows))
            return cut(self, tokens, windows)

        monkeypatch.setattr(TokenData, "_cut", counted)
        for rows in (np.arange(3, 6), np.arange(1, 12, 4), np.array([], np.int64), np.arange(12)):
            read.clear()
            for part, column in zip(data.heldout_rows(12, rows), whole, strict=len(rows) > 0):
                np.testing.assert_array_equal(part, column[rows])
            assert sum(read) == len(rows)
        monkeypatch.undo()


def test_the_held_out_loss_of_each_source_is_its_own() -> None:
    """A source that has no weight at the end is still looked at."""
    data = MixtureData(mixture().parts, stages_of([1, 1, 2], [(5, [0, 1, 3])]), batch_size=6)

    def place(rows: Callable[[np.ndarray], Any]) -> LmBatch:
        return named_batch(rows(np.arange(6)), (Axis("batch", 6), Axis("position", 4)))

    def mean(model: Any, batch: LmBatch) -> Any:
        return batch.tokens.array.mean()

    held = HeldOut(data, 1, 6, place)
    losses = held.losses(mean, None)
    assert list(losses) == ["heldout_loss", "heldout_loss/a", "heldout_loss/b", "heldout_loss/c"]
    for name, part in data.parts.items():
        assert losses[f"heldout_loss/{name}"] == part.heldout_rows(6)[0].mean()
    assert losses["heldout_loss"] == data.heldout_rows(6)[0].mean()
    assert list(HeldOut(data.parts["a"], 1, 6, place).losses(mean, None)) == ["heldout_loss"]


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Any]:
    for name, word in (("books", "one two "), ("code", "x = 1\n")):
        (tmp_path / f"{name}.txt").write_text(word * 300)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"body": f"{i} rows"}) + "\n" for i in range(300)))
    return {
        "type": "mixture",
        "cache_dir": str(tmp_path / "cache"),
        "sources": {
            "books": {"type": "text", "paths": [str(tmp_path / "books.txt")], "heldout_fraction": 0.2},
            "rows": {"type": "jsonl", "paths": [str(tmp_path / "rows.jsonl")], "column": "body"},
            "code": {"type": "text", "paths": [str(tmp_path / "code.txt")], "heldout_fraction": 0.1},
        },
        "weights": {"books": 1, "rows": 1},
        "schedule": [{"from_step": 2, "weights": {"code": 2, "rows": 2}}],
    }


def test_a_mixture_from_its_configuration(texts: dict[str, Any]) -> None:
    config = loads(json.dumps({"data": texts}))
    assert loads(dump(config)) == config
    data = build(config.data, seq_len=8, seed=0, batch_size=4, notify=lambda _: None)
    assert isinstance(data, MixtureData)
    words = [data.tokenizer.decode(row) for step in (1, 2) for row in data.train_batch(step)[0]]
    assert [("one" in w or "two" in w, "rows" in w, "=" in w) for w in words].count((True, False, False)) == 2
    assert sum("rows" in w for w in words) == 4 and sum("=" in w for w in words) == 2
    assert {document.domain for document in config.data.corpus().documents()} == {"books", "rows", "code"}
    # An evaluation of what is held out sees what each source holds out, and no text that is trained on.
    held_out = texts_of(config.data, data.tokenizer, "heldout")
    assert list(held_out) == ["books", "rows", "code"]
    ends = (len(data.parts["books"]._tokens.heldout), len(data.parts["code"]._tokens.heldout))
    assert abs(len(held_out["books"].ids) - ends[0]) <= 1 and abs(len(held_out["code"].ids) - ends[1]) <= 1
    apart = loads(json.dumps({"data": {**texts, "packing": "whole"}})).data
    assert len(build(apart, seq_len=8, seed=0, batch_size=4, notify=lambda _: None).train_batch(0)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {"book": 1}}, "data.weights names 'book', which is none of data.sources: did you mean `books`?"),
        ({"weights": {"books": -1}}, "data.weights.books is -1.0: it must be a finite number, at least 0"),
        (
            {"weights": {"books": 0}},
            "data.weights gives no source a weight above 0: give one to at least one of them",
        ),
        (
            {"schedule": [{"from_step": 9, "weights": {"code": 1}}, {"from_step": 9, "weights": {"code": 1}}]},
            "data.schedule.1.from_step is 9, and the stage before begins at 9: put the stages in the order of their "
            "steps, and the first weights into data.weights",
        ),
        (
            {"sources": {"books": {"type": "text", "tokenizer": "other"}}, "weights": {}, "schedule": []},
            "data.sources.books.tokenizer is 'other' and data.tokenizer 'gpt2': one model has one tokenizer; "
            "set data.tokenizer alone",
        ),
        (
            {"sources": {"books": {"type": "text", "packing": "whole"}}, "weights": {}, "schedule": []},
            "data.sources.books.packing is whole and data.packing stream: a batch has one kind of rows; "
            "set data.packing alone",
        ),
        (
            {"sources": {"inner": {"type": "mixture"}}, "weights": {}, "schedule": []},
            "data.sources.inner is a mixture: name its sources beside the others, with the weights they have",
        ),
        (
            {"sources": {"books": {"type": "text", "path": ["x"]}}},
            "unknown key `data.sources.books.path` (config:1): did you mean `data.sources.books.paths`?",
        ),
    ],
)
def test_what_is_wrong_with_a_mixture_is_said(texts: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        loads(json.dumps({"data": {**texts, **changes}}))
    assert str(caught.value).removesuffix(" (set in config:1)") == message


def test_a_mixture_of_nothing_says_how_to_write_one() -> None:
    config = MixtureDataConfig()
    with pytest.raises(UserError, match=r"^the mixture has no sources \(data.sources\): name at least one, such as\n"):
        build(config, seq_len=4, seed=0, batch_size=2)
    with pytest.raises(UserError, match="^the mixture has no sources"):
        config.corpus()
    assert MixtureDataConfig(sources={"a": TextDataConfig()}).stages() == [(0, {"a": 1.0})]
