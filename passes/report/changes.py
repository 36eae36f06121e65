"""What is different from one report to another: names, times, memory, and each collective that is gained or lost.

Both are the keys of docs/compile.md; so is what a change is made of: a pair of two values is that before and after.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passes.planner.attention import ATTENTION
from passes.sharding.state import STATE_KINDS

Row = dict[str, Any]

ROLES = ("compute", "storage")
CHOICES = {
    "remat": "policy",
    "microbatches": "count",
    "moments": "dtype",
    "gradients": "dtype",
    "padding": "sizes",
    "network": "given",
    ATTENTION: "way",
}
TIMES = ("step", "compute", "communication", "exposed")
_KEY = ("kind", "axis", "mesh_axes", "bytes", "phase", "moving", "source")


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Row:
    """What a plan does otherwise than another one, in names and numbers, as JSON can hold it."""
    return {
        "question": {key: [before[key], after[key]] for key in ("mesh", "hardware") if before[key] != after[key]},
        "names": _names(before["plan"], after["plan"]),
        "stored": [list(each["plan"].get("stored", STATE_KINDS)) for each in (before, after)],
        "order": [each["plan"].get("order", {}) for each in (before, after)],
        **{key: [before[key][what], after[key][what]] for key, what in CHOICES.items()},
        "regather": [before["regather"], after["regather"]],
        "time": {key: [before["time"][key], after["time"][key]] for key in TIMES},
        "memory": {key: [before["memory"][key], after["memory"][key]] for key in before["memory"]},
        "rate": {key: [before["rate"][key], after["rate"][key]] for key in before["rate"]},
        "collectives": collectives_changed(before["collectives"], after["collectives"]),
    }


def _names(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Row]:
    """The names that are sharded over other mesh axes, in use or at rest."""
    found: list[Row] = []
    for role in ROLES:
        here, there = before[role], after[role]
        for name in dict.fromkeys([*here, *there]):
            pair = [list(here.get(name, [])), list(there.get(name, []))]
            if pair[0] != pair[1]:
                found.append({"name": name, "role": role, "axes": pair})
    return found


def collectives_changed(before: list[Row], after: list[Row]) -> list[Row]:
    """The collectives of a step that one of two plans has more of: what each is, and of both plans how many there are
    (`count`) and how long all of them take (`seconds`)."""
    counts: dict[tuple[Any, ...], list[tuple[int, float]]] = {}
    for position, listed in enumerate((before, after)):
        for row in listed:
            pair = counts.setdefault(_key(row), [(0, 0.0), (0, 0.0)])
            pair[position] = (pair[position][0] + row["count"], pair[position][1] + row["seconds"])
    return [
        {
            **{name: value.split() if name == "mesh_axes" else value for name, value in zip(_KEY, key, strict=True)},
            "count": [pair[0][0], pair[1][0]],
            "seconds": [pair[0][1], pair[1][1]],
        }
        for key, pair in counts.items()
        if pair[0][0] != pair[1][0]
    ]


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple([" ".join(row[key]) if key == "mesh_axes" else row[key] for key in _KEY])
