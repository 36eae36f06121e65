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


def mean_stands_still(dtype: str | None, kept: float, most: float) -> UserError:
    """`dtype` is that of moments, None where the plan chooses it."""
    chosen = dtype or "null, which may become bfloat16,"
    return UserError(
        f"optimizer.moments_dtype {chosen} and optimizer.beta2 {kept}: what a step adds to the mean of squares would "
        f"be lost in rounding, and the mean would stand still; set beta2 to {most} or less, or moments_dtype to float32"
    )


def no_moments(optimizer: str, source: str = "") -> UserError:
    """`source` is the file of a plan that asks for them."""
    return UserError(
        f"{source}{': ' * bool(source)}moments: the optimizer {optimizer} has no moments_dtype: leave it out, or use "
        "adamw, lion or muon"
    )
