"""Why a name is where it is, and what each alternative costs and why, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from passes.planner.attention import ATTENTION, GATHERED
from passes.planner.remat import shown
from passes.report.units import format_bytes, format_change, format_seconds

_VERBS = {"compute": "Computed", "storage": "Stored"}
_CHOICES = {
    "stored": "Kinds of state that are stored",
    "remat": "What the backward pass computes again",
    "microbatches": "Parts in which the batch is computed",
    "moments": "What the optimizer keeps its running means in",
    "gradients": "What gradients are kept in",
    "padding": "What axes are padded to",
    "network": "The part of the physical network that each mesh axis has",
    ATTENTION: "How attention is computed where positions are sharded",
}
_NONE = {
    "stored": "none",
    "remat": "what the step does",
    "microbatches": "as the step does",
    "moments": "as the step does",
    "gradients": "as the step does",
    "padding": "nothing is padded",
    "network": "one that is not filled evenly",
    ATTENTION: GATHERED,
}
_EVEN = 5e-4
_MOST = 3


def explained(row: Mapping[str, Any]) -> list[str]:
    """The sentences of an explanation (the fields of `passes.alternatives.Explanation`): the name and its place, the
    reason, then one line for each alternative, the cheapest first, those that cannot be at the end."""
    if row["name"] == "order" and not row["size"]:
        return [f"Order of names: {row['storage'][0]}.", *_because(row), *_alternatives(row)]
    if not row["size"]:
        why = [f"Why: {row['reason']}."] if row["reason"] else []
        chosen = shown(row["storage"]) if row["name"] == "remat" else ", ".join(row["storage"])
        return [f"{_CHOICES[row['name']]}: {chosen or _NONE[row['name']]}.", *why, *_alternatives(row)]
    return [
        f"{row['name']} has size {row['size']} and is {_place(row)}.",
        f"Why: {row['reason']}.",
        *_alternatives(row),
    ]


def _because(row: Mapping[str, Any]) -> list[str]:
    return [f"Why: {row['reason']}."] if row["reason"] else []


def _place(row: Mapping[str, Any]) -> str:
    extra = [axis for axis in row["storage"] if axis not in row["compute"]]
    parts = [f"computed over {_over(row['compute'])}"] if row["compute"] else []
    parts += [f"stored over {_over(extra)}"] if extra else []
    return " and ".join(parts) or "replicated"


def _alternatives(row: Mapping[str, Any]) -> Iterator[str]:
    found = row["alternatives"]
    if not found:
        yield "There is no alternative."
        return
    priced = [each for each in found if not each["refused"]]
    for each in sorted(priced, key=lambda each: each["times"]["step"]):
        yield f"{_choice(each)}: {_price(each, row)}."
    for refused in dict.fromkeys(each["refused"] for each in found if each["refused"]):
        sets = [each["axes"] for each in found if each["refused"] == refused]
        over = " or ".join(dict.fromkeys(map(_over, sets)))
        yield f"Over {over}: {refused}."


def _choice(each: Mapping[str, Any]) -> str:
    if each["role"] == "order":
        return f"With {each['axes'][0]}"
    if each["role"] == "state":
        return f"Storing {', '.join(each['axes']) or 'none'}"
    if each["role"] == "remat":
        return f"Remat {shown(each['axes'])}"
    if each["role"] == "padding":
        return f"Padded to {', '.join(each['axes'])}" if each["axes"] else "Without padding"
    if each["role"] == ATTENTION:
        return f"Attention {', '.join(each['axes']) or GATHERED}"
    if each["role"] == "network":
        return f"With {', '.join(each['axes'])}"
    if each["role"] in ("moments", "gradients"):
        return f"{each['role'].capitalize()} in {', '.join(each['axes'])}"
    if each["role"] == "microbatches":
        return f"Micro-batches {', '.join(each['axes'])}"
    verb = _VERBS[each["role"]]
    if each["padded"]:
        return f"Padded to {each['padded']} and {verb.lower()} over {_over(each['axes'])}"
    return f"{verb} over {_over(each['axes'])}" if each["axes"] else f"{verb} {_REPLICATED[each['role']]}"


_REPLICATED = {"compute": "replicated", "storage": "as it is computed"}


def _price(each: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    before, after = row["times"], each["times"]
    same = not each["collectives"] and abs(after["step"] - before["step"]) <= _EVEN * before["step"]
    if same and each["memory"]["peak"] == row["memory"]["peak"]:
        takers, verb = (
            each["taken_by"],
            "comes first and takes" if len(each["taken_by"]) == 1 else "come first and take",
        )
        first = f", because {' and '.join(takers)} {verb} {_over(each['taken'])} where {row['name']} is"
        return f"nothing changes{first if takers else ''}"
    change = format_change(after["step"], before["step"])
    parts = [f"a step takes {format_seconds(after['step'])} ({change})", *_why(each, row)]
    capacity, peak = each["memory"]["capacity"], each["memory"]["peak"]
    if 0 < capacity < peak:
        parts.append(f"and it does not fit: a device needs {format_bytes(peak)} of {format_bytes(capacity)}")
    elif peak != row["memory"]["peak"]:
        parts.append(f"peak memory {format_bytes(peak)} ({format_change(peak, row['memory']['peak'])})")
    return "; ".join(parts)


def _why(each: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[str]:
    """What the difference is made of."""
    before, after = row["times"], each["times"]
    more = after["compute"] - before["compute"]
    if abs(more) > _EVEN * before["step"]:
        yield f"computing takes {format_seconds(abs(more))} {'more' if more > 0 else 'less'}"
    for word, sign in (("gains", 1), ("loses", -1)):
        if told := _told(each["collectives"], sign):
            yield f"it {word} {told}"


def _told(rows: Sequence[Mapping[str, Any]], sign: int) -> str:
    """`12 all_reduce of activations over model (+60.0 µs) and …`: those with the most time first."""
    groups: dict[tuple[str, str, str], tuple[int, float]] = {}
    for row in rows:
        more = sign * (row["count"][1] - row["count"][0])
        if more > 0:
            key = row["kind"], row["moving"], _over(row["mesh_axes"])
            count, seconds = groups.get(key, (0, 0.0))
            groups[key] = count + more, seconds + sign * (row["seconds"][1] - row["seconds"][0])
    ranked = sorted(groups.items(), key=lambda item: (-item[1][1], item[0]))
    told = [
        f"{count:,} {kind} of {_plural(moving)} over {over} ({format_seconds(seconds)})"
        for (kind, moving, over), (count, seconds) in ranked[:_MOST]
    ]
    rest = sum(count for _, (count, _) in ranked[_MOST:])
    return ", ".join(told) + (f" and {rest:,} more" if rest else "")


def _plural(moving: str) -> str:
    return f"{moving}s"


def _over(axes: Sequence[str]) -> str:
    return " × ".join(axes)
