"""How likely a model finds a text: scores, windows, domains, multiple choice."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

import haliax as hax
import passes
from levanter.compiler.inference import plan_inference
from levanter.data import TextDataConfig, load_tokenizer
from levanter.data.tokenizer import Tokenizer
from levanter.errors import UserError
from levanter.inference.multiple_choice import Question, accuracy, continuation, read_questions
from levanter.inference.perplexity import Text, perplexities, texts_of, together, windows
from levanter.inference.score import Row, Score, Scorer
from levanter.models import LmModel
from levanter.runtime.state import state_shape

pytestmark = pytest.mark.hurried

VOCAB = 90
MODELS = {"llama": tiny.llama, "letters": tiny.letters}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> LmModel:
    return tiny.model(MODELS[request.param]())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("gpt2")


def log_probabilities(model: LmModel, ids: list[int]) -> np.ndarray:
    """Of each token but the first, in float64 from the logits of the whole text; padding takes no probability."""
    tokens = hax.named(np.asarray([ids[:-1]], np.int32), (hax.Axis("batch", 1), model.Pos.resize(len(ids) - 1)))
    scores = np.asarray(model(tokens).array, np.float64)[0, :, :VOCAB]
    scores -= np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1, keepdims=True)) + scores.max(1, keepdims=True)
    return scores[np.arange(len(ids) - 1), ids[1:]]


def texts(*lengths: int) -> list[list[int]]:
    random = np.random.default_rng(7)
    return [random.integers(0, VOCAB, length).tolist() for length in lengths]


def test_a_row_is_scored_as_its_logits_say(model: LmModel) -> None:
    rows = [Row(ids, first) for ids, first in zip(texts(65, 3, 2, 40, 7), (1, 2, 1, 30, 3), strict=True)]
    found = list(Scorer(model, VOCAB, batch_size=2)(rows))
    for row, score in zip(rows, found, strict=True):
        expected = log_probabilities(model, list(row.tokens))[row.first - 1 :]
        assert score.count == len(row.tokens) - row.first
        np.testing.assert_allclose(score.log_likelihood, expected.sum(), rtol=2e-5, atol=1e-4)


def test_greedy_is_said_of_the_likeliest_text_alone(model: LmModel) -> None:
    tokens = hax.named(np.asarray([[4, 9, 2]], np.int32), (hax.Axis("batch", 1), model.Pos.resize(3)))
    likeliest = int(np.argmax(model(tokens).array[0, -1, :VOCAB]))
    rows = [Row([4, 9, 2, likeliest], 3), Row([4, 9, 2, (likeliest + 1) % VOCAB], 3)]
    assert [score.greedy for score in Scorer(model, VOCAB)(rows)] == [True, False]


def test_a_mesh_changes_no_score() -> None:
    config = tiny.llama()
    model = tiny.model(config)
    plan = passes.Plan.by_hand({"data": 2, "model": 2}, {"batch": ["data"], "vocab": ["model"]}, {}, "v5e")
    layout = plan_inference(state_shape(config).model, 4, {"data": 2, "model": 2}, "v5e", plan=plan)
    rows = [Row(ids, 1) for ids in texts(30, 10, 64, 5, 6)]
    here = [score.log_likelihood for score in Scorer(model, VOCAB, 4)(rows)]
    there = Scorer(jax.device_put(model, layout.model), VOCAB, 4, layout.place)(rows)
    np.testing.assert_allclose([score.log_likelihood for score in there], here, rtol=1e-5)


@pytest.mark.parametrize(("count", "length", "stride"), [(50, 8, 8), (50, 8, 3), (50, 8, 1), (5, 64, 64), (2, 8, 8)])
def test_windows_ask_for_every_token_but_the_first_once(count: int, length: int, stride: int) -> None:
    ids = np.arange(count)
    rows = list(windows(ids, length, stride))
    assert [token for row in rows for token in row.tokens[row.first :]] == list(range(1, count))
    assert all(len(row.tokens) <= length + 1 and row.first >= 1 for row in rows)
    # A short stride leaves every token but the first ones at least length - stride + 1 before it.
    assert all(row.first >= length - stride + 1 for row in rows if row.tokens[0] > 0)


def test_perplexity_is_that_of_each_window_by_hand(model: LmModel) -> None:
    (ids,) = texts(100)
    both_texts = {"a": Text(np.asarray(ids), 300), "b": Text(np.asarray(ids[:9]), 20)}
    found = perplexities(Scorer(model, VOCAB), both_texts, 16, 8)
    expected = 0.0
    for start in range(1, 100, 8):
        stop = min(start + 8, 100)
        begin = max(0, stop - 17)
        expected -= log_probabilities(model, ids[begin:stop])[start - begin - 1 :].sum()
    first, both = found[0], together(found)
    assert (first.tokens, found[1].tokens, both.tokens, both.num_bytes) == (99, 8, 107, 320)
    np.testing.assert_allclose(first.nats, expected, rtol=1e-5)
    np.testing.assert_allclose(first.perplexity, math.exp(expected / 99), rtol=1e-4)
    np.testing.assert_allclose(first.bits_per_byte, expected / math.log(2) / 300, rtol=1e-5)
    np.testing.assert_allclose(both.nats, first.nats + found[1].nats, rtol=1e-12)


# --- text by domain ---


def test_each_file_is_a_domain(tmp_path: Path, tokenizer: Tokenizer) -> None:
    for name, text in (("a.txt", "one two three"), ("b.txt", "Füße sind vier")):
        (tmp_path / name).write_text(text)
    found = texts_of(TextDataConfig(paths=[str(tmp_path / "*.txt")]), tokenizer, "all")
    assert {Path(name).name: text.num_bytes for name, text in found.items()} == {"a.txt": 13, "b.txt": 16}
    assert tokenizer.decode(found[str(tmp_path / "b.txt")].ids) == "Füße sind vier"
    joined = texts_of(TextDataConfig(paths=[str(tmp_path / "*.txt")]), tokenizer, "all", domain="both")
    assert tokenizer.decode(joined["both"].ids) == "one two three<|endoftext|>Füße sind vier"
    assert joined["both"].num_bytes == 29


def test_held_out_text_is_what_training_leaves_out(tmp_path: Path, tokenizer: Tokenizer) -> None:
    text = "".join(f"line {i}\n" for i in range(300))
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "held.txt").write_text("kept for later")
    whole = tokenizer.encode(text)
    tail = texts_of(TextDataConfig(paths=[str(tmp_path / "a.txt")], heldout_fraction=0.1), tokenizer, "heldout")
    (found,) = tail.values()
    assert found.ids.tolist() == whole[-len(found.ids) :] and abs(len(found.ids) - len(whole) / 10) < 2
    assert found.num_bytes == len(tokenizer.decode(found.ids))
    named = TextDataConfig(paths=[str(tmp_path / "a.txt")], heldout_paths=[str(tmp_path / "held.txt")])
    assert list(texts_of(named, tokenizer, "heldout")) == [str(tmp_path / "held.txt")]
    assert len(texts_of(named, tokenizer, "all")) == 2


def test_no_text_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(UserError) as caught:
        texts_of(TextDataConfig(paths=[str(tmp_path / "a.txt")]), tokenizer, "all")
    assert str(caught.value) == (
        f"there is no text of two tokens or more in {tmp_path}/a.txt: name other text, or --split all"
    )


# --- multiple choice ---


class FakeScorer(Scorer):
    """Likes the rows whose asked text it is told to like, so much a token."""

    longest = 100  # type: ignore[assignment]

    def __init__(self, tokenizer: Tokenizer, likes: dict[str, float]) -> None:
        self.tokenizer, self.likes, self.asked = tokenizer, likes, []

    def __call__(self, rows):
        for row in rows:
            text = self.tokenizer.decode(row.tokens[row.first :])
            self.asked.append((self.tokenizer.decode(row.tokens[: row.first]), text))
            yield Score(self.likes[text], len(row.tokens) - row.first, False)


def test_the_likeliest_choice_is_the_answer_and_length_can_be_taken_out(tokenizer: Tokenizer) -> None:
    questions = [
        Question("The sky is", ("blue", "a rather pale kind of green"), 1),
        Question("Two and two make ", ("four", "five"), 0),
    ]
    scorer = FakeScorer(tokenizer, {" blue": -4.0, " a rather pale kind of green": -9.0, " four": -1.0, " five": -2.0})
    found = accuracy(scorer, tokenizer, "q", questions)
    assert scorer.asked[0] == ("The sky is", " blue")
    assert scorer.asked[2] == ("Two and two make", " four")  # the space goes to the word, as in training
    assert (found.questions, found.accuracy, found.accuracy_per_byte) == (2, 0.5, 1.0)


@pytest.mark.parametrize(
    ("context", "text", "longest", "kept", "asked"),
    [
        ("", "hello", 9, "<|endoftext|>", "hello"),
        ("one two three four", " five six", 4, " three four", " five six"),
        ("one", " two three four five", 3, " three", " four five"),
        ("a b", "c", 9, "a", " bc"),  # one token over the border: it is the text's
    ],
)
def test_what_is_asked_for_after_a_context(tokenizer: Tokenizer, context, text, longest, kept, asked) -> None:
    row = continuation(tokenizer, context, text, longest)
    assert (tokenizer.decode(row.tokens[: row.first]), tokenizer.decode(row.tokens[row.first :])) == (kept, asked)


QUESTION = '{"prompt": "The capital of France is", "choices": ["Paris", "Rome"], "answer": 0}'


def test_questions_are_read(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    by_text = json.dumps({"prompt": "x", "choices": ["a", "b", "c"], "answer": "b"})
    file.write_text(f"{QUESTION}\n\n{by_text}\n")
    assert read_questions(file) == [
        Question("The capital of France is", ("Paris", "Rome"), 0),
        Question("x", ("a", "b", "c"), 1),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "it is not an object"),
        ('{"prompt": "x", "answer": 0}', "it has no `choices`"),
        ('{"prompt": 3, "choices": ["a", "b"], "answer": 0}', "`prompt` is not text"),
        ('{"prompt": "x", "choices": ["a"], "answer": 0}', "`choices` is not a list of two texts or more"),
        (
            '{"prompt": "x", "choices": ["a", "b"], "answer": 2}',
            "`answer` is none of its 2 choices, by place from 0 or by text",
        ),
        (
            '{"prompt": "x", "choices": ["a", "b"], "answer": "c"}',
            "`answer` is none of its 2 choices, by place from 0 or by text",
        ),
    ],
)
def test_what_is_no_question_is_refused_with_its_line(tmp_path: Path, line: str, reason: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(f"{QUESTION}\n{line}\n")
    with pytest.raises(UserError) as caught:
        read_questions(file)
    assert str(caught.value) == f"no question ({file}:2): {reason}; write {QUESTION}"


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    with pytest.raises(UserError) as caught:
        read_questions(file)
    assert str(caught.value) == f"cannot read `{file}`: no such file or directory: check the path"
    file.write_text("\n")
    with pytest.raises(UserError) as caught:
        read_questions(file)
    assert str(caught.value) == f"`{file}` has no questions: write one in each line, {QUESTION}"
