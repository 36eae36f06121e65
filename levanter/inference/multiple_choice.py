"""Multiple choice by log-likelihood: the choice that a model finds likeliest after the prompt is its answer.

A question is a line of a JSONL file:

    {"prompt": "The capital of France is", "choices": ["Paris", "Rome"], "answer": 0}

`answer` is the place of the right choice, or its text. A space is put between prompt and choice where neither has one.
Longer choices are less likely for their length alone, so a second accuracy compares log-likelihoods per byte.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levanter.data.tokenizer import Tokenizer
from levanter.inference import errors
from levanter.inference.score import Row, Scorer
from levanter.inference.text import prompt_ids


@dataclass(frozen=True)
class Question:
    """A prompt, what may follow it, and the place of what does."""

    prompt: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Accuracy:
    """The share of questions answered rightly: by log-likelihood, and by log-likelihood per byte."""

    name: str
    questions: int
    accuracy: float
    accuracy_per_byte: float


def read_questions(path: Path) -> list[Question]:
    """The questions of a JSONL file.

    Raises:
        UserError: it cannot be read, or a line is no question.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.unreadable(path, error) from None
    found = [_question(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise errors.no_questions(path)
    return found


def _question(where: str, line: str) -> Question:
    try:
        fields: Any = json.loads(line)
    except ValueError as error:
        raise errors.bad_question(where, f"it is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise errors.bad_question(where, "it is not an object")
    if missing := [f"`{key}`" for key in ("prompt", "choices", "answer") if key not in fields]:
        raise errors.bad_question(where, f"it has no {', '.join(missing)}")
    prompt, choices, answer = fields["prompt"], fields["choices"], fields["answer"]
    if not isinstance(prompt, str):
        raise errors.bad_question(where, "`prompt` is not text")
    if not (isinstance(choices, list) and len(choices) > 1 and all(isinstance(each, str) and each for each in choices)):
        raise errors.bad_question(where, "`choices` is not a list of two texts or more")
    if isinstance(answer, str) and answer in choices:
        answer = choices.index(answer)
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise errors.bad_question(where, f"`answer` is none of its {len(choices)} choices, by place from 0 or by text")
    return Question(prompt, tuple(choices), answer)


def accuracy(scorer: Scorer, tokenizer: Tokenizer, name: str, questions: Sequence[Question]) -> Accuracy:
    """How many questions a model answers rightly."""
    rows = [
        continuation(tokenizer, question.prompt, _spaced(question.prompt, choice), scorer.longest)
        for question in questions
        for choice in question.choices
    ]
    scores = iter([score.log_likelihood for score in scorer(rows)])
    right = right_per_byte = 0
    for question in questions:
        found = [next(scores) for _ in question.choices]
        per_byte = [score / len(choice.encode()) for score, choice in zip(found, question.choices, strict=True)]
        right += found.index(max(found)) == question.answer
        right_per_byte += per_byte.index(max(per_byte)) == question.answer
    return Accuracy(name, len(questions), right / len(questions), right_per_byte / len(questions))


def continuation(tokenizer: Tokenizer, context: str, text: str, longest: int) -> Row:
    """The row that asks for `text` after `context`.

    Spaces at the end of the context go to the text, since tokens begin with theirs. What does not fit is cut off the
    front of the context; a text that does not fit alone loses its own beginning.
    """
    kept = context.rstrip()
    text, context = context[len(kept) :] + text, kept
    before = prompt_ids(tokenizer, context)
    whole = prompt_ids(tokenizer, context + text) if context else [*before, *tokenizer.encode(text)]
    # Where the two grow together (a token over the border), what is new is the text's.
    first = len(before) if whole[: len(before)] == before else _common(whole, before)
    first = max(1, min(first, len(whole) - 1))
    cut = max(0, len(whole) - longest)
    return Row(whole[cut:], max(1, first - cut))


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    differing = (i for i, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    return next(differing, min(len(first), len(second)))


def _spaced(prompt: str, choice: str) -> str:
    between = prompt and not prompt[-1].isspace() and not choice[0].isspace()
    return f" {choice}" if between else choice
