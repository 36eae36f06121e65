"""The wording of every error about an optimizer: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from levanter.errors import UserError, nearest, suggestion


def group_of_nothing() -> UserError:
    return UserError(
        "an entry of optimizer.groups says neither `match` nor `axes`: "
        'write which parameters it is for, such as {match: "*.bias"}'
    )


def no_parameter(field: str, pattern: str, names: Collection[str]) -> UserError:
    """A pattern of parameters that matches none of `names`."""
    # What a pattern spells is a piece of a name: the nearest piece says which name was meant.
    pieces = {piece for name in names for piece in _pieces(name)}
    meant = nearest(pattern.replace("*", "").strip("."), pieces)
    shown = [name for name in names if meant in _pieces(name)][:1] if meant else []
    fix = f"did you mean a part of `{shown[0]}`?" if shown else suggestion(pattern, names)
    return UserError(f"{field}: no parameter matches `{pattern}`: {fix}")


def _pieces(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[start:end]) for start in range(len(parts)) for end in range(start + 1, len(parts) + 1)}


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
