"""The planner's plans beside those that people write, as XLA compiles them: bytes, peak and time of each.

    pip install -e ".[tpu]"
    python benchmarks/plan_measured.py [--models gpt2_nano …] [--meshes 4x2 …] [--hardware v5e …]

Each plan of `plan_quality.py` that fits is compiled ahead of time for the TPU slice, ours too. What a plan takes is put
together from the compiled program alone: the cycles that XLA estimates for its operations, and its collectives one
after another, nothing hidden. Plans of the same rules are compiled once. What was compiled is kept in
benchmarks/results/plan_measured-DATE.jsonl, so that it can be interrupted; the table is written to the .md beside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"

from plan_quality import experts
from plan_truth import CLOCK, graph_of

from ir.graph import Graph
from levanter.compiler import compile as of_config
from levanter.config import load
from passes import Plan
from passes.hardware.chip import chip_of
from passes.hardware.network import Network
from passes.planner.problem import Problem
from passes.planner.solve import solve
from passes.sharding.mesh import DeviceMesh

HERE = Path(__file__).parent
Row = dict[str, Any]
MODELS = ("gpt2_nano", "llama_nano", "mixtral_nano")
MESHES = ("8", "4x2", "2x4")
HARDWARE = ("v5e",)


def candidates(graph: Graph, mesh: DeviceMesh, hardware: str) -> dict[str, Plan]:
    """Ours, and the plans of others that fit, by who writes them. A plan that is written down stores no name whose size
    does not divide."""
    problem, sizes = Problem.of(graph, mesh, chip_of(hardware), False), graph.axis_sizes()
    found = {"ours": solve(graph, mesh, hardware)}
    for who, compute, storage in experts(graph, mesh):
        known = {name: axes for name, axes in compute.items() if name in sizes}
        stored = {name: axes for name, axes in storage.items() if sizes[name] % mesh.group(mesh.mask(axes)) == 0}
        plan = Plan.by_hand(mesh, known, stored, hardware)
        if problem.price(plan.rules)[1] <= problem.network.chip.capacity:
            found[who] = plan
    return found


def measure(model: str, plan: Plan, hardware: str, file: Path) -> Row:
    """What is compiled of a model under a plan; seconds are of a step."""
    plan.save(file)
    config = load(model, ["--trainer.plan", str(file)])
    found = of_config.report(config, plan.mesh.as_dict(), hardware, verify=True, platform="tpu")
    verify, network = found["verify"], Network(plan.mesh, plan.chip)
    sent = sum(
        size["compiled_count"] * float(network.seconds(row["kind"], plan.mesh.mask(row["mesh_axes"]), size["bytes"]))
        for row in verify["collectives"]
        for size in row["sizes"]
    )
    operations = verify["cycles"]["compiled_cycles"] / CLOCK[hardware]
    return {
        "bytes": sum(row["compiled_bytes"] for row in verify["collectives"]),
        "peak": verify["peak"]["compiled"],
        "operations": operations,
        "serial": operations + sent,
        "predicted": found["time"]["step"],
        "surprises": len(verify["surprises"]),
    }


def measured(model: str, mesh: str, hardware: str, known: dict[str, Row], kept: Path) -> Row:
    """One model on one slice: every plan, those of the same rules once."""
    cell: Row = {}
    for who, plan in candidates(graph_of(model), DeviceMesh.of(mesh), hardware).items():
        key = json.dumps([model, mesh, hardware, str(plan.rules.compute), str(plan.rules.extra), str(plan.regather)])
        if key not in known:
            known[key] = measure(model, plan, hardware, kept.with_suffix(".yaml"))
            with kept.open("a") as file:
                file.write(json.dumps([key, known[key]]) + "\n")
        cell[who] = known[key]
    kept.with_suffix(".yaml").unlink(missing_ok=True)
    return cell


def told(model: str, mesh: str, hardware: str, cell: Row) -> str:
    """A line of the table: ours, and the best other plan by each measure, ours against it."""
    ours, others = cell["ours"], {who: each for who, each in cell.items() if who != "ours"}
    columns = [model, mesh, hardware]
    for measure_, unit in (("serial", 1e3), ("operations", 1e3), ("bytes", 1e-6), ("peak", 1e-6), ("predicted", 1e3)):
        best = min(others, key=lambda who: others[who][measure_])
        regret = ours[measure_] / others[best][measure_] - 1 if others[best][measure_] else 0.0
        columns.append(f"{ours[measure_] * unit:,.3f} ({best}, {regret:+.1%})")
    return "| " + " | ".join(columns) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--meshes", nargs="+", default=MESHES)
    parser.add_argument("--hardware", nargs="+", default=HARDWARE)
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"plan_measured-{datetime.date.today()}")
    options = parser.parse_args()
    kept: Path = options.out.with_suffix(".jsonl")
    known: dict[str, Row] = dict(map(json.loads, kept.read_text().splitlines())) if kept.exists() else {}
    heads = ["model", "mesh", "chip", "step one after the other, ms", "operations, ms", "MB sent", "peak MB"]
    lines = [
        f"# Plans beside experts', as compiled, {datetime.date.today()}",
        "",
        f"`{' '.join(['python benchmarks/plan_measured.py', *sys.argv[1:]])}`: ours, and in brackets the best of the",
        "others by that measure and how much more ours has. Operations are XLA's estimate in cycles; the step is these",
        "and all compiled collectives, nothing hidden. The planner minimizes the last column, where state is hidden.",
        "",
        "| " + " | ".join([*heads, "predicted step, ms"]) + " |",
        "|---|---|---|" + "---|" * 5,
    ]
    for model in options.models:
        for mesh in options.meshes:
            for hardware in options.hardware:
                lines.append(told(model, mesh, hardware, measured(model, mesh, hardware, known, kept)))
                print(lines[-1], flush=True)
                options.out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
