"""The wording of every error about a run: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from levanter.errors import UserError, WorkFailed


def out_of_range(field: str, value: int, least: int) -> UserError:
    return UserError(f"trainer.{field} is {value}: it must be at least {least}")


def unknown_tracker(value: str, known: Sequence[str]) -> UserError:
    return UserError(f"trainer.tracker is '{value}': use one of {', '.join(known)}")


def not_finite(step: int, name: str, value: float, learning_rate: float) -> WorkFailed:
    return WorkFailed(
        f"training diverged: {name} is {value} at step {step}. Try a lower --optimizer.learning_rate "
        f"(now {learning_rate:g}) or a longer --optimizer.warmup, in a new --run-dir"
    )


def other_data(checkpoint: Path) -> UserError:
    return UserError(
        f"the text or the tokenizer is not the one that {checkpoint} was trained on: "
        "put back the data of this run, or start another one with --run-dir"
    )


def past_the_end(checkpoint: Path, step: int, num_train_steps: int) -> UserError:
    return UserError(
        f"{checkpoint} is past the end of this run (trainer.num_train_steps is {num_train_steps}): "
        f"set it to {step} or more, or start another run with --run-dir"
    )
