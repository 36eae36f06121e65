"""All that `levanter eval` can be asked, and its answer as JSON can hold it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from levanter.data.sources.text.config import TextDataConfig
from levanter.inference import errors
from levanter.inference.loaded import Loaded
from levanter.inference.multiple_choice import accuracy, read_questions
from levanter.inference.perplexity import ALL, Text, perplexities, texts_of, together
from levanter.inference.score import Scorer

LENGTH = 2048
"""Tokens that a model reads at once where nobody says: what perplexities are mostly given for."""


@dataclass(frozen=True)
class Evaluation:
    """What is asked of a model.

    Attributes:
        domains: text files as NAME=PATH, each a domain.
        source: whether the text of the configuration's source is asked for.
        split: which part of that: `heldout` or `all`.
        length: tokens that the model reads at once; None is `LENGTH`, or all that it can where that is less.
        stride: tokens that each window asks for; None is `length`.
        questions: JSONL files of multiple choice.
        tasks: names of lm-eval's tasks; `limit` questions of each, None all.
        batch_size: texts read at once.
    """

    domains: tuple[str, ...] = ()
    source: bool = True
    split: str = ALL
    length: int | None = None
    stride: int | None = None
    questions: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    limit: int | None = None
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise errors.bad_number("--batch-size", self.batch_size, "at least 1")
        for domain in self.domains:
            if not all(part.strip() for part in domain.partition("=")):
                raise errors.bad_domain(domain)


def evaluate(loaded: Loaded, asked: Evaluation) -> dict[str, Any]:
    """The answers: `perplexity` (of all text, and by domain), `multiple_choice` by file, and `tasks`.

    Raises:
        UserError: a text, a file of questions or a task cannot be had, or a number makes no sense for this model.
    """
    scorer = Scorer(loaded.model, loaded.vocab_size, asked.batch_size, loaded.place)
    answer: dict[str, Any] = {}
    if asked.source or asked.domains:
        answer["perplexity"] = _perplexity(loaded, asked, scorer)
    questions = [(file, read_questions(Path(file))) for file in asked.questions]
    if questions:
        found = [accuracy(scorer, loaded.tokenizer, file, each) for file, each in questions]
        answer["multiple_choice"] = [asdict(each) for each in found]
    if asked.tasks:
        from levanter.inference.lm_eval import evaluate as tasks_of

        answer["tasks"] = tasks_of(loaded, asked.tasks, asked.batch_size, limit=asked.limit)
    return answer


def _perplexity(loaded: Loaded, asked: Evaluation, scorer: Scorer) -> dict[str, Any]:
    longest = loaded.model.Pos.size
    length = _within("--length", asked.length, longest) or min(longest, LENGTH)
    stride = _within("--stride", asked.stride, length) or length
    parts = perplexities(scorer, _texts(loaded, asked), length, stride)
    everything = {key: value for key, value in together(parts).as_dict().items() if key != "domain"}
    return {"length": length, "stride": stride, **everything, "domains": [each.as_dict() for each in parts]}


def _within(option: str, value: int | None, most: int) -> int | None:
    if value is not None and not 1 <= value <= most:
        raise errors.window_too_long(option, value, most)
    return value


def _texts(loaded: Loaded, asked: Evaluation) -> Mapping[str, Text]:
    """All text that is asked for, by domain."""
    found: dict[str, Text] = {}
    data = loaded.config.data
    if asked.source:
        found.update(texts_of(data, loaded.tokenizer, asked.split))
    for domain in asked.domains:
        name, _, path = domain.partition("=")
        files = dataclasses.replace(TextDataConfig(tokenizer=data.tokenizer), paths=[path])
        found[name] = texts_of(files, loaded.tokenizer, ALL, name)[name]
    return found
