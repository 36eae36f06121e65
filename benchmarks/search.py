"""How long the search for a plan takes, in CPU seconds of one core, and how it grows.

    python benchmarks/search.py [--only models growth]

Each row is a process of its own. The search alone is timed: not tracing, not checking, not writing the plan down. It
ends after 30 s, with what it has proven by then.
Beside it stands what trying every plan would take: as many prices as there are plans, one by one, of which a few are
timed. The table is written to benchmarks/results/search-DATE.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

os.environ |= {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

import jax
import jax.numpy as jnp

import ir
from ir.graph import Graph
from levanter.config import load
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes.hardware.chip import chip_of
from passes.hardware.networks import networks
from passes.pipeline import prepare
from passes.planner.fastest import step_of
from passes.planner.orders import in_each_order, orders
from passes.planner.problem import Problem
from passes.planner.search import search
from passes.planner.solve import solve
from passes.sharding.mesh import DeviceMesh
from passes.sharding.rules import ShardingRules

HERE = Path(__file__).parent
Cell = dict[str, Any]

NAMED = "replica=2,data=16,sequence=4,model=4"
MODELS = [
    ("gpt2_small", "2x2x2x2", "v5e", 32),
    ("llama3_8b", "16x16", "v5e", 256),
    ("llama3_8b", "2x16x16", "v5e", 512),
    ("llama3_8b", "2x16x4x4", "v5p", 256),
    ("llama3_8b", NAMED, "v5p", 256),
    ("llama3_70b", "16x16", "v5p", 1024),
    ("llama3_70b", "2x16x4x4", "v5p", 1024),
    ("llama3_70b", NAMED, "v5p", 1024),
    ("llama3_405b", "2x16x16", "v5p", 1024),
    ("llama3_405b", NAMED, "v5p", 1024),
    ("mixtral_8x7b", "16x16", "v5p", 512),
    ("mixtral_8x7b", "2x16x16", "v5p", 512),
    ("mixtral_8x7b", NAMED, "v5p", 512),
    ("gpt2_small", "a=2,b=2,c=2,d=2,e=2", "v5e", 32),
    ("llama3_8b", "2x2x2x2", "v5p", 256),
    ("mixtral_8x7b", "2x2x2x2", "v5p", 512),
    ("llama3_405b", NAMED, "v5e", 1024),
]
"""Model, mesh, hardware, batch. The last three do not fit. Of Mixtral two orders of names are searched."""
SEVERAL = [
    ("llama3_8b", "16x16", "h100", 256),
    ("llama3_8b", "data=2,fsdp=16,sequence=4,model=4", "v5p", 512),
    ("llama3_8b", NAMED, "h100", 512),
    ("llama3_70b", NAMED, "h100", 1024),
    ("mixtral_8x7b", NAMED, "h100", 512),
]
"""The same, where a mesh may lie on the physical network in several ways."""
AXES = ("a", "b", "c", "d", "e")
PRICES = 20
LIMIT = 30.0
"""Seconds after which a search ends with the best that it has, and says how much faster the optimum could be."""


def config_graph(model: str, batch: int) -> Graph:
    config = load(model, [f"--trainer.train_batch_size={batch}"])
    return prepare(ir.trace(train_step_of(config), state_shape(config), batch_shape(config)))


def chain(names: int, layers: int) -> Graph:
    """Layers with as many names of axes, each from one to the next."""
    axes = [f"axis{i}" for i in range(names)]
    between = [(axes[i % names], axes[(i + 1) % names]) for i in range(max(layers, names))]

    def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for weight in weights:
            x = jnp.tanh(x @ weight)
        return jnp.mean(x)

    def step(weights: list[jax.Array], x: jax.Array) -> Any:
        return jax.tree.map(lambda each, by: each - by, weights, jax.grad(loss)(weights, x))

    weights = [jax.ShapeDtypeStruct((1024, 1024), jnp.float32) for _ in between]
    x = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    given = {f"weights.{i}": " ".join(pair) for i, pair in enumerate(between)}
    return prepare(ir.trace(step, weights, x, names={**given, "x": f"batch {axes[0]}"}))


def measure(graph: Graph, mesh: str, hardware: str) -> Cell:
    """One search, with what trying every plan would take."""
    layout, chip = DeviceMesh.of(mesh), chip_of(hardware)
    started = process_time()
    problem = Problem.of(graph, layout, chip)
    spaces = in_each_order([problem.space], orders(graph, problem.roles, problem.space)[1:])
    found = search(spaces, problem.terms, problem.memory, chip, LIMIT)
    seconds = process_time() - started
    rng, space = random.Random(0), problem.space
    started = process_time()
    for _ in range(PRICES):
        masks = {name: int(rng.choice(list(options))) for name, options in space.options.items()}
        problem.price(ShardingRules(layout, space.order, masks, {}))
    each = (process_time() - started) / PRICES
    return {
        "seconds": seconds,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "plans": sum(part.plans for part in spaces),
        "every": each * sum(part.plans for part in spaces),
        "step": found.best[0].seconds if found.best else None,
        "gap": 1 - found.bound / found.best[0].seconds if found.best else 0.0,
    }


def measure_networks(graph: Graph, mesh: str, hardware: str) -> Cell:
    """A plan on the best of the networks that a mesh may have, all that it says of itself included."""
    layout, chip = DeviceMesh.of(mesh), chip_of(hardware)
    started = process_time()
    plan = solve(graph, layout, chip)
    seconds = process_time() - started
    assert plan.search is not None
    usual = measure(graph, mesh, hardware)
    plans, each = plan.search.plans, usual["every"] / usual["plans"]
    return {**usual, "seconds": seconds, "plans": plans, "every": each * plans, "step": step_of(plan)}


def in_a_process(kind: str, *arguments: Any) -> Cell:
    command = [sys.executable, __file__, "--cell", json.dumps([kind, *arguments])]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def cell(kind: str, *arguments: Any) -> Cell:
    if kind in ("model", "networks"):
        model, mesh, hardware, batch = arguments
        measured = measure if kind == "model" else measure_networks
        return measured(config_graph(model, batch), mesh, hardware)
    names, layers, mesh = arguments
    return measure(chain(names, layers), mesh, "v5p")


def row(label: str, found: Cell) -> str:
    every = found["every"]
    long = (
        f"{every:,.1f} s" if every < 600 else f"{every / 86400 / 365:,.0f} years" if every > 1e8 else f"{every:,.0f} s"
    )
    step = "nothing fits" if found["step"] is None else f"{found['step'] * 1e3:,.2f} ms"
    if found["gap"] > 1e-9:
        step += f", at most {found['gap']:.1%} from the optimum"
    numbers = f"{found['plans']:.3g} | {found['seconds']:.2f} | {found['megabytes']:,.0f} | {long} | {step} |"
    line = f"| {label} | {numbers}"
    print(line, flush=True)
    return line


HEAD = ["plans | CPU s | MB of the process | every plan, one by one | step |", "---:|" * 5]


def table(title: str, rows: list[tuple[str, Callable[[], Cell]]]) -> list[str]:
    lines = ["", f"## {title}", "", f"| | {HEAD[0]}", f"|---|{HEAD[1]}"]
    return [*lines, *(row(label, run()) for label, run in rows)]


def of_mesh(axes: int) -> str:
    return ",".join(f"{axis}=2" for axis in AXES[:axes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=["models", "growth"], default=["models", "growth"])
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(cell(*json.loads(options.cell))))
        return
    lines = [
        f"# The search for a plan, {datetime.date.today()}",
        "",
        f"`python benchmarks/search.py`, jax {jax.__version__}, Python {platform.python_version()}. CPU seconds of one",
        "core. MB are those of the whole process, JAX and the traced step included.",
    ]
    if "models" in options.only:
        rows = [(f"{m[0]}, {m[1]}, {m[2]}, batch {m[3]}", lambda m=m: in_a_process("model", *m)) for m in MODELS]
        lines += table("Models", rows)
        rows = [
            (
                f"{m[0]}, {m[1]}, {m[2]}, batch {m[3]}, {len(networks(DeviceMesh.of(m[1]), chip_of(m[2])))} networks",
                lambda m=m: in_a_process("networks", *m),
            )
            for m in SEVERAL
        ]
        lines += table("Meshes with several networks, the whole of `passes.plan`", rows)
    if "growth" in options.only:
        chains = [(f"{n} names", (n, n, of_mesh(2))) for n in range(2, 11, 2)]
        lines += table("More names, on 2x2", [(label, lambda a=a: in_a_process("chain", *a)) for label, a in chains])
        chains = [(f"{a} mesh axes", (4, 4, of_mesh(a))) for a in range(1, 6)]
        lines += table(
            "More mesh axes, 4 names", [(label, lambda a=a: in_a_process("chain", *a)) for label, a in chains]
        )
        chains = [(f"{n} layers", (4, n, of_mesh(3))) for n in (4, 8, 16, 32, 64)]
        lines += table(
            "More layers that no loop holds, 4 names on 2x2x2",
            [(x, lambda a=a: in_a_process("chain", *a)) for x, a in chains],
        )
    (HERE / "results" / f"search-{datetime.date.today()}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
