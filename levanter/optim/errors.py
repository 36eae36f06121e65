"""The wording of every error about an optimizer's configuration: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Sequence

from levanter.errors import UserError


def bad_schedule(value: str, known: Sequence[str]) -> UserError:
    return UserError(f"optimizer.lr_schedule is '{value}': use one of {', '.join(known)}")


def out_of_range(field: str, value: float, allowed: str) -> UserError:
    return UserError(f"optimizer.{field} is {value}: it must be {allowed}")
