"""The wording of everything that can be wrong with a use of a trained model: what is wrong, where, and the fix."""

from __future__ import annotations

from pathlib import Path

from levanter.errors import UserError


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


def code_changed(file: str, checkpoint: Path) -> str:
    return f"{file} has changed since {checkpoint} was saved: the model computes what the code says now"


def prompt_cut(dropped: int, seq_len: int) -> str:
    return f"a prompt is too long: its first {dropped} tokens are left out, as the model reads at most {seq_len} tokens"
