"""Prompts and what a model continues them with, as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from levanter.data.tokenizer import Tokenizer
from levanter.inference import errors
from levanter.inference.generate import Generator, sample_key
from levanter.inference.loaded import Loaded
from levanter.inference.sampling import Sampling


@dataclass(frozen=True)
class Request:
    """How prompts are to be continued.

    Attributes:
        max_tokens: how many tokens are drawn for each at most.
        seed: fixes the draws.
        stops: whether a text ends where the model ends it.
        batch_size: prompts that are read at once.
    """

    sampling: Sampling
    max_tokens: int = 64
    seed: int = 0
    stops: bool = True
    batch_size: int = 16

    def __post_init__(self) -> None:
        for option, value in (("--max-tokens", self.max_tokens), ("--batch-size", self.batch_size)):
            if value < 1:
                raise errors.bad_number(option, value, "at least 1")


@dataclass(frozen=True)
class Continued:
    """A prompt and what follows it; `tokens` are the ids of `text`, and `stopped` says that the model ended it."""

    prompt: str
    text: str
    tokens: list[int]
    stopped: bool


def continue_texts(
    loaded: Loaded, prompts: Sequence[str], request: Request, notify: Callable[[str], None]
) -> list[Continued]:
    """What the model continues each prompt with, in order.

    Args:
        notify: told, in a line for people, of prompts that do not fit.

    Raises:
        UserError: a prompt is empty, or the tokens do not fit the model.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    if request.max_tokens >= model.Pos.size:
        raise errors.window_too_small("--max-tokens", request.max_tokens, model.Pos.size)
    stop = tokenizer.end_ids if request.stops else ()
    generator = Generator(model, loaded.vocab_size, request.sampling, stop=stop, place=loaded.place)
    ids = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    found = []
    for first in range(0, len(ids), request.batch_size):
        part = ids[first : first + request.batch_size]
        found += generator(part, request.max_tokens, sample_key(request.seed))
    for each in found:
        if each.dropped:
            notify(errors.prompt_cut(each.dropped, model.Pos.size))
    return [
        Continued(prompt, _following(tokenizer, tokenizer.encode(prompt), each.tokens), each.tokens, each.stopped)
        for prompt, each in zip(prompts, found, strict=True)
    ]


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids of a prompt, with what its tokenizer puts in front of one; of an empty one, the mark that begins a text.

    Raises:
        UserError: it is empty and there is no such mark.
    """
    ids = tokenizer.encode(prompt, special_tokens=True)
    if not ids and tokenizer.end_of_text is not None:
        return [tokenizer.end_of_text]  # texts follow each other in training, so that one begins where another ends
    if not ids:
        raise errors.empty_prompt()
    return ids


def _following(tokenizer: Tokenizer, prompt: list[int], tokens: list[int]) -> str:
    """The text of tokens that follow a prompt, which a tokenizer may not write as it writes them alone."""
    return tokenizer.decode([*prompt, *tokens])[len(tokenizer.decode(prompt)) :]
