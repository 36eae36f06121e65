"""The wording of every error about a model's configuration: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Sequence

from levanter.errors import UserError


def not_positive(field: str, value: int) -> UserError:
    return UserError(f"model.{field} is {value}: it must be at least 1")


def heads_do_not_divide(hidden_dim: int, num_heads: int) -> UserError:
    lower = max(1, hidden_dim // num_heads) * num_heads
    return UserError(
        f"model.hidden_dim {hidden_dim} does not divide into model.num_heads {num_heads}: "
        f"set hidden_dim to a multiple of num_heads, for example {lower} or {lower + num_heads}"
    )


def bad_dropout(value: float) -> UserError:
    return UserError(f"model.dropout is {value}: it is a probability, at least 0 and below 1")


def bad_compute_dtype(value: str, known: Sequence[str]) -> UserError:
    return UserError(f"model.compute_dtype is '{value}': use one of {', '.join(known)}")


def vocabulary_too_small(model_size: int, tokenizer_size: int) -> UserError:
    return UserError(
        f"the tokenizer has {tokenizer_size} tokens but model.vocab_size is {model_size}: "
        f"set model.vocab_size to {tokenizer_size} or more"
    )
