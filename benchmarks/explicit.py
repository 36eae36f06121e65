"""The program of one device beside what XLA's partitioner makes: the same step under the same plan, three ways.

    python benchmarks/explicit.py [--model gpt2_nano] [--rounds 12] [--NAME.FIELD VALUE …]

On 8 CPU devices in one process, in turns: `explicit` (`passes.lower`), `xla` (`passes.lower` with `partitioner="xla"`)
and `jit` (`jax.jit` of the step itself, with the plan's shardings of its arguments and results). Prints for each plan
the median ratio of a step to `jit`, seconds of CPU time to trace and lower and to compile, and MiB of temporaries, and
writes them to benchmarks/results/explicit-DATE.json.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import numpy as np

import ir
import passes
from levanter.config import load
from levanter.runtime.state import batch_shape, init_state, state_shape, train_step_of
from passes.lower import output_shardings

RESULTS = Path(__file__).parent / "results"
DATA, MODEL = ("data",), ("model",)
MEGATRON = {"mlp": MODEL, "heads": MODEL, "vocab": MODEL}
PLANS: dict[str, tuple[dict[str, int], dict[str, Any] | None, dict[str, Any]]] = {
    "Megatron and FSDP, 4x2": ({"data": 4, "model": 2}, {"batch": DATA, **MEGATRON}, {"embed": DATA, **MEGATRON}),
    "sequence parallel, 2x4": (
        {"data": 2, "model": 4},
        {"batch": DATA, "position": MODEL},
        {"embed": DATA, "vocab": MODEL},
    ),
    "FSDP, 8": ({"data": 8}, {"batch": DATA}, {"embed": DATA}),
    "planned, 4x2": ({"data": 4, "model": 2}, None, {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gpt2_nano")
    parser.add_argument("--rounds", type=int, default=12)
    options, overrides = parser.parse_known_args()
    config = load(options.model, overrides)
    rows = [measured(name, config, options.rounds) for name in PLANS]
    for row in rows:
        print(row["plan"])
        for side, found in row["sides"].items():
            print(
                f"  {side:9} step {found['ratio']:5.2f} × jit   lower {found['lower']:5.1f} s   "
                f"compile {found['compile']:5.1f} s   temporaries {found['temporaries'] / 2**20:8.2f} MiB"
            )
    RESULTS.mkdir(exist_ok=True)
    command = " ".join(["python", "benchmarks/explicit.py", *sys.argv[1:]])
    where = RESULTS / f"explicit-{datetime.date.today()}.json"
    where.write_text(json.dumps({"command": command, "jax": jax.__version__, "rows": rows}, indent=2) + "\n")


def measured(name: str, config: Any, rounds: int) -> dict[str, Any]:
    """A row: of each side the ratio of its step to jit's, and what it costs to make."""
    mesh, compute, storage = PLANS[name]
    shapes = (state_shape(config), batch_shape(config))
    step = train_step_of(config)
    graph = ir.trace(step, *shapes)
    plan = passes.plan(graph, mesh) if compute is None else passes.Plan.by_hand(mesh, compute, storage)
    placed = passes.run(graph, mesh, plan=plan).placed
    devices = passes.device_mesh(plan)
    arguments, results = passes.input_shardings(placed, devices), output_shardings(placed, devices)
    sides: dict[str, Callable[[], Any]] = {
        "explicit": lambda: passes.lower(ir.trace(step, *shapes), plan),
        "xla": lambda: passes.lower(ir.trace(step, *shapes), plan, partitioner="xla"),
        "jit": lambda: jax.jit(lambda *each: step(*each), in_shardings=arguments, out_shardings=results),
    }
    made = {side: compiled(make, shapes) for side, make in sides.items()}
    state, batch = init_state(config), jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes[1])
    given = jax.block_until_ready(jax.device_put((state, batch), arguments))
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side in sorted(sides, reverse=bool(number % 2)):
            began = time.perf_counter()
            jax.block_until_ready(made[side]["step"](*given))
            times[side].append(time.perf_counter() - began)
    found = {
        side: {
            "ratio": statistics.median(a / b for a, b in zip(times[side][1:], times["jit"][1:], strict=True)),
            **{key: value for key, value in made[side].items() if key != "step"},
        }
        for side in sides
    }
    return {"plan": name, "mesh": mesh, "sides": found}


def compiled(make: Callable[[], Any], shapes: Any) -> dict[str, Any]:
    """The compiled step, with the CPU seconds that it took and its temporaries in bytes."""
    began = time.process_time()
    lowered = make().lower(*shapes)
    middle = time.process_time()
    step = lowered.compile()
    ended = time.process_time()
    temporaries = int(step.memory_analysis().temp_size_in_bytes)
    return {"step": step, "lower": middle - began, "compile": ended - middle, "temporaries": temporaries}


if __name__ == "__main__":
    main()
