"""A model as the library `lm-eval` wants one, so that its tasks judge it.

`adapter(loaded)` is an `lm_eval.api.model.LM`; `evaluate(loaded, tasks)` runs tasks of the library and gives its table
of results. The library comes with the extra `eval`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from levanter.inference import errors
from levanter.inference.generate import Generator, sample_key
from levanter.inference.loaded import Loaded
from levanter.inference.multiple_choice import continuation
from levanter.inference.perplexity import windows
from levanter.inference.sampling import GREEDY, Sampling
from levanter.inference.score import Scorer
from levanter.inference.text import prompt_ids
from levanter.optional import require

_WHAT = "the adapter for lm-eval (levanter eval --tasks)"
_MAX_TOKENS = 256


def evaluate(loaded: Loaded, tasks: Sequence[str], batch_size: int = 8, **options: Any) -> dict[str, Any]:
    """The results of tasks of lm-eval, by task.

    Args:
        options: what `lm_eval.simple_evaluate` takes besides, such as `limit` or `num_fewshot`.

    Raises:
        UserError: lm-eval is not installed, or has no such task.
    """
    library = require("lm_eval", _WHAT, "eval")
    known = require("lm_eval.tasks", _WHAT, "eval").TaskManager()
    unknown = [task for task in tasks if task not in known.all_tasks]
    if unknown:
        raise errors.unknown_task(unknown[0], known.all_tasks)
    found = library.simple_evaluate(adapter(loaded, batch_size), tasks=list(tasks), task_manager=known, **options)
    return {} if found is None else found["results"]


def adapter(loaded: Loaded, batch_size: int = 8) -> Any:
    """The model as an `lm_eval.api.model.LM`.

    Raises:
        UserError: lm-eval is not installed.
    """
    base = require("lm_eval.api.model", _WHAT, "eval").LM
    # The base class is only there where the library is, so the class is made here.
    return type("LevanterLM", (_Methods, base), {})(loaded, batch_size)


class _Methods:
    """What lm-eval asks: how likely a text is after another, how likely a whole text is, and what follows a text."""

    def __init__(self, loaded: Loaded, batch_size: int) -> None:
        super().__init__()
        self._loaded, self._batch_size = loaded, batch_size
        self._scorer = Scorer(loaded.model, loaded.vocab_size, batch_size, loaded.place)
        self._generators: dict[Sampling, Generator] = {}

    @property
    def tokenizer_name(self) -> str:
        """What the library keeps results under."""
        return self._loaded.config.data.tokenizer.replace("/", "__")

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """(context, text) each → the log-likelihood of text after context, and whether it is the greedy text."""
        longest = self._scorer.longest
        tokenizer = self._loaded.tokenizer
        rows = [continuation(tokenizer, request.args[0], request.args[1], longest) for request in requests]
        return [(score.log_likelihood, score.greedy) for score in self._scorer(rows)]

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """(text,) each → the log-likelihood of all of it, given the mark that begins a text."""
        tokenizer, length = self._loaded.tokenizer, self._loaded.model.Pos.size
        found = []
        for request in requests:
            start = prompt_ids(tokenizer, "")
            ids = [*start, *tokenizer.encode(request.args[0])]
            found.append(sum(score.log_likelihood for score in self._scorer(windows(ids, length, length))))
        return found

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """(context, options) each → what follows, up to the first of the texts in `until`."""
        found: list[str] = [""] * len(requests)
        groups: dict[tuple[Sampling, int], list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(_how(request.args[1]), []).append(place)
        for (how, max_tokens), places in groups.items():
            for first in range(0, len(places), self._batch_size):
                part = places[first : first + self._batch_size]
                texts = self._continued([requests[place].args[0] for place in part], how, max_tokens)
                for place, text in zip(part, texts, strict=True):
                    found[place] = _until(text, requests[place].args[1].get("until"))
        return found

    def _continued(self, contexts: Sequence[str], how: Sampling, max_tokens: int) -> list[str]:
        tokenizer, model = self._loaded.tokenizer, self._loaded.model
        if how not in self._generators:
            stop, place = tokenizer.end_ids, self._loaded.place
            self._generators[how] = Generator(model, self._loaded.vocab_size, how, stop=stop, place=place)
        ids = [prompt_ids(tokenizer, context) for context in contexts]
        drawn = self._generators[how](ids, min(max_tokens, model.Pos.size - 1), sample_key(0))
        return [tokenizer.decode(each.tokens) for each in drawn]


def _how(options: Any) -> tuple[Sampling, int]:
    """How lm-eval wants a text to be drawn, in our words."""
    how = GREEDY
    if options.get("do_sample") or options.get("temperature", 0) > 0:
        how = Sampling(options.get("temperature", 1.0), options.get("top_k"), options.get("top_p"))
        how = replace(how, top_k=how.top_k or None)
    return how, options.get("max_gen_toks", _MAX_TOKENS)


def _until(text: str, until: str | Sequence[str] | None) -> str:
    for stop in [until] if isinstance(until, str) else until or ():
        text = text.split(stop)[0] if stop else text
    return text
