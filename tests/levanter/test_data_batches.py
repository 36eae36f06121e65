"""Batches are a pure function of seed and step; the token cache is whole, checked, and made once."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levanter.data import SotuDataConfig, TextDataConfig, TokenData, build
from levanter.data.cache import CachedTokens, default_cache_dir
from levanter.data.tokenizer import Gpt2Tokenizer
from levanter.errors import UserError

GPT2 = Gpt2Tokenizer()
WORDS = "one two three four five six seven eight nine ten eleven twelve"


def token_data(train: int, heldout: int = 9, *, seq_len: int = 4, seed: int = 0, batch_size: int = 3) -> TokenData:
    tokens = CachedTokens("key", np.arange(train, dtype=np.uint16), np.arange(heldout, dtype=np.uint16))
    return TokenData(tokens, GPT2, seq_len=seq_len, seed=seed, batch_size=batch_size)


@pytest.fixture
def text(tmp_path: Path) -> TextDataConfig:
    (tmp_path / "text.txt").write_text("\n".join(f"{i} {WORDS}" for i in range(100)))
    return TextDataConfig(paths=[str(tmp_path / "text.txt")], cache_dir=str(tmp_path / "cache"))


def build_quietly(config: TextDataConfig, notices: list[str] | None = None) -> TokenData:
    notices = [] if notices is None else notices
    return build(config, seq_len=16, seed=0, batch_size=4, notify=notices.append)


@settings(max_examples=50, deadline=None)
@given(
    train=st.integers(5, 200),
    seq_len=st.integers(1, 4),
    batch_size=st.integers(1, 30),
    seed=st.integers(0, 2**63),
    step=st.integers(0, 10**9),
)
def test_a_batch_is_of_seed_and_step_alone(train: int, seq_len: int, batch_size: int, seed: int, step: int) -> None:
    first, second = (token_data(train, seq_len=seq_len, seed=seed, batch_size=batch_size) for _ in range(2))
    second.train_batch(step + 1)
    tokens, targets = first.train_batch(step)
    assert (tokens.dtype, targets.dtype) == (np.int32, np.int32)
    assert tokens.shape == targets.shape == (batch_size, seq_len)
    assert np.array_equal(targets, tokens + 1)  # the text is 0, 1, 2, …
    again = second.train_batch(step)
    assert np.array_equal(tokens, again[0]) and np.array_equal(targets, again[1])


@settings(max_examples=50, deadline=None)
@given(train=st.integers(5, 60), step=st.integers(0, 10**9), rows=st.lists(st.integers(0, 6), max_size=9))
def test_some_rows_of_a_batch_are_those_of_the_batch(train: int, step: int, rows: list[int]) -> None:
    data = token_data(train, batch_size=7)  # often less than an epoch, often several
    for part, whole in zip(data.train_rows(step, rows), data.train_batch(step), strict=True):
        assert part.shape == (len(rows), 4) and part.dtype == np.int32
        assert np.array_equal(part, whole[rows])


@pytest.mark.parametrize("rows", [[3], [-1], [0, 7]])
def test_a_batch_has_no_other_rows(rows: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^the rows of a batch are 0 to 2, not \["):
        token_data(9).train_rows(0, rows)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_has_every_window_once(epoch: int) -> None:
    data = token_data(4 * 30 + 1, batch_size=3)
    starts = [data.train_batch(epoch * 10 + step)[0][:, 0] for step in range(10)]
    assert np.sort(np.concatenate(starts)).tolist() == list(range(0, 120, 4))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first = token_data(4 * 300 + 1, batch_size=300)
    other = token_data(4 * 300 + 1, batch_size=300, seed=1)
    orders = [first.train_batch(0)[0], first.train_batch(1)[0], other.train_batch(0)[0]]
    assert all(not np.array_equal(orders[i], orders[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_a_batch_may_span_epochs() -> None:
    data = token_data(9, batch_size=5)  # two windows
    tokens, _ = data.train_batch(0)
    assert sorted(tokens[:2, 0].tolist()) == sorted(tokens[2:4, 0].tolist()) == [0, 4]


def test_a_step_is_not_negative() -> None:
    with pytest.raises(ValueError, match="^a step is counted from 0, not -1$"):
        token_data(9).train_batch(-1)


def test_heldout_batches_are_spread_over_the_text() -> None:
    data = token_data(9, heldout=4 * 20 + 1)
    batches = data.heldout_batches(2, 5)
    assert [tokens[:, 0].tolist() for tokens, _ in batches] == [[0, 8, 16, 24, 32], [40, 48, 56, 64, 72]]
    assert [tokens[:, 0].tolist() for tokens, _ in data.heldout_batches(9, 6)] == [
        [0, 4, 8, 12, 16, 20],
        [24, 28, 32, 40, 44, 48],
        [52, 56, 60, 64, 68, 72],
    ]
    assert [tokens[:, 0].tolist() for tokens, _ in token_data(9, heldout=9).heldout_batches(3, 3)] == [[0, 4, 0]]
    assert data.heldout_batches(0, 5) == []


def test_the_unigram_loss_by_hand() -> None:
    tokens = CachedTokens("key", np.array([1, 1, 1, 2], np.uint16), np.array([1, 7], np.uint16))
    data = TokenData(tokens, GPT2, seq_len=1, seed=0, batch_size=1)
    total = 4 + 50257
    assert data.unigram_loss() == pytest.approx(-(math.log(4 / total) + math.log(1 / total)) / 2)
    assert data.unigram_loss([(np.array([[1]]), np.array([[2]]))]) == pytest.approx(-math.log(2 / total))


def test_the_quickstart_corpus(tmp_path: Path) -> None:
    data = build(SotuDataConfig(cache_dir=str(tmp_path)), seq_len=128, seed=0, batch_size=8, notify=lambda line: None)
    assert (data.num_train_tokens, data.num_heldout_tokens) == (2_282_000, 107_157)
    assert data.identity.startswith("f0bfbbb12e767954")  # as checkpoints have it
    assert data.unigram_loss() == pytest.approx(6.69, abs=0.01)
    tokens, targets = data.train_batch(0)
    assert data.tokenizer.decode(tokens[0]).startswith(" of the service.")
    assert np.array_equal(tokens[:, 1:], targets[:, :-1])


def test_too_little_text_is_said(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one two three")
    config = TextDataConfig(paths=[str(path)], cache_dir=str(tmp_path / "cache"))
    with pytest.raises(UserError) as caught:
        build_quietly(config)
    assert str(caught.value) == (
        f"the training text is too short ({path}): it has 4 tokens and one sequence needs 17 (16 and a last target): "
        "use more text or a smaller model.seq_len"
    )
    path.write_text(WORDS * 5)
    with pytest.raises(UserError) as caught:
        build_quietly(config)
    assert str(caught.value) == (
        f"the held-out text is too short ({path}): it has 3 tokens and one sequence needs 17 (16 and a last target): "
        "use more text, a larger data.heldout_fraction or a smaller model.seq_len"
    )


def test_the_cache_lies_where_caches_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache_dir() == tmp_path / ".cache" / "levanter-compiler"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert default_cache_dir() == tmp_path / "elsewhere" / "levanter-compiler"


def test_reading_a_config_loads_no_heavy_library() -> None:
    code = (
        "import sys, levanter.data.config, levanter.checkpoint.config; "
        "print([m for m in ('jax', 'numpy', 'transformers', 'tokenizers', 'datasets', 'wandb', 'tensorstore') "
        "if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
