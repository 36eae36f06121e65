"""The wording of everything that can be wrong with a tracker."""

from __future__ import annotations

from pathlib import Path

from levanter.errors import UserError


def damaged_record(path: Path, line: int) -> UserError:
    return UserError(
        f"{path} is damaged (line {line} is not a record, and good records follow it): "
        "put back a copy, or remove that line to continue without it"
    )


def wandb_unavailable(reason: str) -> UserError:
    return UserError(
        f"cannot start the tracker wandb (trackers.wandb): {reason}; "
        "run `wandb login`, or use --trackers.wandb.mode offline, or --trackers.wandb.enabled false"
    )


def mirror_failed(name: str, error: Exception) -> str:
    """`name` is that of the tracker."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"the tracker {name} failed ({reason}): the run continues without it, and metrics.jsonl has every step"
