"""The wording of everything that can be wrong with a use of a trained model: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from levanter.checkpoint.locations import Location
from levanter.errors import UserError, suggestion


def bad_number(option: str, value: object, allowed: str) -> UserError:
    return UserError(f"{option} is {value}: it must be {allowed}")


def empty_prompt() -> UserError:
    return UserError("a prompt is empty, and this tokenizer has no mark to start from: write at least one character")


def window_too_small(option: str, tokens: int, seq_len: int) -> UserError:
    return UserError(
        f"{option} {tokens} does not fit the model, which reads at most {seq_len} tokens with the prompt: "
        f"use at most {seq_len - 1}"
    )


def no_model(path: str) -> UserError:
    return UserError(
        f"no model in `{path}`: give a run directory (with config.yaml and checkpoints/), one of its checkpoints, or a "
        "Hugging Face folder (with config.json) or id"
    )


def no_checkpoint(path: Path) -> UserError:
    return UserError(f"{path} has no checkpoint yet: let the run come to one (trainer.checkpoint.every_steps)")


def code_changed(file: str, checkpoint: Location) -> str:
    return f"{file} has changed since {checkpoint} was saved: the model computes what the code says now"


def prompt_cut(dropped: int, seq_len: int) -> str:
    return f"a prompt is too long: its first {dropped} tokens are left out, as the model reads at most {seq_len} tokens"


def no_text(source: str, split: str) -> UserError:
    what = "held-out text" if split == "heldout" else "text"
    return UserError(f"there is no {what} of two tokens or more in {source}: name other text, or --split all")


def unreadable(path: Path, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UserError(f"cannot read `{path}`: {reason.lower()}: check the path")


def no_questions(path: Path) -> UserError:
    return UserError(f"`{path}` has no questions: write one in each line, {_QUESTION}")


def bad_question(where: str, reason: str) -> UserError:
    return UserError(f"no question ({where}): {reason}; write {_QUESTION}")


_QUESTION = '{"prompt": "The capital of France is", "choices": ["Paris", "Rome"], "answer": 0}'


def unknown_task(task: str, known: Iterable[str]) -> UserError:
    return UserError(f"lm-eval has no task `{task}`: {suggestion(task, known)}")


def bad_domain(text: str) -> UserError:
    return UserError(f"--domain {text}: write NAME=PATH, such as --domain news='news/*.txt'")


def window_too_long(option: str, value: int, most: int) -> UserError:
    return UserError(f"{option} is {value}: it must be from 1 to {most}, the tokens that the model reads at once")
