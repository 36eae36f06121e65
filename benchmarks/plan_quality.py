"""The plans that the planner finds, beside those that people write: how much slower or faster each is.

    python benchmarks/plan_quality.py [--models gpt2_small …] [--meshes 4x2 …] [--hardware v5e …]

On every mesh of every chip each expert's rules are priced by the model that the search minimizes, with and without
gathering parameters again in the backward pass, on every part of the network that the mesh axes may have; the fastest
of those that fit counts. Where ours computes again in the backward pass, experts may too. *Regret* is how much slower
ours is than the best expert: at most 0 if the search is exact and its space has the expert's plan. A row says which
expert came nearest. Each problem is added to benchmarks/results/plan_quality-DATE.jsonl when it is done, so that the
command can be interrupted and given again; the table is written to the .md beside it.

The experts, on the mesh axes `data` and `model` (`data` alone on a mesh of one axis):

- data parallel: the batch over everything.
- ZeRO-1: besides, the optimizer's state is stored over `data`; or all state is, which has the same traffic and needs
  less memory.
- FSDP: the batch over everything, the state over everything (`embed`; without one, the name of most of the state).
- FSDP, all: the state over everything, each array of it along its name that most of the state has and that divides.
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
from math import inf
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
from passes.hardware.networks import networks
from passes.pipeline import prepare
from passes.planner.cost import step_seconds
from passes.planner.fastest import step_of
from passes.planner.problem import Problem
from passes.planner.remat import AS_IT_IS
from passes.planner.space import scanned_names
from passes.planner.variants import best_plan
from passes.rematerialize import rematerialized
from passes.sharding.mesh import DeviceMesh
from passes.sharding.state import STATE_KINDS, StateKind

HERE = Path(__file__).parent
Row = dict[str, Any]
Rules = dict[str, tuple[str, ...]]

CONFIGS = ("gpt2_small", "gpt2_xl", "llama2_7b", "llama3_8b", "llama3_70b", "llama3_405b", "mixtral_8x7b")
MODELS = (*CONFIGS, *GPT, "vit_h", "unet")
MESHES = ("8", "4x2", "2x4", "16x4", "16x16", "32x8", "2x64")
HARDWARE = ("v5e", "v5p", "h100")
SEQUENCES = (4, 1)
"""Of a step, for each device; the second where nothing fits with the first."""
HEADS = ("heads", "kv_heads")


def experts(graph: Graph, mesh: DeviceMesh) -> Iterator[tuple[str, Rules, Rules]]:
    """(who, compute, storage) of every expert, for the names that a step has."""
    every, names = mesh.axes, set(graph.axis_sizes())
    state = [graph.inputs[before].type for before, _ in graph.carried]
    bytes_of = {name: sum(type_.bytes for type_ in state if name in type_.names) for name in sorted(names)}
    widely = sorted(names, key=lambda name: (-bytes_of[name], name))
    scanned = scanned_names(graph)
    widest = "embed" if "embed" in names else max(bytes_of, key=bytes_of.__getitem__)
    yield "data parallel", {"batch": every}, {}
    yield "ZeRO-1", {"batch": every}, {widest: ("data",)}
    yield "FSDP", {"batch": every}, {widest: every}
    yield "FSDP, all", {"batch": every}, {name: every for name in widely if bytes_of[name] and name not in scanned}
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


def problems(graphs: list[Graph], mesh: DeviceMesh, hardware: str) -> dict[bool, list[Problem]]:
    """Every problem that an expert's rules may answer, by whether the optimizer's state alone is stored."""
    chip = chip_of(hardware)
    ways: list[tuple[tuple[StateKind, ...], bool]] = [
        (STATE_KINDS, False),
        (STATE_KINDS, True),
        (("optimizer",), False),
    ]
    found: dict[bool, list[Problem]] = {False: [], True: []}
    for graph in graphs:
        for network in networks(mesh, chip):
            for stored, regather in ways:
                made = Problem.of(graph, mesh, chip, regather, stored=stored, network=network)
                found[stored != STATE_KINDS].append(made)
    return found


def priced(several: list[Problem], plan: Plan) -> dict[str, Any]:
    """Seconds of a plan's rules where they are fastest among the problems in which they fit, or, where they fit in
    none, where they are fastest; and whether they fit."""
    found: list[tuple[bool, float]] = []
    for problem in several:
        cost, peak = problem.price(plan.rules)
        chip = problem.network.chip
        seconds = float(step_seconds(cost.compute, cost.activations, cost.hidden, chip.overlap))
        found.append((peak > chip.capacity, seconds))
    lacks, seconds = min(found)
    return {"step": seconds, "fits": not lacks}


def traced(model: str, examples: int) -> Graph:
    if model not in CONFIGS and model not in GPT:
        return step_graph(model, examples)
    given = [f"--trainer.train_batch_size={examples}", *GPT.get(model, ())]
    name = model if model in CONFIGS else "gpt2_base"
    config = load(HERE.parent / "config" / f"{name}.yaml", given, options=[])
    return prepare(ir.trace(train_step_of(config), state_shape(config), batch_shape(config)))


def cell(model: str, graph: Graph, mesh: DeviceMesh, hardware: str) -> Row:
    """One model on one mesh of one chip."""
    started = process_time()
    row: Row = {"model": model, "mesh": str(mesh), "hardware": hardware, "ours": None, "experts": {}}
    graphs = [graph]
    try:
        ours = best_plan(graph, mesh, hardware)
    except PlanError as error:
        row |= {"refused": str(error).partition(";")[0]}
    else:
        row |= {"ours": step_of(ours), "optimal": ours.search is not None and ours.search.optimal}
        row |= {"compute": ours.compute, "storage": ours.storage, "regather": ours.regather, "remat": ours.remat}
        row |= {"network": ours.network, "attention": ours.attention}
        if ours.remat != AS_IT_IS:
            graphs.append(rematerialized(graph, ours.remat))
    row["cpu"] = process_time() - started
    asked = problems(graphs, mesh, hardware)
    for who, compute, storage in experts(graph, mesh):
        known = {name: axes for name, axes in compute.items() if name in graph.axis_sizes()}
        plan = Plan.by_hand(mesh, known, storage, hardware)
        row["experts"][who] = priced([*asked[False], *(asked[True] if who == "ZeRO-1" else [])], plan)
    return row


def told(row: Row) -> list[str]:
    """A line of the table: the step, the best expert and our regret against it, and what each other expert takes."""
    fitting = {who: each["step"] for who, each in row["experts"].items() if each["fits"]}
    best = min(fitting, key=fitting.__getitem__, default=None)
    head = [row["model"], row["mesh"], row["hardware"], str(row["sequences"])]
    if row["ours"] is None:
        return [*head, "nothing fits", "none fits" if best is None else f"**{best} fits**", ""]
    ours = f"{1e3 * row['ours']:,.2f}" + ("" if row["optimal"] else ", not proven")
    if best is None:
        return [*head, ours, "none fits", ""]
    others = [f"{who} {step / row['ours']:.2f}" for who, step in sorted(fitting.items(), key=lambda item: item[1])]
    return [*head, ours, f"{best}, {regret(row) or 0.0:+.1%}", ", ".join(others)]


def regret(row: Row) -> float | None:
    """How much longer ours takes than the best expert: infinite where only an expert fits, None where none does."""
    fitting = [each["step"] for each in row["experts"].values() if each["fits"]]
    if not fitting:
        return None
    return inf if row["ours"] is None else row["ours"] / min(fitting) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--meshes", nargs="+", default=MESHES)
    parser.add_argument("--hardware", nargs="+", default=HARDWARE)
    parser.add_argument("--again", action="store_true", help="plan anew what was planned already")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"plan_quality-{datetime.date.today()}")
    chosen = parser.parse_args()
    kept: Path = chosen.out.with_suffix(".jsonl")
    rows: dict[tuple[str, str, str], Row] = {}
    for line in kept.read_text().splitlines() if kept.exists() else ():
        row = json.loads(line)
        rows[row["model"], row["mesh"], row["hardware"]] = row
    for model in chosen.models:
        graphs: dict[int, Graph] = {}
        for text in chosen.meshes:
            mesh = DeviceMesh.of(text)
            for hardware in chosen.hardware:
                key = (model, str(mesh), hardware)
                if key in rows and not chosen.again:
                    continue
                for sequences in SEQUENCES:
                    examples = sequences * mesh.devices
                    graph = graphs.get(examples) or graphs.setdefault(examples, traced(model, examples))
                    rows[key] = {**cell(model, graph, mesh, hardware), "sequences": sequences}
                    if rows[key]["ours"] is not None or regret(rows[key]) is not None:
                        break
                with kept.open("a") as file:
                    file.write(json.dumps(rows[key]) + "\n")
                print("| " + " | ".join(told(rows[key])) + " |", flush=True)
    chosen.out.with_suffix(".md").write_text("\n".join(page(rows)) + "\n")


def page(rows: dict[tuple[str, str, str], Row]) -> list[str]:
    """The table of all problems that are known, in the order of the command's defaults."""
    places = [list(MODELS), [str(DeviceMesh.of(text)) for text in MESHES], list(HARDWARE)]

    def order(key: tuple[str, str, str]) -> tuple[int, ...]:
        return tuple(
            place.index(each) if each in place else len(place) for place, each in zip(places, key, strict=True)
        )

    ordered = [rows[key] for key in sorted(rows, key=order)]
    regrets = [found for row in ordered if (found := regret(row)) is not None]
    alone = sum(row["ours"] is not None and regret(row) is None for row in ordered)
    heads = ["model", "mesh", "chip", "each", "ours, ms", "best expert, ours against it", "experts that fit, ours = 1"]
    average = sum(row["cpu"] for row in ordered) / max(1, len(ordered))
    return [
        f"# Plans beside experts', {datetime.date.today()}",
        "",
        f"`python benchmarks/plan_quality.py`: {len(ordered)} problems, of {SEQUENCES[0]} sequences or images a "
        f"device, or {SEQUENCES[1]} where nothing fits with these (the column *each*).",
        "",
        f"- In {len(regrets)} an expert's plan fits. The largest regret is {max(regrets, default=0.0):+.2%}; in "
        f"{sum(each < -0.005 for each in regrets)} ours is faster by more than 0.5 %.",
        f"- In {alone} ours fits and none of the experts'.",
        f"- In {sum(row['ours'] is None for row in ordered)} nothing fits, as is proven.",
        f"- {sum(row.get('optimal', True) for row in ordered)} are solved to the proven optimum. A search takes "
        f"{average:.1f} s of CPU on average, {max((row['cpu'] for row in ordered), default=0.0):.1f} at most.",
        "",
        "Seconds of steps are the model's.",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|---|---|---:|---:|---|---|",
        *["| " + " | ".join(told(row)) + " |" for row in ordered],
    ]


if __name__ == "__main__":
    main()
