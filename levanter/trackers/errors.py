"""The wording of everything that can be wrong with a tracker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from levanter.errors import UserError, WorkFailed


def damaged_lines(path: Path, lines: Sequence[int], kept: Path) -> str:
    """Lines (counted from 1) that are no records though good ones follow them; `kept` is the file as it was."""
    which = f"line {lines[0]} is" if len(lines) == 1 else f"{len(lines)} lines, from line {lines[0]} on, are"
    return f"{path} is damaged ({which} not a record): the run resumes without it, and the file as it was is {kept}"


def lost_records(path: Path, missing: Sequence[range]) -> str:
    """Steps before the one that a run resumes from of which there is no record, as ranges."""
    steps = ", ".join(f"{each.start}" if len(each) == 1 else f"{each.start} to {each[-1]}" for each in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more ranges" if len(missing) > _SHOWN else ""
    noun = "step" if len(missing) == 1 and len(missing[0]) == 1 else "steps"
    return f"{path} has no records of {noun} {steps}{more}: the checkpoints are whole, and the run resumes without them"


def cannot_record(path: Path, error: OSError) -> WorkFailed:
    return WorkFailed(f"cannot write {path} ({error.strerror or error}): make it writable, or choose another --run-dir")


_SHOWN = 8


def wandb_unavailable(reason: str) -> UserError:
    return UserError(
        f"cannot start the tracker wandb (trackers.wandb): {reason}; "
        "run `wandb login`, or use --trackers.wandb.mode offline, or --trackers.wandb.enabled false"
    )


def mirror_failed(name: str, error: Exception) -> str:
    """`name` is that of the tracker."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"the tracker {name} failed ({reason}): the run continues without it, and metrics.jsonl has every step"
