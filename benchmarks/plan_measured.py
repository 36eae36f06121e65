"""The planner's plans beside those that people write, as XLA compiles them: bytes, peak and time of each.

    pip install -e ".[tpu]"
    python benchmarks/plan_measured.py [--models gpt2_nano …] [--meshes 4x2 …] [--hardware v5e …]

Each plan of `plan_quality.py` that fits is compiled ahead of time for the TPU slice, ours too; those that are predicted
to take more than `--within` times as long as ours are left out. What a plan takes is put together from the compiled
program alone: the cycles that XLA estimates for its operations, and its collectives, priced as the planned ones are,
since libtpu has no estimate for them; arrays that it sends together are one. Those that it runs inside of fusions are
hidden by the operations of these, as long as they take; all others are waited for. It is given the flags under which it
hides most, unless LIBTPU_INIT_ARGS says others (docs/getting-started-tpu-vm.md). Plans of the same rules are compiled
once. What was compiled is kept in benchmarks/results/plan_measured-DATE.jsonl, so that it can be interrupted, and
programs as `plan_truth.py` keeps them; the table is written to the .md beside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault(
    "LIBTPU_INIT_ARGS",
    "--xla_tpu_enable_async_collective_fusion=true --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true "
    "--xla_tpu_enable_async_collective_fusion_fuse_all_reduce=true --xla_enable_async_all_reduce=true "
    "--xla_enable_async_all_gather=true "
    "--xla_tpu_enable_async_collective_fusion_fuse_reduce_scatter=true --xla_tpu_overlap_compute_collective_tc=true "
    "--xla_tpu_enable_data_parallel_all_reduce_opt=true --xla_tpu_data_parallel_opt_different_sized_ops=true",
)

from plan_quality import experts
from plan_truth import CACHE, CLOCK

import ir
from ir.graph import Graph
from levanter.compiler.compile import planned_graph
from levanter.compiler.target import Target, load_step
from levanter.compiler.user_step import LOWER_USER_STEP, graph_of
from levanter.compiler.verify import keeping
from levanter.compiler.verify.cycles import cycles_beside, estimated_cycles
from levanter.compiler.verify.hlo import collectives
from levanter.compiler.verify.isolate import LOWER_STEP, compile_in_child
from levanter.compiler.verify.topology import topology_of
from levanter.compiler.verifying import plan_request
from levanter.config import dump, load
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes import Plan
from passes.hardware.chip import chip_of
from passes.pipeline import prepare
from passes.planner.cost import step_seconds
from passes.planner.fastest import step_of
from passes.planner.problem import Problem
from passes.planner.variants import best_plan
from passes.sharding.mesh import DeviceMesh

HERE = Path(__file__).parent
Row = dict[str, Any]
CONFIGS = {
    "gpt2_nano": ("gpt2_nano", ()),
    "llama_nano": ("llama_nano", ()),
    "mixtral_nano": ("mixtral_nano", ()),
    "gpt2_small, 4 layers": ("gpt2_small", ("--model.num_layers=4", "--trainer.train_batch_size=32")),
}
STEPS = {"vit": "plan_truth_steps.py:vit", "unet": "plan_quality_steps.py:unet_small"}
MODELS = (*CONFIGS, *STEPS)
MESHES = ("8", "4x2", "2x4")
HARDWARE = ("v5e", "v5p")
MEASURES = {"step": 1e3, "serial": 1e3, "operations": 1e3, "bytes": 1e-6, "peak": 1e-6, "predicted": 1e3}
"""And how many of its units a column has."""
_CELL = "cell"


@cache
def subject(model: str) -> tuple[Graph, Mapping[str, Any], str]:
    """The traced step of a model, which step it is for the process that compiles, and what lowers it there."""
    if model in STEPS:
        target = Target(str(HERE / STEPS[model]))
        return graph_of(load_step(target)), {"target": asdict(target)}, LOWER_USER_STEP
    name, overrides = CONFIGS[model]
    config = load(name, [*overrides])
    graph = ir.trace(train_step_of(config), state_shape(config), batch_shape(config))
    return graph, {"config": dump(config)}, LOWER_STEP


def candidates(graph: Graph, mesh: DeviceMesh, hardware: str, within: float) -> dict[str, Plan]:
    """Ours, and the plans of others that fit, by who writes them. A plan that is written down stores no name whose size
    does not divide."""
    problem, sizes = Problem.of(graph, mesh, chip_of(hardware), False), graph.axis_sizes()
    found = {"ours": best_plan(graph, mesh, hardware)}
    ours = step_of(found["ours"])
    for who, compute, storage in experts(graph, mesh):
        known = {name: axes for name, axes in compute.items() if name in sizes}
        divides = {name: size % mesh.group(mesh.mask(storage.get(name, ()))) == 0 for name, size in sizes.items()}
        stored = {name: axes for name, axes in storage.items() if divides.get(name)}
        plan = Plan.by_hand(mesh, known, stored, hardware)
        cost, peak = problem.price(plan.rules)
        step = step_seconds(cost.compute, cost.activations, cost.hidden, problem.network.chip.overlap)
        if peak <= problem.network.chip.capacity and step <= within * ours:
            found[who] = plan
    return found


def compiled(model: str, plan: Plan) -> Row:
    """What libtpu makes of a model under a plan."""
    graph, request, lower = subject(model)
    result = planned_graph(graph, plan.mesh.as_dict(), plan.hardware, plan=plan)
    facts = result.facts()
    asked = plan_request({**request, "partitioner": "explicit"}, result.plan)
    program = compile_in_child(asked, devices=plan.mesh.devices, function=lower, topology=topology_of(result.plan))
    return {
        "cycles": estimated_cycles(program.text).total,
        "peak": program.peak,
        "collectives": sent(program.text, plan.mesh.as_dict(), program.chips),
        "predicted": facts["time"]["step"],
        "predicted_operations": facts["time"]["compute"],
    }


def sent(text: str, mesh: Mapping[str, int], chips: Sequence[int]) -> list[list[Any]]:
    """The collectives of a program: kind, mesh axes, bytes, the cycles of operations that it runs beside, in all, and
    how often. One of several arrays is one collective: they are sent together, after one start."""
    beside = cycles_beside(text)
    together: dict[tuple[str, str, str, int], int] = {}
    for each in collectives(text, mesh, chips):
        key = (each.instruction, each.kind, " ".join(each.mesh_axes), each.count)
        together[key] = together.get(key, 0) + each.bytes
    return [
        [kind, axes, size, beside.get(instruction, 0), count]
        for (instruction, kind, axes, count), size in together.items()
    ]


def measures(row: Row, plan: Plan) -> dict[str, float]:
    """What a compiled program takes; seconds are of a step."""
    network, clock = plan.physical, CLOCK[plan.hardware]
    operations = row["cycles"] / clock
    total = hidden = 0.0
    for kind, axes, size, beside, count in row["collectives"]:
        seconds = count * float(network.seconds(kind, plan.mesh.mask(axes.split()), size))
        total, hidden = total + seconds, hidden + min(seconds, beside / clock)
    return {
        "step": operations + total - hidden,
        "serial": operations + total,
        "operations": operations,
        "bytes": sum(size * count for _, _, size, _, count in row["collectives"]),
        "peak": row["peak"],
        "predicted": row["predicted"],
    }


def measured(model: str, mesh: str, hardware: str, within: float, known: dict[str, Row], kept: Path) -> Row:
    """One model on one slice: every plan, those of the same rules once."""
    cell: Row = {}
    graph = prepare(subject(model)[0])
    for who, plan in candidates(graph, DeviceMesh.of(mesh), hardware, within).items():
        rules = [plan.rules.compute, plan.rules.extra, plan.order, plan.order_where, plan.remat, plan.attention]
        how = [str(plan.regather), str(plan.network), os.environ["LIBTPU_INIT_ARGS"]]
        key = json.dumps([model, mesh, hardware, *map(str, rules), *how])
        if key not in known:
            known[key] = compiled(model, plan)
            with kept.open("a") as file:
                file.write(json.dumps([key, known[key]]) + "\n")
        cell[who] = measures(known[key], plan)
    return cell


def told(model: str, mesh: str, hardware: str, cell: Row) -> str:
    """A line of the table: ours, and the best other plan by each measure, ours against it."""
    ours, others = cell["ours"], {who: each for who, each in cell.items() if who != "ours"}
    columns = [model, mesh, hardware, str(len(others))]
    for of, unit in MEASURES.items():
        if not others:
            columns.append(f"{ours[of] * unit:,.3f}")
            continue
        best = min(others, key=lambda who: others[who][of])
        regret = ours[of] / others[best][of] - 1 if others[best][of] else 0.0
        columns.append(f"{ours[of] * unit:,.3f} ({best}, {regret:+.1%})")
    return "| " + " | ".join(columns) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--meshes", nargs="+", default=MESHES)
    parser.add_argument("--hardware", nargs="+", default=HARDWARE)
    parser.add_argument("--within", type=float, default=1.2)
    parser.add_argument("--kept", type=Path, default=CACHE, help="where compiled programs are kept")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"plan_measured-{datetime.date.today()}")
    options = parser.parse_args()
    kept: Path = options.out.with_suffix(".jsonl")
    known: dict[str, Row] = dict(map(json.loads, kept.read_text().splitlines())) if kept.exists() else {}
    for model in options.models:
        for mesh in options.meshes:
            for hardware in options.hardware:
                with keeping(options.kept):
                    cell = measured(model, mesh, hardware, options.within, known, kept)
                key = " ".join([_CELL, hardware, mesh, model])
                if known.get(key) != cell:
                    known[key] = cell
                    with kept.open("a") as file:
                        file.write(json.dumps([key, cell]) + "\n")
                print(told(model, mesh, hardware, cell), flush=True)
    options.out.with_suffix(".md").write_text("\n".join(page(known, options.within)) + "\n")


def page(known: dict[str, Row], within: float) -> list[str]:
    """The table of all cells that are known."""
    heads = ["model", "mesh", "chip", "others", "step, ms", "one after the other, ms", "operations, ms", "MB sent"]
    cells = [(key.split(" ", 3), cell) for key, cell in sorted(known.items()) if key.startswith(_CELL)]
    return [
        f"# Plans beside experts', as compiled, {datetime.date.today()}",
        "",
        f"`python benchmarks/plan_measured.py --within {within}`, cell by cell: ours, and in brackets the best of the",
        "others by that measure and how much more ours has. Others are those that are predicted to take at most",
        f"{within} times as long. Operations are XLA's estimate in cycles. The step is these and the compiled",
        "collectives, those that libtpu runs inside of fusions hidden by what these compute, or none (one after the",
        "other). The planner minimizes the last column.",
        "",
        "| " + " | ".join([*heads, "peak MB", "predicted step, ms"]) + " |",
        "|---|---|---|---:|" + "---|" * len(MEASURES),
        *[told(model, mesh, hardware, cell) for (_, hardware, mesh, model), cell in cells],
    ]


if __name__ == "__main__":
    main()
