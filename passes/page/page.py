"""One page that holds a plan and all that it takes to look at others: `levanter compile --html FILE`.

It is a single file without a link to anything. What is drawn comes from one object, `data`, that stands in it; a name
that is moved to another mesh axis is priced from the tables in there (`passes.page.prices`), with the figures of the
search.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any

from ir.graph import Graph
from passes import placing
from passes.page.course import course
from passes.page.prices import prices
from passes.planner.layouts import Layouts
from passes.planner.problem import Problem
from passes.planner.regather import regathers
from passes.sharding.mesh import DeviceMesh
from passes.sharding.roles import assign_roles

Row = dict[str, Any]


def page(report: Mapping[str, Any], graph: Graph, plan: Layouts) -> str:
    """The page of a plan.

    Args:
        report: what `levanter compile` says of it.
        graph: the canonical graph that was planned.
    """
    folder = files("passes.page")
    template, pricing, style, script = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "pricing.js", "page.css", "page.js")
    )
    # A name may hold what would end the script that the data stand in.
    data = json.dumps(page_data(report, graph, plan), allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")
    parts = {"STYLE": style, "PRICING": pricing, "DATA": data, "SCRIPT": script}
    for name, text in parts.items():
        template = template.replace(f"/*{name}*/", text)
    return template


def page_data(report: Mapping[str, Any], graph: Graph, plan: Layouts) -> Row:
    """All that a page draws."""
    regather = regathers(graph, plan, assign_roles(graph, stored=plan.stored))
    problem = Problem.under(graph, plan)
    placed = placing.placed(graph, plan)
    mesh, space, sizes = plan.mesh, problem.space, graph.axis_sizes()
    reasons = {row["name"]: row["reason"] for row in report["axes"]}
    state = {name for before, _ in graph.carried for name in graph.inputs[before].type.names}
    return {
        "model": report["model"],
        "hardware": plan.hardware,
        "axes": [{"name": axis, "size": size} for axis, size in mesh.as_dict().items()],
        "order": list(space.order),
        "orderWhere": [[where, list(names)] for where, names in plan.order_where.items()],
        "names": [
            {
                "name": name,
                "size": sizes[name],
                "options": [int(mask) for mask in space.options.get(name, (0,))],
                "storage": [each.mask for each in space.storage_choices if each.names == (name,)],
                "state": name in state,
                "why": space.fixed.get(name, reasons.get(name, "")),
            }
            for name in space.order
        ],
        "plan": _masks(problem, plan),
        "rules": {
            "compute": {name: mesh.mask(axes) for name, axes in plan.compute.items()},
            "storage": {name: mesh.mask(axes) for name, axes in plan.storage.items()},
        },
        "tokens": report["rate"]["tokens"],
        "flops": report["rate"]["flops"],
        "peakFlops": plan.chip.flops * mesh.devices,
        "parameters": [
            {"path": row["path"], "axes": row["axes"], "bytes": row["bytes"], "layout": _layout(row, mesh)}
            for row in report["parameters"]
        ],
        "report": {key: report[key] for key in ("time", "memory", "collectives")},
        "course": course(placed, graph, plan, plan.physical),
        "prices": prices(problem, regather),
    }


def _layout(row: Mapping[str, Any], mesh: DeviceMesh) -> dict[str, int]:
    """The mesh axes of each axis of a parameter, as the plan has it."""
    return {name: mesh.mask(axes) for name, axes in zip(row["axes"], row["layout"], strict=False) if axes}


def _masks(problem: Problem, plan: Layouts) -> Row | None:
    """The plan as the page has it, with at most one name stored over axes of its own; None where it has more.

    A name whose mesh axes another has wherever it is computed with is stored over them as well as computed over them.
    """
    rules, space = plan.rules, problem.space
    extra = {name: int(mask) for name, mask in rules.extra.items() if mask}
    compute = {name: int(mask) for name, mask in rules.compute.items() if mask}
    if len(extra) < 2:
        (stored,) = extra.items() or ((None, 0),)
        return {"compute": compute, "stored": {"name": stored[0], "mask": stored[1]}}
    choices = {(each.names, each.mask) for each in space.storage_choices}
    for name, mask in (*extra.items(), (None, 0)):
        used = compute | {each: compute.get(each, 0) | extra[each] for each in extra if each != name}
        alone = {name: mask} if name is not None else {}
        if (tuple(alone), mask) not in choices or any(each not in space.options[key] for key, each in used.items()):
            continue
        if problem.laid_out(replace(rules, compute=used, extra=alone)) == problem.laid_out(rules):
            return {"compute": used, "stored": {"name": name, "mask": mask}}
    return None
