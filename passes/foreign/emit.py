"""A plan as sharding rules of other systems. What is written is read again and held against the step: where it does not
come to the same plan, or something is wrong with it, nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import yaml

from ir.graph import Graph
from passes.foreign import errors
from passes.foreign.held import held, plan_of, step_of
from passes.foreign.names import ACTIVATION, theirs
from passes.foreign.reading import Subject
from passes.planner.layouts import Layouts
from passes.planner.problem import laid_out_shapes
from passes.sharding.roles import assign_roles
from passes.sharding.rules import Role, ShardingRules
from passes.sharding.state import STATE_KINDS

_yaml: Any = yaml

_OF_RULES = ("conflict", "divide", "scan", "mesh", "never")
"""What may be wrong with rules that is not so with the plan."""

Rows = list[tuple[str, tuple[str, ...]]]
"""Names and mesh axes, in order."""


def emitted(kind: str, graph: Graph, plan: Layouts) -> str:
    """The text of a plan as rules of one of `FORMATS`.

    Args:
        graph: the canonical graph that was planned.

    Raises:
        PlanError: the other system's rules cannot say this plan.
    """
    subject = step_of(graph, plan.mesh)
    if plan.stored != STATE_KINDS and any(plan.rules.extra.values()):
        raise errors.not_expressible(kind, errors.one_layout(plan.stored))
    text = FORMATS[kind](plan, subject)
    source = f"{kind}.py" if kind == "flax" else f"{kind}.yaml"
    found = held(text, source, graph, subject)
    wrong = [each for each in found.findings() if each.code in _OF_RULES]
    if wrong:
        raise errors.not_expressible(kind, wrong[0].what)
    again = plan_of(found, plan.mesh, plan.chip)
    for mine, its in zip(_laid_out(graph, plan.rules), _laid_out(graph, again.rules), strict=True):
        if mine != its:
            raise errors.not_expressible(kind, errors.laid_otherwise(mine, its))
    return text


def _laid_out(graph: Graph, rules: ShardingRules) -> Iterator[dict[str, tuple[str, ...]]]:
    """The mesh axes of each name in everything that is laid out."""
    for sizes, role in laid_out_shapes(graph, assign_roles(graph)):
        yield {name: rules.mesh.names(int(mask)) for name, mask in rules.layout(dict(sizes), role).items() if int(mask)}


def _computed(plan: Layouts, subject: Subject) -> Rows:
    """What every name is sharded over in use, in priority order; then those that are replicated."""
    rows = [(name, plan.compute[name]) for name in plan.order if plan.compute.get(name)]
    return rows + [(name, ()) for name in _leading(subject) if not plan.compute.get(name)]


def _leading(subject: Subject) -> list[str]:
    return [name for name in subject.sizes if all(name not in each.scanned for each in subject.parameters)]


def _stored(plan: Layouts, subject: Subject) -> Rows:
    """The same at rest, for the names of parameters: those that are sharded in use come first, as they have the first
    choice of mesh axes."""
    names = dict.fromkeys(name for each in subject.parameters for name in each.sizes)
    order = [name for name in plan.order if name in names]
    first = [name for name in order if plan.compute.get(name)]
    sharded = [name for name in dict.fromkeys([*first, *order]) if plan.storage.get(name)]
    rows = [(name, tuple(plan.storage[name])) for name in sharded]
    return rows + [(name, ()) for name in names if name not in sharded]


def _heading(plan: Layouts, sign: str = "# ") -> str:
    return f"{sign}Written from a plan for {plan.mesh} of {plan.hardware}; `levanter lint` reads it.\n"


def _flow(value: Any) -> str:
    text: str = _yaml.safe_dump(value, width=10**9, default_flow_style=True, sort_keys=False)
    return text.strip().removesuffix("\n...")


def _levanter(plan: Layouts, subject: Subject) -> str:
    def mapping(rows: Rows) -> Iterator[str]:
        yield from (f"    {_flow(name)}: {_flow(list(axes) or None)}" for name, axes in rows)

    return _heading(plan) + "\n".join(
        [
            "trainer:",
            "  batch_axis: null",
            "  fsdp_axis: null",
            "  tensor_parallel_axes: null",
            "  axis_resources:",
            *mapping(_computed(plan, subject)),
            "  parameter_axis_resources:",
            *mapping(_stored(plan, subject)),
            "",
        ]
    )


def _in_order(rows: Rows) -> Rows:
    """The rows, each followed by what is left for a name where earlier ones have some of its mesh axes."""
    found: Rows = []
    taken: set[str] = set()
    for name, axes in rows:
        found.append((name, axes))
        if taken & set(axes):
            found += [(name, part) for count in range(len(axes) - 1, -1, -1) for part in combinations(axes, count)]
        taken |= set(axes)
    return found


def _pairs(plan: Layouts, subject: Subject, written: Callable[[str], str]) -> Rows:
    """The rules in order: what is computed with, then parameters, with the names that MaxText has for some of them."""
    rows = [(ACTIVATION + written(name), axes) for name, axes in _in_order(_computed(plan, subject))]
    return rows + [(written(name), axes) for name, axes in _in_order(_stored(plan, subject))]


def _maxtext(plan: Layouts, subject: Subject) -> str:
    pairs = _pairs(plan, subject, lambda name: theirs(name, subject.sizes))
    special = {"norm": any(each.sort == "vector" for each in subject.parameters)}
    special["embed_no_exp"] = any(each.sort == "experts" for each in subject.parameters)
    also = [name for name, there in special.items() if there and name not in subject.sizes]
    rows = [row for name, axes in pairs for row in ((name, axes), *((each, axes) for each in also if name == "embed"))]
    lines = [f"  - {_flow([name, list(axes) or None])}" for name, axes in rows]
    return _heading(plan) + "\n".join([f"mesh_axes: {_flow(list(plan.mesh.axes))}", "logical_axis_rules:", *lines, ""])


def _flax(plan: Layouts, subject: Subject) -> str:
    lines = [f"    ({name!r}, {axes if axes else None!r})," for name, axes in _pairs(plan, subject, str)]
    return _heading(plan) + "\n".join(["logical_axis_rules = (", *lines, ")", ""])


def _partition_specs(plan: Layouts, subject: Subject) -> str:
    def spec(names: Sequence[str], masks: Mapping[str, Any], role: Role) -> list[Any]:
        axes = [list(plan.rules.ordered(name, int(masks.get(name, 0)))) for name in names]
        return [each[0] if len(each) == 1 else each or None for each in axes]

    lines = ["partition_specs:"]
    sections: tuple[tuple[str, Role], ...] = (("at_rest", "storage"), ("in_use", "compute"))
    for section, role in sections:
        lines.append(f"  {section}:")
        for each in subject.parameters:
            names = list(each.sizes)
            lines.append(f"    {_flow(each.path)}: {_flow(spec(names, plan.rules.layout(each.sizes, role), role))}")
    lines.append("  activations:")
    for name, axes in _computed(plan, subject):
        if axes:
            lines.append(f"    {_flow(name)}: {_flow([list(axes)])}")
    return _heading(plan) + "\n".join([*lines, ""])


FORMATS: Mapping[str, Callable[[Layouts, Subject], str]] = {
    "levanter": _levanter,
    "maxtext": _maxtext,
    "flax": _flax,
    "partition-specs": _partition_specs,
}
"""How a plan can be written."""
