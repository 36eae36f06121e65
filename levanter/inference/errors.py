"""The wording of everything that can be wrong with a use of a trained model: what is wrong, where, and the fix."""

from __future__ import annotations

from levanter.errors import UserError


def bad_number(option: str, value: object, allowed: str) -> UserError:
    return UserError(f"{option} is {value}: it must be {allowed}")


def no_prompt() -> UserError:
    return UserError("no prompt: give --prompt TEXT, as often as you like, or --prompts FILE with one in each line")


def empty_prompt() -> UserError:
    return UserError("a prompt is empty, and this tokenizer has no mark to start from: write at least one character")


def window_too_small(option: str, tokens: int, seq_len: int) -> UserError:
    return UserError(
        f"{option} {tokens} does not fit the model, which reads at most {seq_len} tokens with the prompt: "
        f"use at most {seq_len - 1}"
    )
