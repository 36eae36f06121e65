"""The wording of every error about an optimizer: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from levanter.errors import UserError, part_meant, suggestion


def group_of_nothing() -> UserError:
    return UserError(
        "an entry of optimizer.groups says neither `match` nor `axes`: "
        'write which parameters it is for, such as {match: "*.bias"}'
    )


def no_parameter(field: str, pattern: str, names: Collection[str]) -> UserError:
    """A pattern of parameters that matches none of `names`."""
    fix = part_meant(pattern, names) or suggestion(pattern, names)
    return UserError(f"{field}: no parameter matches `{pattern}`: {fix}")


def no_axis(field: str, axis: str, known: Iterable[str]) -> UserError:
    return UserError(f"{field}: no parameter has the axis `{axis}`: {suggestion(axis, known)}")


def no_parameter_with(field: str, pattern: str, axes: str) -> UserError:
    """A pattern and axes that parameters have, but no parameter has both."""
    return UserError(f"{field}: no parameter matches `{pattern}` and has the axes `{axes}`: leave one of the two out")


def all_frozen() -> UserError:
    return UserError(
        "every parameter is frozen, so there is nothing to train: "
        "make trainer.frozen, or the entries of optimizer.groups with `frozen`, match fewer"
    )
