"""The wording of every error about a run: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from levanter.errors import UserError, WorkFailed

_SHOWN = 8
_SHOWN_FILES = 3


def not_finite(step: int, name: str, value: float, learning_rate: float) -> WorkFailed:
    return WorkFailed(
        f"training diverged: {name} is {value} at step {step}. Try a lower --optimizer.learning_rate "
        f"(now {learning_rate:g}) or a longer --optimizer.warmup, in a new --run-dir"
    )


def out_of_memory(reason: str, step: Mapping[str, int], model: Mapping[str, int]) -> UserError:
    """A step that does not fit; `step` and `model` are fields of the trainer and of the model, with their sizes."""
    return UserError(
        f"out of memory while training ({reason}): make {_sizes('trainer', step)} smaller, or one of "
        f"{_sizes('model', model)}; --model.gradient_checkpointing true needs less where the model has it"
    )


def state_too_large(needed: int, there: int, model: Mapping[str, int]) -> UserError:
    """Parameters and moments that do not fit, before anything is allocated. Both numbers are bytes."""
    return UserError(
        f"the model and its optimizer need {needed / 2**30:,.1f} GiB and there are {there / 2**30:,.1f} GiB: "
        f"make one of {_sizes('model', model)} smaller (`levanter compile --mesh SHAPE` says what it needs on a mesh)"
    )


def _sizes(section: str, sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{section}.{name} ({size})" for name, size in sizes.items())


def other_data(checkpoint: Path) -> UserError:
    return UserError(
        f"the text or the tokenizer is not the one that {checkpoint} was trained on: "
        "put back the data of this run, or start another one with --run-dir"
    )


def microbatches_do_not_divide(batch: int, microbatches: int) -> UserError:
    nearest = min((n for n in range(1, batch + 1) if batch % n == 0), key=lambda n: abs(n - microbatches))
    return UserError(
        f"trainer.train_batch_size {batch} does not divide into trainer.microbatches {microbatches}: "
        f"set microbatches to a divisor of it, for example {nearest}"
    )


def virtual_shards_do_not_divide(batch: int, shards: int, microbatches: int) -> UserError:
    per_shard = f"trainer.virtual_shards {shards}" + (f" of {microbatches} micro-batches" if microbatches > 1 else "")
    largest = max((n for n in range(1, batch // microbatches + 1) if batch % (n * microbatches) == 0), default=1)
    return UserError(
        f"trainer.train_batch_size {batch} does not divide into {per_shard}, as trainer.deterministic elastic needs: "
        f"set it to a multiple of {shards * microbatches}, or virtual_shards to a divisor, for example "
        f"{min(largest, shards)}"
    )


def code_changed(file: str, checkpoint: Path) -> str:
    return (
        f"{file} has changed since {checkpoint} was saved: the run resumes with the code as it is now, and is not the "
        "run that it would have been"
    )


def learns_from_ignored(model: str) -> UserError:
    return UserError(
        f"the loss of {model} counts negative targets, which are those that nothing is to be learned from (data.type): "
        "return `levanter.models.loss.mean_loss(losses, targets)`, with a number for each target"
    )


def past_the_end(checkpoint: Path, step: int, num_train_steps: int) -> UserError:
    return UserError(
        f"{checkpoint} is past the end of this run (trainer.num_train_steps is {num_train_steps}): "
        f"set it to {step} or more, or start another run with --run-dir"
    )


def run_in_use(path: Path, holder: str) -> UserError:
    return UserError(
        f"another process is writing the run directory {path} ({holder or 'unknown'}): "
        "wait for it or stop it, or choose another one with --run-dir"
    )


def other_config(path: Path, differences: Sequence[str], another: str | None) -> UserError:
    """`another` is the command that starts the run in a directory of its own, where that is known."""
    shown = "; ".join(differences[:_SHOWN])
    more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    fix = f"start this one with `{another}`" if another else "choose another directory with --run-dir"
    return UserError(
        f"the run directory {path} has checkpoints of a run with another config ({shown}{more}): "
        f"set these back to resume it, or {fix}"
    )


def kept_elsewhere(path: Path, differences: Sequence[str], chosen: Path) -> str:
    shown = "; ".join(differences[:_SHOWN])
    more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    return f"{path} holds another run ({shown}{more}): this one is kept in {chosen}"


def unreadable_config(path: Path) -> UserError:
    return UserError(
        f"{path} is not a config of a run: put back the one of this run, or choose another directory with --run-dir"
    )


def foreign_files(path: Path, names: Sequence[str]) -> UserError:
    shown = ", ".join(names[:_SHOWN_FILES])
    more = f" and {len(names) - _SHOWN_FILES} more" if len(names) > _SHOWN_FILES else ""
    return UserError(
        f"{path} is not a run directory: it holds other files ({shown}{more}); "
        "choose a new or empty directory with --run-dir"
    )


def cannot_make_run(path: Path, reason: str) -> UserError:
    return UserError(f"cannot use {path} as a run directory: {reason}; choose another one with --run-dir")
