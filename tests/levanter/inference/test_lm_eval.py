"""The adapter for lm-eval: its three questions, a task where the library is installed, and a plain word without it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
import tiny

from levanter.data import load_tokenizer
from levanter.errors import UserError
from levanter.inference.generate import Generator
from levanter.inference.lm_eval import adapter, evaluate
from levanter.inference.loaded import Loaded
from levanter.inference.sampling import GREEDY
from levanter.inference.score import Row, Scorer

pytestmark = pytest.mark.hurried

HERE = importlib.util.find_spec("lm_eval") is not None
needs_it = pytest.mark.skipif(not HERE, reason="lm-eval is not installed")


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    whole = tiny.config.loads(tiny.LLAMA.replace("vocab_size: 90", "vocab_size: 50257"))
    return Loaded("tiny", whole, tiny.model(whole), load_tokenizer("gpt2"))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's base class, or one with nothing in it where the library is not installed."""
    if not HERE:
        parts = {name: ModuleType(name) for name in ("lm_eval", "lm_eval.api", "lm_eval.api.model")}
        parts["lm_eval.api.model"].LM = type("LM", (), {})  # type: ignore[attr-defined]
        for name, module in parts.items():
            monkeypatch.setitem(sys.modules, name, module)


def asked(*arguments: Any) -> SimpleNamespace:
    return SimpleNamespace(args=arguments)


def test_it_answers_what_the_library_asks(loaded: Loaded, library: None) -> None:
    lm, tokenizer = adapter(loaded, batch_size=2), loaded.tokenizer
    scorer, size = Scorer(loaded.model, loaded.vocab_size), loaded.model.Pos.size
    context, text = tokenizer.encode("one two three"), tokenizer.encode(" four five")
    (expected,) = scorer([Row([*context, *text], len(context))])
    (greedy,) = Generator(loaded.model, loaded.vocab_size, GREEDY)([context], 4, jax.random.key(0))
    pairs = lm.loglikelihood(
        [asked("one two three", " four five"), asked("one two three", tokenizer.decode(greedy.tokens[:1]))]
    )
    assert pairs[0] == (pytest.approx(expected.log_likelihood, rel=1e-5), False)
    assert pairs[1][1] is True

    long = "seven " * 100
    ids = [tokenizer.end_of_text, *tokenizer.encode(long)]
    parts = [Row(ids[start - 1 : start + size], 1) for start in range(1, len(ids), size)]
    # Windows as long as they can be: each but the last asks for all that it reads.
    last = Row(ids[-size - 1 :], size + 1 - (len(ids) - 1) % size)
    rolling = lm.loglikelihood_rolling([asked(long)])
    total = sum(score.log_likelihood for score in scorer([*parts[:-1], last]))
    assert rolling == [pytest.approx(total, rel=1e-5)]

    until = tokenizer.decode(greedy.tokens[2:3])
    first, second = lm.generate_until(
        [
            asked("one two three", {"until": [until], "max_gen_toks": 4}),
            asked("one two three", {"until": [], "max_gen_toks": 2, "do_sample": False}),
        ]
    )
    assert first == tokenizer.decode(greedy.tokens).split(until)[0]
    assert second == tokenizer.decode(greedy.tokens[:2])


@pytest.mark.skipif(HERE, reason="lm-eval is installed")
def test_without_the_library_the_extra_is_named(loaded: Loaded) -> None:
    with pytest.raises(UserError) as caught:
        evaluate(loaded, ["hellaswag"])
    assert str(caught.value) == (
        "the adapter for lm-eval (levanter eval --tasks) needs the Python package `lm_eval`, which is not installed: "
        'run pip install "levanter-compiler[eval]", or pip install -e ".[eval]" in the checkout'
    )


@needs_it
def test_a_task_of_the_library_runs(loaded: Loaded, tmp_path: Path) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    lines = [{"question": f"{a} and {a} make", "choices": [str(2 * a), str(a)], "gold": 0} for a in range(1, 7)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "sums.yaml").write_text(
        f"task: sums\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/sums.jsonl}}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{question}}'\ndoc_to_choice: choices\n"
        "doc_to_target: gold\nmetric_list: [{metric: acc}]\n"
    )
    lm = adapter(loaded, batch_size=4)
    found = lm_eval.simple_evaluate(
        lm, tasks=["sums"], task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False)
    )
    pairs = [asked(line["question"], f" {choice}") for line in lines for choice in line["choices"]]
    scores = np.asarray([score for score, _ in lm.loglikelihood(pairs)]).reshape(-1, 2)
    assert found is not None
    assert found["results"]["sums"]["acc,none"] == pytest.approx((scores.argmax(1) == 0).mean())


@needs_it
def test_a_wrong_task_is_refused_with_the_nearest(loaded: Loaded) -> None:
    with pytest.raises(UserError) as caught:
        evaluate(loaded, ["helaswag"])
    assert str(caught.value) == "lm-eval has no task `helaswag`: did you mean `hellaswag`?"
