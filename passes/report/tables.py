"""A report as tables for people.

One function a section, in the order in which questions come up: what was asked, what was decided and why, what it
costs, what else was considered. A section whose part of the report is absent is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from passes.planner.attention import ATTENTION
from passes.planner.remat import shown
from passes.proof.proof import proof_lines
from passes.report.explained import explained
from passes.report.style import Printer
from passes.report.units import format_bytes, format_change, format_percent, format_seconds, ordered, parts_of
from passes.sharding.state import STATE_KINDS

_NONE = "—"
_BAR = 24
_MOST_ROWS = 8
_ROLES = {"compute": "in use", "storage": "at rest"}


def tables(report: Mapping[str, Any], printer: Printer) -> None:
    """Prints every section of a report.

    Args:
        report: the keys of docs/compile.md; `seconds` of a collective is that of all its occurrences in a step.
    """
    _question(report, printer)
    if report.get("network") and devices_of(report) > 1:
        _network(report["network"], report["hardware"], printer)
    if "meshes" in report:
        _meshes(report["meshes"], devices_of(report), printer)
    _axes(report, printer)
    _choices(report, printer)
    if "parameters" in report:
        _parameters(report["parameters"], printer)
    if "collectives" in report:
        _collectives(report["collectives"], printer)
    if "memory" in report:
        _memory(report["memory"], bool(report.get("regather")), printer)
        _lack(report, printer)
    if "time" in report:
        _time(report["time"], report.get("rate"), printer)
    if "search" in report:
        _search(report, printer)
    if "proof" in report:
        _proof(report["proof"], printer)
    for each in report.get("explained", ()):
        heading, *lines = explained(each)
        printer.heading(f"Explained: {each['name']}", heading)
        printer.rows([(line,) for line in lines])
    _notes(report.get("notes", ()), printer)


def _question(report: Mapping[str, Any], printer: Printer) -> None:
    mesh = report["mesh"]
    devices = devices_of(report)
    mesh_text = " × ".join(f"{name} {size}" for name, size in mesh.items()) or "one device"
    shape = [
        f"{report[key]:,} {word}" for key, word in (("batch_size", "sequences"), ("seq_len", "tokens")) if key in report
    ]
    batch = f", a batch of {' × '.join(shape)}" if shape else ""
    printer.heading(f"{report['model']} on {devices} × {report['hardware']}", f"mesh {mesh_text}{batch}")


def devices_of(report: Mapping[str, Any]) -> int:
    return report.get("devices", prod(report["mesh"].values()))


def _network(network: Mapping[str, Any], hardware: str, printer: Printer) -> None:
    """Where mesh axes lie: `data 16×16×8, model 4×1×1` of a torus, `data over 2 nodes × 4` of nodes."""
    islands, form = network["islands"], network["form"]
    kind = "slice" if form else "node"
    shape = "×".join(map(str, form)) if form else f"{network['island']}"
    heading = f"{islands:,} {kind}{'s' * (islands > 1)} of {shape} {hardware}"
    parts: list[str] = []
    for axis, place in network["axes"].items():
        inside = "×".join(map(str, place["inside"])) if prod(place["inside"]) > 1 else ""
        across = f"{place['across']} {kind}s" if place["across"] > 1 else ""
        parts.append(f"{axis} {' × '.join(each for each in (across, inside) if each) or '1'}")
    printer.heading("Network", f"{heading}: {', '.join(parts)}")
    if network.get("reason"):
        printer.rows([(f"chosen for the plan: {network['reason']}",)])


def _meshes(meshes: Sequence[Mapping[str, Any]], devices: int, printer: Printer) -> None:
    """The meshes that were searched, the chosen one first."""
    printer.heading("Mesh", f"chosen of {len(meshes)} of {devices:,} devices, each with its best plan")
    rows: list[tuple[str, ...]] = []
    fastest = meshes[0]["step"]
    for each in meshes:
        mesh = " × ".join(f"{axis} {size}" for axis, size in each["mesh"].items())
        if each["step"] is None:
            rows.append((mesh, "", "", each["refused"]))
        else:
            slower = each["step"] / fastest - 1 if fastest else 0.0
            why = "the fastest" if each is meshes[0] else f"{slower:.1%} slower" if slower >= 5e-4 else "the same time"
            why += f"; {parts_of(each['network'])}" if each.get("network") else ""
            rows.append((mesh, format_seconds(each["step"]), format_bytes(each["peak"]), why))
    printer.table(("mesh", ">step", ">peak", "why"), rows)


def _axes(report: Mapping[str, Any], printer: Printer) -> None:
    plan = report["plan"]
    rows: list[tuple[str, ...]] = []
    for axis in report.get("axes") or _axes_of_plan(plan):
        size = f"{axis['size']:,}" if "size" in axis else ""
        rows.append((axis["name"], size, _over(axis["compute"]), _over(axis["storage"]), axis.get("reason", "")))
    stored = ", ".join(plan.get("stored", STATE_KINDS)) or "no state"
    printer.heading("Axes", f"what each name is sharded over: in the computation, and in storage ({stored})")
    if rows:
        printer.table(("axis", ">size", "compute", "storage", "why"), rows)
    else:
        printer.rows([("no axis is split",)])
    if order := plan.get("order"):
        why = report.get("order_reason")
        printer.rows([(f"order: {ordered(order)}{f'; {why}' if why else ''}",)])


def _choices(report: Mapping[str, Any], printer: Printer) -> None:
    """How the step is computed, where the plan says that."""
    rows: list[tuple[str, ...]] = []
    remat, microbatches = report.get("remat"), report.get("microbatches")
    if remat and remat["policy"]:
        rows.append(("remat", shown(remat["policy"]), remat["reason"]))
    if microbatches and microbatches["count"]:
        rows.append(("micro-batches", f"{microbatches['count']:,}", microbatches["reason"]))
    attention = report.get(ATTENTION)
    if attention and attention["way"]:
        rows.append((ATTENTION, attention["way"], attention["reason"]))
    for key in ("moments", "gradients"):
        if (kept := report.get(key)) and kept["dtype"]:
            rows.append((key, kept["dtype"], kept["reason"]))
    padding = report.get("padding")
    if padding and (padding["sizes"] or padding["reason"]):
        sizes = ", ".join(f"{name}={size}" for name, size in padding["sizes"].items())
        rows.append(("padding", sizes or "none", padding["reason"]))
    if rows:
        printer.heading("Choices", "how the step is computed")
        printer.table(("choice", "is", "why"), rows)


def _axes_of_plan(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = dict.fromkeys([*plan["compute"], *plan["storage"]])
    return [
        {"name": name, "compute": plan["compute"].get(name, []), "storage": plan["storage"].get(name, [])}
        for name in names
    ]


def _parameters(parameters: Sequence[Mapping[str, Any]], printer: Printer) -> None:
    rows = [
        (
            parameter["path"],
            parameter["dtype"],
            " ".join(f"{name}={size}" for name, size in parameter["axes"].items()) or _NONE,
            _layout(parameter),
            format_bytes(parameter["bytes"]),
            format_bytes(parameter["bytes_per_device"]),
        )
        for parameter in parameters
    ]
    count = sum(prod(parameter["axes"].values()) for parameter in parameters)
    whole, each = (sum(parameter[key] for parameter in parameters) for key in ("bytes", "bytes_per_device"))
    printer.heading("Parameters", f"{count:,} in {len(rows)} arrays")
    total = ("all", "", "", "", format_bytes(whole), format_bytes(each))
    printer.table(("=path", "type", "axes", "stored", ">bytes", ">per device"), rows, total)


def _layout(parameter: Mapping[str, Any]) -> str:
    """`embed→data mlp→model` for the axes that are split; without spaces inside, so that a pair stays on its line."""
    placed = zip(parameter["axes"], parameter["layout"], strict=False)
    return " ".join(f"{name}→{','.join(axes)}" for name, axes in placed if axes) or "replicated"


def _collectives(collectives: Sequence[Mapping[str, Any]], printer: Printer) -> None:
    times = sum(item["count"] for item in collectives)
    seconds = sum(item["seconds"] for item in collectives)
    printer.heading(
        "Collectives", f"of one step: {times:,}, together {format_seconds(seconds)}; bytes are of one group, once"
    )
    if not collectives:
        printer.rows([("none: nothing has to be sent between devices",)])
        return
    rows: list[tuple[str, ...]] = []
    differ = any(_sent_as(item) for item in collectives)
    for item in collectives:
        what = item["kind"], item["axis"] or _NONE, _over(item["mesh_axes"]), format_bytes(item["bytes"])
        sent = (_sent_as(item),) if differ else ()
        often = f"{item['count']:,} ×", format_seconds(item["seconds"]), item["phase"], item["source"] or _NONE
        rows.append((*what, *sent, *often))
    heads = ("=kind", "axis", "over", ">bytes"), (">times", ">time", "phase", "=from")
    printer.table((*heads[0], *(("sent as",) if differ else ()), *heads[1]), rows)


def _sent_as(item: Mapping[str, Any]) -> str:
    """What the chip is sent for a collective, where that is something else than is printed."""
    sent = item.get("sent", item)
    if sent is None:
        return "not by itself"
    same = (sent["kind"], sent["mesh_axes"], sent["bytes"]) == (item["kind"], item["mesh_axes"], item["bytes"])
    return "" if same else f"{sent['kind']} of {format_bytes(sent['bytes'])}"


def _memory(memory: Mapping[str, Any], again: bool, printer: Printer) -> None:
    capacity = memory["capacity"]
    share = (
        f"{format_percent(memory['peak'], capacity)} of {format_bytes(capacity)}" if capacity else "of unknown capacity"
    )
    verdict = "" if not capacity or memory["peak"] <= capacity else ": DOES NOT FIT"
    printer.heading("Memory per device", f"peak {format_bytes(memory['peak'])}, {share}{verdict}")
    kinds = [(kind, size) for kind, size in memory.items() if kind not in ("peak", "capacity", "on_chip")]
    largest = max((size for _, size in kinds), default=0)
    # A share of the peak says where the memory goes; a share of the capacity would be invisible for small models.
    printer.rows([(kind, f"{format_bytes(size):>9}", _bar(size, largest)) for kind, size in kinds])
    if again:
        printer.rows([("there is no room to keep gathered parameters: they are gathered again in the backward pass",)])
    if memory.get("on_chip"):
        printer.rows([(f"besides, up to {format_bytes(memory['on_chip'])} of temporaries that stay on the chip",)])


def _lack(report: Mapping[str, Any], printer: Printer) -> None:
    """Of a plan that does not fit: what fills the device, by name, and what to shard next."""
    memory, rows = report["memory"], report.get("filling", ())
    if not memory["capacity"] or memory["peak"] <= memory["capacity"] or not rows:
        return
    printer.heading("What fills the device", "the largest of what is held at the peak")
    printer.table(
        ("kind", ">arrays", "axes", ">bytes"),
        [
            (
                row["kind"],
                f"{row['arrays']:,}",
                " ".join(f"{name}={size}" for name, size in row["axes"].items()) or _NONE,
                format_bytes(row["bytes"]),
            )
            for row in rows[:_MOST_ROWS]
        ],
    )
    if found := report.get("shard_next"):
        costs = f"costs {format_seconds(found['costs'])} a step" if found["costs"] > 0 else "costs no time"
        where = f"`{found['name']}` {_ROLES[found['role']]} over {found['mesh_axis']}"
        fits = " and then it fits" if found["peak"] <= memory["capacity"] else ""
        printer.rows([(f"cheapest to shard next: {where} saves {format_bytes(found['saves'])}{fits}, and {costs}",)])


def _bar(part: float, whole: float) -> str:
    return "█" * max(1, round(_BAR * part / whole)) if part and whole else ""


def _time(time: Mapping[str, Any], rate: Mapping[str, Any] | None, printer: Printer) -> None:
    hidden = time["communication"] - time["exposed"]
    printer.heading("Step time, predicted", f"{format_seconds(time['step'])}, bound by {time['bound']}")
    printer.rows(
        [
            ("compute", f"{format_seconds(time['compute']):>8}", ""),
            (
                "exposed communication",
                f"{format_seconds(time['exposed']):>8}",
                f"of {format_seconds(time['communication'])}; {format_seconds(max(0.0, hidden))} hides behind compute",
            ),
            *(_rate(rate) if rate is not None else ()),
        ]
    )


def _rate(rate: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    tokens, examples = rate["tokens_per_second"], rate["examples_per_second"]
    speed = [("tokens per second", f"{tokens:,.0f}", "")] if tokens is not None else []
    if tokens is None and examples is not None:
        speed = [("examples per second", f"{examples:,.0f}", "")]
    of = f"{rate['flops']:.3g} operations of the model in a step, over what the chips could do in bf16"
    return [*speed, ("MFU", f"{rate['mfu']:>8.1%}", of)]


def _search(report: Mapping[str, Any], printer: Printer) -> None:
    search, runner_up = report["search"], report.get("runner_up")
    if not search["plans"]:
        printer.heading("Search", "none: the plan was given")
        return
    proof = "this one is provably optimal"
    if not search["optimal"]:
        share = (
            f"the optimum is at most {search['gap']:.1%} faster" if search["gap"] < 1 else "not all choices were tried"
        )
        proof = f"this one is the best found; {share}"
    printer.heading("Search", f"{search['plans']:,} plans in {format_seconds(search['seconds'])}; {proof}")
    if not runner_up or not runner_up.get("plan"):
        printer.rows([("no other plan is possible",)])
        return
    slower = format_change(runner_up["step"], report["time"]["step"])
    larger = format_change(runner_up["peak"], report["memory"]["peak"])
    price = f"step {format_seconds(runner_up['step'])} ({slower}), peak {format_bytes(runner_up['peak'])} ({larger})"
    changes = "; ".join(_changes(report["plan"], runner_up["plan"])) or "the same layout"
    printer.rows([("runner-up", changes), ("its price", price)])


def _changes(plan: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What another plan does differently: `mlp computed replicated, not over model`."""
    changes: list[str] = []
    for role, verb in (("compute", "computed"), ("storage", "stored")):
        here, there = plan.get(role, {}), other.get(role, {})
        for name in dict.fromkeys([*here, *there]):
            if list(here.get(name, [])) != list(there.get(name, [])):
                changes.append(f"{name} {verb} {_where(there.get(name, []))}, not {_where(here.get(name, []))}")
    if (order := other.get("order", {})) != plan.get("order", {}):
        changes.append(ordered(order))
    return changes


def _proof(proof: Mapping[str, Any], printer: Printer) -> None:
    """`proved: 1,204 values, 0 assumptions`, and each assumption."""
    head, *assumed = proof_lines(proof["values"], proof["assumptions"])
    printer.heading(head)
    if assumed:
        printer.rows([(line.strip(),) for line in assumed])


def _notes(notes: Sequence[str], printer: Printer) -> None:
    if notes:
        printer.heading("Notes")
        for note in notes:
            printer.rows([(f"· {note}",)])


def _over(mesh_axes: Sequence[str]) -> str:
    return " × ".join(mesh_axes) or _NONE


def _where(mesh_axes: Sequence[str]) -> str:
    return f"over {_over(mesh_axes)}" if mesh_axes else "replicated"
