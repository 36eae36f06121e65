"""The wording of every finding of the checks, once: what is wrong, and the fix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from passes.errors import MOST_LINES

if TYPE_CHECKING:
    from ir.graph import Source
    from ir.ops import Mismatch
    from ir.types import TensorType


def finding(
    severity: str,
    code: str,
    what: str,
    where: Sequence[str],
    operands: Sequence[str],
    origins: Sequence[str],
    fix: str,
    silenceable: bool,
) -> str:
    """One finding: what is wrong, where, every operand, where the names come from, the fix."""
    lines = [f"{severity}[{code}]: {what}", *(f"  {line}" for line in where)]
    for title, listed in (("operands", operands), ("names", origins)):
        lines += [f"  {title}", *(f"    {line}" for line in listed)] if listed else []
    silence = f"; if it is meant, silence it with --ignore {code}" if silenceable else ""
    return "\n".join([*lines, f"  fix: {fix}{silence}"])


def within(source: Source) -> str:
    return f"in {source}"


def name_origin(name: str, chain: Any) -> str:
    """`` `mlp` comes from params.up: f32[embed=4, mlp=4], through model.py:8 ``; `chain` is a `provenance.Chain`."""
    first, through = chain.through[:1], [str(source) for source in chain.through]
    if not chain.path:
        return f"`{name}` first appears in {chain.start.type}" + (f", {first[0]}" if first else "")
    if len(through) > MOST_LINES:
        through = [*through[: MOST_LINES - 1], "…", through[-1]]
    way = ", through " + ", ".join(through) if through else ""
    verb = "comes from" if chain.flows else "is inferred from a meeting with"
    return f"`{name}` {verb} {chain.path}: {chain.start.type}{way}"


def meeting(mismatches: Sequence[Mismatch], template: str, op: str) -> str:
    """What met, in one line; `template` is the wording of the op (see `ir.ops.Op.meetings`)."""
    first = ", ".join(f"`{m.first}`" for m in mismatches)
    second = ", ".join(f"`{m.second}`" for m in mismatches)
    pairs = " and ".join(dict.fromkeys(f"`{m.first}` with `{m.second}`" for m in mismatches))
    sizes = sorted({m.size for m in mismatches if m.size is not None})
    shown = f" (both have size {sizes[0]})" if len(sizes) == 1 else ""
    axes = "axis is" if len(mismatches) == 1 else "axes are"
    return template.format(first=first, second=second, pairs=pairs, op=op, axes=axes) + shown


def meeting_fix(mismatches: Sequence[Mismatch], first: TensorType, second: TensorType) -> str:
    """What to do about it: transpose where the two sides have the same names, else rename."""
    a, b = mismatches[0].first, mismatches[0].second
    if sorted(first.names) == sorted(second.names) and first.names != second.names:
        order = ", ".join(repr(name) for name in first.names)
        return f"the two have the same axes in another order: transpose one, e.g. y.rearrange(({order}))"
    if {(m.first, m.second) for m in mismatches} == {(a, b), (b, a)}:
        return f"`{a}` and `{b}` are swapped on one side: transpose it, or split it in the other order"
    return f"if they are the same axis, call it one name; if not, this is not the dim you meant (rename {b!r} or {a!r})"


def state_fix(first: str, second: str) -> str:
    return f"what an optimizer keeps for a parameter has its axes, in its order: give {first} and {second} the same"


def state_changes(path: str, before: TensorType, after: TensorType) -> tuple[str, str]:
    """What is wrong, and the fix."""
    return (
        f"{path}: the step takes {before} and gives back {after}",
        "state keeps its axes; rename the result, or transpose it back",
    )


_KEEP_ORDER = "keep one order, and transpose where another is wanted: a reshape does not move elements"


def two_orders(first: str, source: Source | None, second: str) -> tuple[str, str]:
    where = f" ({source})" if source is not None else ""
    return f"the elements of one dim stand in two orders: {first}{where} and {second}", _KEEP_ORDER


def swapped(before: str, after: str) -> tuple[str, str]:
    return f"a reshape makes {after} of {before}, whose elements stand in another order", _KEEP_ORDER


def torn(names: Sequence[str], before: str, sizes: Sequence[int]) -> tuple[str, str]:
    made = ", ".join(map(str, sizes))
    return (
        f"a reshape of {before} to ({made}) tears {_quoted(names)} apart: one place is spread over two dims, among "
        "places of other axes",
        "transpose first, so that what is merged stands side by side",
    )


def softmax_axis(own: Sequence[str], along: Sequence[str], picked: bool) -> tuple[str, str]:
    verb = "picked" if picked else "summed"
    return (
        f"a softmax over {_quoted(own)} is {verb} over {_quoted(along)}",
        f"take the softmax over {_quoted(along)}, so that what is {verb} there sums to one",
    )


def mean_of_means(over: Sequence[str], along: Sequence[str], source: Source | None) -> tuple[str, str]:
    where = f" ({source})" if source is not None else ""
    return (
        f"weighted means over {_quoted(over)}{where} are averaged over {_quoted(along)} as if their weights were equal",
        "divide one sum over all of them by the sum of all weights",
    )


def spread(single: str, name: str) -> tuple[str, str]:
    return (
        f"the one place of `{single}` meets all of `{name}`: every place of `{name}` with every other",
        f"drop `{single}` first, e.g. x[..., 0] or x.squeeze(-1)",
    )


def parts_meet(first: str, second: str) -> tuple[str, str]:
    return (
        f"{first} is added to {second}: parts of two arrays that are cut alike, and not the same part",
        "cut both at the same places",
    )


def beside(derived: str, given: str, source: Source | None) -> tuple[str, str]:
    where = f" ({source})" if source is not None else ""
    return (
        f"`{derived}` meets `{given}`, and one value has both{where}: they are two axes",
        "transpose first, so that each stands where the other operand has it: a reshape does not move elements",
    )


def softmax_total(own: Sequence[str]) -> tuple[str, str]:
    return (
        f"a softmax over {_quoted(own)} is summed over {_quoted(own)}: the sum is 1 everywhere",
        "sum, or average, over the other axes",
    )


def softmax_mask(own: Sequence[str], mask: Sequence[str]) -> tuple[str, str]:
    return (
        f"a softmax over {_quoted(own)} is masked by {_quoted(mask)} alone: the mask hides all of a row, or nothing",
        f"take the softmax over the axis that the mask chooses from, or give the mask {_quoted(own)}",
    )


def mean_then_sum(averaged: Sequence[str], summed: Sequence[str], source: Source | None) -> tuple[str, str]:
    where = f" ({source})" if source is not None else ""
    return (
        f"a mean over {_quoted(averaged)}{where} is summed over {_quoted(summed)}: it grows with {_quoted(summed)}",
        f"take the mean over {_quoted([*averaged, *summed])}, or sum over all of them",
    )


def repeats(name: str, size: int) -> tuple[str, str]:
    return (
        f"one place of `{name}` is repeated along `{name}`, {size} times",
        f"use all of `{name}`, or rename the one place, e.g. x.rename({{{name!r}: 'first'}})",
    )


def index(first: str, source: Source | None, second: str) -> tuple[str, str]:
    where = f" ({source})" if source is not None else ""
    return (
        f"the same indices look up `{first}`{where} and `{second}`",
        "index each axis with indices that count it",
    )


def counts(counted: str, name: str) -> tuple[str, str]:
    return (
        f"indices that count `{counted}` look up `{name}`",
        f"look up `{name}` by indices that count it, and `{counted}` by these",
    )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
