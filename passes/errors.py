"""The wording of every error of the passes, once."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from ir.graph import Source
from ir.kinds import Mismatch
from ir.types import TensorType


class PlanError(Exception):
    """A question that the planner cannot answer: a bad mesh, unknown hardware, a plan that fits nowhere."""


class AxisErrors(Exception):
    """All axis errors of a graph. `findings` holds them one by one, warnings not among them."""

    def __init__(self, findings: Sequence[Any]) -> None:
        self.findings = tuple(findings)
        super().__init__(f"{counted(len(findings), 'axis error')}\n\n" + "\n\n".join(map(str, findings)))


class AxisWarning(UserWarning):
    """A place that is no axis error and yet looks like a mistake. Its code silences it."""


class UnknownCode(ValueError):
    """A code to silence that is no warning's."""


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def finding(
    severity: str,
    code: str,
    what: str,
    where: Sequence[str],
    operands: Sequence[str],
    origins: Sequence[str],
    fix: str,
) -> str:
    """One finding: what is wrong, where, every operand, where the names come from, the fix."""
    lines = [f"{severity}[{code}]: {what}", *(f"  {line}" for line in where)]
    for title, listed in (("operands", operands), ("names", origins)):
        lines += [f"  {title}", *(f"    {line}" for line in listed)] if listed else []
    silence = f"; if it is meant, silence it with --ignore {code}" if severity == "warning" else ""
    return "\n".join([*lines, f"  fix: {fix}{silence}"])


MOST_LINES = 3


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


_MEETING = {
    "elementwise": "{op} of {pairs}: dims at the same place must be the same axis",
    "contract": "contraction of {pairs}: only one axis can be summed with itself",
    "gather": "a lookup of {pairs}: what is looked up together must be the same axis",
    "scatter": "a scatter of {pairs}: what is written must have the axes of where it goes",
    "slice": "an update of {pairs}: a part must have the axes of the whole",
    "sort": "a sort of {pairs}: what is sorted together must have the same axes",
    "named": "a value whose {axes} {first} is named {second}",
    "concat": "concatenation of {pairs}: dims at the same place must be the same axis",
    "carry": "a loop carries {first} in and {second} out: a carry keeps its axes from one iteration to the next",
    "branch": "branches return {first} and {second} at the same place",
}


def meeting(mismatches: Sequence[Mismatch], kind: str, fn: str) -> str:
    """What met, in one line."""
    first = ", ".join(f"`{m.first}`" for m in mismatches)
    second = ", ".join(f"`{m.second}`" for m in mismatches)
    pairs = " and ".join(f"`{m.first}` with `{m.second}`" for m in mismatches)
    sizes = sorted({m.size for m in mismatches if m.size is not None})
    shown = f" (both have size {sizes[0]})" if len(sizes) == 1 else ""
    template = _MEETING.get(mismatches[0].rule, _MEETING["elementwise"])
    axes = "axis is" if len(mismatches) == 1 else "axes are"
    return template.format(first=first, second=second, pairs=pairs, op=fn or kind, axes=axes) + shown


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


def twice(name: str, made: TensorType, contracted: bool) -> tuple[str, str]:
    size = made.size_of(name)
    how = "" if contracted else ": a dim was repeated beside itself"
    return (
        f"`{name}` occurs twice in one result{how}; its two occurrences cannot be told apart (both have size {size})",
        f"rename one of them first, e.g. x.rename({{{name!r}: 'key_{name}'}})",
    )


def other_order(first: str, first_merges: bool, source: Source | None, second: str, merges: bool) -> tuple[str, str]:
    before, now = ("merged" if each else "split" for each in (first_merges, merges))
    where = f" ({source})" if source is not None else ""
    return (
        f"a dim is {before} as {first}{where} and {now} as {second}",
        "keep one order, and transpose where another is wanted: a reshape does not move elements",
    )


