"""The plans that the planner finds, beside those that people write: how much slower or faster each is.

    python benchmarks/plan_quality.py [--models gpt2_small …] [--meshes 4x2 …] [--hardware v5e …]

On every mesh of every chip each expert's rules are priced by the model that the search minimizes, with and without
gathering parameters again in the backward pass; the better of those that fit counts. *Regret* is how much slower ours
is than the best expert: at most 0 if the search is exact and its space has the expert's plan. A row says which expert
came nearest. The table is written to benchmarks/results/plan_quality-DATE.md, all figures to the .json beside it.

The experts, on the mesh axes `data` and `model` (`data` alone on a mesh of one axis):

- data parallel: the batch over everything.
- ZeRO-1: besides, the state is stored over `data`, and gathered once a step. The space stores parameters, gradients and
  optimizer alike, so this is its traffic with less memory than ZeRO-1 has.
- FSDP: the batch over everything, the state over everything (`embed`; without one, the name of most of the state).
- FSDP, all: the state over everything, each array of it along any name that has room.
- HSDP: the state over `model` alone, which lies inside.
- Megatron: `mlp`, heads and `vocab` over `model`, the batch over `data`; +SP: `position` over `model` where free.
- 2D: Megatron, and the state over `data`.
- Levanter: its default rules, `mlp` and heads over `model`, `embed` stored over `data`, the batch over `data`.
- MaxText: its default logical rules with `fsdp` as `data` and `tensor` as `model`: `vocab` as well, activations of
  `embed` over `tensor`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any

os.environ |= {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

from plan_quality_steps import GPT, step_graph

import ir
from ir.graph import Graph
from levanter.config import load
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes import Plan, PlanError
from passes.hardware.chip import chip_of
from passes.pipeline import prepare
from passes.planner.cost import step_seconds
from passes.planner.problem import Problem
from passes.planner.solve import solve
from passes.planner.space import scanned_names
from passes.sharding.mesh import DeviceMesh

HERE = Path(__file__).parent
Row = dict[str, Any]
Rules = dict[str, tuple[str, ...]]

CONFIGS = ("gpt2_small", "gpt2_xl", "llama2_7b", "llama3_8b", "llama3_70b", "llama3_405b", "mixtral_8x7b")
MODELS = (*CONFIGS, *GPT, "vit_h", "unet")
MESHES = ("8", "4x2", "2x4", "16x4", "16x16", "32x8", "2x64")
HARDWARE = ("v5e", "v5p", "h100")
SEQUENCES = 4
"""Of a step, for each device."""
HEADS = ("heads", "kv_heads")


def experts(graph: Graph, mesh: DeviceMesh) -> Iterator[tuple[str, Rules, Rules]]:
    """(who, compute, storage) of every expert, for the names that a step has."""
    every, names = mesh.axes, set(graph.axis_sizes())
    state = [graph.inputs[before].type for before, _ in graph.carried]
    bytes_of = {name: sum(type_.bytes for type_ in state if name in type_.names) for name in sorted(names)}
    scanned = scanned_names(graph)
    widest = "embed" if "embed" in names else max(bytes_of, key=bytes_of.__getitem__)
    yield "data parallel", {"batch": every}, {}
    yield "ZeRO-1", {"batch": every}, {widest: ("data",)}
    yield "FSDP", {"batch": every}, {widest: every}
    yield "FSDP, all", {"batch": every}, {name: every for name in names if bytes_of[name] and name not in scanned}
    if "model" not in every:
        return
    yield "HSDP", {"batch": every}, {widest: ("model",)}
    tensor = {name: ("model",) for name in ("mlp", *HEADS, "vocab") if name in names}
    megatron = {"batch": ("data",), **tensor}
    yield "Megatron", megatron, {}
    yield "Megatron+SP", {**megatron, "position": ("model",)}, {}
    yield "2D", megatron, {"embed": ("data",)}
    yield "2D+SP", {**megatron, "position": ("model",)}, {"embed": ("data",)}
    yield "Levanter", {key: axes for key, axes in megatron.items() if key != "vocab"}, {"embed": ("data",)}
    yield "MaxText", {**megatron, "embed": ("model",)}, {"embed": ("data",)}


def priced(problems: list[Problem], plans: list[Plan]) -> tuple[float, bool] | None:
    """Seconds of the fastest of some plans that fits, or, where none does, of the fastest; and whether it fits."""
    found: list[tuple[bool, float]] = []
    for problem, plan in zip(problems, plans, strict=True):
        cost, peak = problem.price(plan.rules)
        chip = problem.network.chip
        seconds = float(step_seconds(cost.compute, cost.activations, cost.hidden, chip.overlap))
        found.append((peak > chip.capacity, seconds))
    lacks, seconds = min(found)
    return seconds, not lacks


def traced(model: str, devices: int) -> Graph:
    if model not in CONFIGS and model not in GPT:
        return step_graph(model, SEQUENCES * devices)
    given = [f"--trainer.train_batch_size={SEQUENCES * devices}", *GPT.get(model, ())]
    name = model if model in CONFIGS else "gpt2_base"
    config = load(HERE.parent / "config" / f"{name}.yaml", given, options=[])
    return prepare(ir.trace(train_step_of(config), state_shape(config), batch_shape(config)))


def cell(model: str, graph: Graph, mesh: DeviceMesh, hardware: str) -> Row:
    """One model on one mesh of one chip."""
    started, chip = process_time(), chip_of(hardware)
    problems = [Problem.of(graph, mesh, chip, regather) for regather in (False, True)]
    row: Row = {"model": model, "mesh": str(mesh), "hardware": hardware, "experts": {}}
    for who, compute, storage in experts(graph, mesh):
        known = {name: axes for name, axes in compute.items() if name in graph.axis_sizes()}
        plans = [Plan.by_hand(mesh, known, storage, hardware, regather=again) for again in (False, True)]
        found = priced(problems, plans)
        row["experts"][who] = {"step": found[0], "fits": found[1]} if found else None
    try:
        ours = solve(graph, mesh, hardware)
    except PlanError as error:
        return {**row, "ours": None, "refused": str(error).partition(";")[0], "cpu": process_time() - started}
    again = bool(ours.regather)
    step, _ = priced([problems[again]], [ours]) or (0.0, True)
    optimal = ours.search is not None and ours.search.optimal
    return {**row, "ours": step, "optimal": optimal, "cpu": process_time() - started}


def told(row: Row) -> list[str]:
    """A line of the table: the step, the best expert and our regret against it, and what each other expert takes."""
    fitting = {who: each["step"] for who, each in row["experts"].items() if each["fits"]}
    best = min(fitting, key=fitting.__getitem__, default=None)
    head = [row["model"], row["mesh"], row["hardware"]]
    if row["ours"] is None:
        return [*head, "nothing fits", "none fits" if best is None else f"**{best} fits**", ""]
    ours = f"{1e3 * row['ours']:,.2f}"
    if best is None:
        return [*head, ours, "none fits", ""]
    row["regret"] = row["ours"] / fitting[best] - 1
    others = [f"{who} {step / row['ours']:.2f}" for who, step in sorted(fitting.items(), key=lambda item: item[1])]
    return [*head, ours, f"{best}, {row['regret']:+.1%}", ", ".join(others)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--meshes", nargs="+", default=MESHES)
    parser.add_argument("--hardware", nargs="+", default=HARDWARE)
    parser.add_argument("--out", default=str(HERE / "results" / f"plan_quality-{datetime.date.today()}"))
    chosen = parser.parse_args()
    rows: list[Row] = []
    heads = ["model", "mesh", "chip", "ours, ms", "best expert, ours against it", "experts that fit, ours = 1"]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---|---:|---|---|"]
    for model in chosen.models:
        graphs: dict[int, Graph] = {}
        for text in chosen.meshes:
            mesh = DeviceMesh.of(text)
            graph = graphs.get(mesh.devices) or graphs.setdefault(mesh.devices, traced(model, mesh.devices))
            for hardware in chosen.hardware:
                rows.append(cell(model, graph, mesh, hardware))
                lines.append("| " + " | ".join(told(rows[-1])) + " |")
                print(lines[-1], flush=True)
                written(Path(chosen.out), rows, lines)


def written(out: Path, rows: list[Row], lines: list[str]) -> None:
    """The files so far: a run that is ended early leaves what it has."""
    regrets = [row["regret"] for row in rows if "regret" in row]
    worst = f"{max(regrets):+.2%}" if regrets else "none"
    title = [
        f"# Plans beside experts', {datetime.date.today()}",
        "",
        f"`python benchmarks/plan_quality.py`: {len(rows)} problems, {SEQUENCES} sequences a device. Largest regret "
        f"{worst}; in {sum(row['ours'] is not None and 'regret' not in row for row in rows)} no expert fits and ours "
        "does. Seconds are the model's.",
        "",
    ]
    out.with_suffix(".md").write_text("\n".join([*title, *lines]) + "\n")
    out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
