"""The wording of every error about a model's configuration: what is wrong, where, and the fix."""

from __future__ import annotations

from levanter.errors import UserError


def heads_do_not_divide(hidden_dim: int, num_heads: int) -> UserError:
    lower = max(1, hidden_dim // num_heads) * num_heads
    return UserError(
        f"model.hidden_dim {hidden_dim} does not divide into model.num_heads {num_heads}: "
        f"set hidden_dim to a multiple of num_heads, for example {lower} or {lower + num_heads}"
    )


def vocabulary_too_small(model_size: int, tokenizer_size: int) -> UserError:
    return UserError(
        f"the tokenizer has {tokenizer_size} tokens but model.vocab_size is {model_size}: "
        f"set model.vocab_size to {tokenizer_size} or more"
    )
