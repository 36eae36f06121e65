"""What `levanter lint` says, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any

from passes.report.units import format_bytes, format_change, format_seconds

WIDTH = 120
_ROLES = {"compute": "computed over", "storage": "stored over"}


def lint_text(found: Mapping[str, Any]) -> str:
    """The findings, one paragraph each, then both prices and what the best does otherwise."""
    lines: list[str] = []
    for each in found["findings"]:
        lines += [
            _filled(f"{each['where']}: {each['code']}: {each['what']}."),
            _filled(f"fix: {each['fix']}{'' if each['fix'].endswith('?') else '.'}", "  "),
            "",
        ]
    if not found["findings"]:
        lines += ["nothing is wrong with these rules", ""]
    if found["idle"]:
        lines += [_filled(f"Not in this step, so they do nothing: {', '.join(found['idle'])}."), ""]
    return "\n".join([*lines, *_prices(found)])


def _filled(text: str, indent: str = "") -> str:
    return fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent or "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _prices(found: Mapping[str, Any]) -> Iterator[str]:
    theirs, best = found["theirs"], found["best"]
    yield f"By these rules a step takes {_price(theirs)}."
    if found["priced_otherwise"]:
        shown = ", ".join(found["priced_otherwise"][:3])
        yield _filled(
            f"Priced with {len(found['priced_otherwise'])} parameters stored otherwise than the rules say, because a "
            f"plan says it by name: {shown}{', …' if len(found['priced_otherwise']) > 3 else ''}."
        )
    if best is None:
        yield _filled(f"The planner has no plan: {str(found['refused']).splitlines()[0]}.")
        return
    change = format_change(best["step"], theirs["step"])
    yield f"By the planner's best it takes {_price(best)}: {change}."
    for role, said in _ROLES.items():
        before, after = (_axes(price["plan"], role) for price in (theirs, best))
        for name in dict.fromkeys([*after, *before]):
            if after.get(name) != before.get(name):
                yield f"  {name} {said} {', '.join(after.get(name, ['—']))}, not {', '.join(before.get(name, ['—']))}"


def _axes(plan: Mapping[str, Any], role: str) -> dict[str, list[str]]:
    """Mesh axes by name in a role: at rest those that are added."""
    if role == "compute":
        return dict(plan["compute"])
    extra = {
        name: [axis for axis in axes if axis not in plan["compute"].get(name, [])]
        for name, axes in plan["storage"].items()
    }
    return {name: axes for name, axes in extra.items() if axes}


def _price(price: Mapping[str, Any]) -> str:
    room = f" of {format_bytes(price['capacity'])}" if price["capacity"] else ""
    return f"{format_seconds(price['step'])}, with a peak of {format_bytes(price['peak'])}{room} a device"