def softmax_axis(own: Sequence[str], along: Sequence[str], picked: bool) -> tuple[str, str]:
    verb = "picked" if picked else "summed"
    return (
        f"a softmax over {_quoted(own)} is {verb} over {_quoted(along)}",
        f"take the softmax over {_quoted(along)}, so that what is {verb} there sums to one",
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


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def unknown_code(code: str, known: Sequence[str]) -> UnknownCode:
    return UnknownCode(f"no warning is called {code!r}{_nearest(code, known) or '; known are ' + ', '.join(known)}")


def error_not_silenced(code: str, known: Sequence[str]) -> UnknownCode:
    return UnknownCode(f"{code!r} is an error, which is mended and not silenced; warnings are {', '.join(known)}")


def bad_mesh(mesh: dict[str, int]) -> PlanError:
    return PlanError(f"mesh {mesh}: a mesh needs at least one axis, each of size 1 or more, such as data=4, model=2")


def unknown_mesh_axis(name: str, axes: Sequence[str]) -> PlanError:
    return PlanError(f"mesh axis {name!r}: this mesh has {', '.join(axes)}{_nearest(name, axes)}")


def unknown_hardware(name: str, known: Sequence[str]) -> PlanError:
    return PlanError(f"hardware {name!r}: known are {', '.join(known)}{_nearest(name, known)}")


def does_not_fit(peak: int, capacity: int, hardware: str, mesh: dict[str, int]) -> PlanError:
    shape = "x".join(str(n) for n in mesh.values())
    return PlanError(
        f"no plan fits: the leanest on mesh {shape} needs {peak / 1e9:.2f} GB a device, {hardware} has "
        f"{capacity / 1e9:.0f} GB; use more devices, a smaller batch, or gradient checkpointing"
    )


def no_origin(name: str) -> PlanError:
    return PlanError(
        f"graph {name!r} was parsed from text: it can be checked, planned and costed, but only a graph from ir.trace "
        "can be lowered"
    )


def other_structure(name: str, wanted: str, given: str) -> TypeError:
    return TypeError(
        f"{name} was traced for arguments of another structure\n  traced for {wanted}\n  given      {given}\n"
        "  fix: trace, plan and lower the step for these arguments"
    )


def other_array(name: str, path: str, wanted: TensorType, dtype: str, shape: tuple[int, ...]) -> TypeError:
    sizes = ", ".join(str(size) for size in shape)
    return TypeError(
        f"{name} was traced with {path}: {wanted}, given {dtype}[{sizes}]\n"
        "  fix: trace, plan and lower the step for these arguments"
    )


def wrong_devices(wanted: int, given: int, platform: str) -> PlanError:
    return PlanError(
        f"the plan is for {wanted} devices, {given} given: pass {wanted} devices"
        + (f", or set XLA_FLAGS=--xla_force_host_platform_device_count={wanted}" if platform == "cpu" else "")
    )


def _nearest(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class UnknownPass(ValueError):
    """A name that no pass has."""


class BadOption(ValueError):
    """An option that a pass does not have, or a value that it cannot have."""


def unknown_pass(name: str, known: Sequence[str]) -> UnknownPass:
    return UnknownPass(f"no pass is called {name!r}{_nearest(name, known)} (the passes are {', '.join(known)})")


def unknown_option(name: str, stem: str, known: Sequence[str]) -> BadOption:
    has = f"its options are {', '.join(known)}" if known else "it has none"
    return BadOption(f"the pass {stem} has no option {name!r}: {has}{_nearest(name, known)}")


def bad_option(name: str, text: str, stem: str, values: str) -> BadOption:
    return BadOption(f"option {name}={text} of the pass {stem}: give {values}, such as {_EXAMPLES[values]}")


_EXAMPLES = {
    "true or false": "true",
    "a whole number": "8",
    "a number": "0.5",
    "a word": "data",
    "words with commas between": "repeat,index",
    "whole numbers with commas between": "0,1",
    "numbers with commas between": "0.5,1",
}


def no_mesh(stem: str) -> PlanError:
    return PlanError(f"the pass {stem} needs a mesh: give one, such as data=4, model=2 (--mesh 4x2)")


def no_plan(stem: str) -> PlanError:
    return PlanError(f"the pass {stem} needs a plan: run the pass plan before it, or give one made by hand")


def no_subject() -> PlanError:
    return PlanError("a plan by hand knows no step to report on: give the traced graph, plan.report(graph)")


def partitioned_already(graph: str, kind: str, value: str) -> PlanError:
    return PlanError(
        f"graph {graph!r} is partitioned already ({value} is made by {kind}): give the graph as it was before partition"
    )


def another_plan(value: str, found: TensorType, planned: TensorType) -> PlanError:
    return PlanError(
        f"{value} was laid out by another plan: it is {found}, this plan makes it {planned}; "
        "give the plan that the graph was laid out by, or the graph as it was before plan"
    )


def no_such_input(position: int, count: int) -> PlanError:
    return PlanError(f"input {position} cannot lie where state lies: the graph has {count}, counted from 0")
