"""The planner's plans beside those that people write, timed on eight CPU devices of this machine.

    python benchmarks/plan_timed.py [--models gpt2_nano …] [--meshes 4x2 …] [--rounds 20]

First the machine is measured as a chip of eight devices that share its cores: products, memory traffic, the start of an
operation, the launch of a collective and what it sends a second, each as all devices do it at the same time. It is
written to benchmarks/results/plan_timed-DATE.yaml, a chip file as docs/planner.md has them, and used again where it is
there already. Nothing is hidden behind anything, since all devices share the cores.

Then ours and each plan of `plan_quality.py` are compiled and take steps in turn, so that what else the machine does is
the same for all; of each the fastest step and the median count. *Ours again* is the same plan, compiled a second time:
how far it is from ours is the noise. Plans of the same rules are compiled once, and those that are predicted to take
more than `--within` times as long as ours are left out.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from plan_measured import candidates, subject

from levanter.compiler.compile import planned_graph
from passes import Plan
from passes.lower import input_shardings, lower_placed
from passes.pipeline import prepare
from passes.sharding.jax_mesh import device_mesh
from passes.sharding.mesh import DeviceMesh

HERE = Path(__file__).parent
DEVICES = 8
MODELS = ("gpt2_nano", "llama_nano", "mixtral_nano")
MESHES = ("8", "4x2", "2x4")
SIDE, LARGE, CHAIN = 512, 1 << 22, 64
Step = Callable[[], float]


# --- the machine as a chip ------------------------------------------------------------------------------------------


def least_seconds(function: Callable[..., Any], *arguments: jax.Array, times: int = 12) -> float:
    """Of one call, all devices at the same time."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))
    found: list[float] = []
    for _ in range(times):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        found.append(time.perf_counter() - start)
    return min(found)


def chip_file() -> str:
    """This machine as a chip: a row of a chip file."""
    mesh = Mesh(np.array(jax.devices()[:DEVICES]), ("device",))
    spec = PartitionSpec("device")

    def on_each(function: Callable[[jax.Array], jax.Array], elements: int, dtype: Any = jnp.float32) -> float:
        given = jax.device_put(jnp.ones((DEVICES * elements,), dtype), NamedSharding(mesh, spec))
        return least_seconds(jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec), given)

    def product(x: jax.Array) -> jax.Array:
        square = x.reshape(SIDE, SIDE)
        return (square @ square).reshape(-1)

    def chain(x: jax.Array) -> jax.Array:
        for _ in range(CHAIN):
            x = (x.reshape(4, 4) @ x.reshape(4, 4)).reshape(-1)
        return x

    def sums(x: jax.Array) -> jax.Array:
        for _ in range(CHAIN):
            x = jax.lax.psum(x, "device") * 0.125
        return jax.lax.pcast(x, "device", to="varying")

    def gathered(x: jax.Array) -> jax.Array:
        return jax.lax.all_gather(x, "device", tiled=True)

    empty = on_each(lambda x: x, 16)
    products = {dtype: on_each(product, SIDE * SIDE, dtype) - empty for dtype in (jnp.float32, jnp.bfloat16)}
    flops = {dtype: 2 * SIDE**3 / seconds for dtype, seconds in products.items()}
    copied = on_each(lambda x: x + 1.0, LARGE) - empty
    start = (on_each(chain, 16) - empty) / CHAIN
    launch = (on_each(sums, 16) - empty) / CHAIN / 2  # an all-reduce is priced as two
    sent = on_each(gathered, LARGE // DEVICES) - empty - launch
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / DEVICES
    numbers = {
        "bf16_tflops": flops[jnp.bfloat16] / 1e12,
        "f32_tflops": flops[jnp.float32] / 1e12,
        "memory_gb": memory / 1e9,
        "hbm_gb_per_s": 2 * 4 * LARGE / copied / 1e9,
        "link_gb_per_s": (DEVICES - 1) / DEVICES * 4 * LARGE / sent / 1e9,
        "host_chips": DEVICES,
        "host_gb_per_s": 1,
        "launch_us": launch * 1e6,
        "kernel_us": start * 1e6,
        "overlap_state": 0,
        "overlap_activations": 0,
    }
    rows = [f"  {key}: {value:.4g}" for key, value in numbers.items()]
    source = f"  source: benchmarks/plan_timed.py on {os.cpu_count()} cores, {datetime.date.today()}"
    return "\n".join(["cpu_devices:", source, "  network: switched", *rows]) + "\n"


# --- steps ----------------------------------------------------------------------------------------------------------


def stepper(model: str, plan: Plan) -> Step:
    """A function that takes a step of a model under a plan, and says how many seconds it took."""
    result = planned_graph(subject(model)[0], plan.mesh.as_dict(), plan.hardware, plan=plan)
    placed, mesh = result.placed, device_mesh(plan)
    rng = np.random.default_rng(0)

    def made(shape: tuple[int, ...], dtype: str) -> Any:
        if np.issubdtype(jnp.dtype(dtype), np.integer):
            return np.zeros(shape, dtype)
        return rng.uniform(0, 0.02, shape).astype(jnp.dtype(dtype))

    leaves = [made(tuple(value.type.shape), value.type.dtype) for value in placed.inputs]
    shardings = jax.tree.leaves(input_shardings(placed, mesh))
    held = [jax.device_put(leaf, sharding) for leaf, sharding in zip(leaves, shardings, strict=True)]
    function = lower_placed(placed, plan, donate=True)

    def step() -> float:
        arguments = jax.tree.unflatten(placed.trees.arguments, held)
        start = time.perf_counter()
        outputs = jax.block_until_ready(jax.tree.leaves(function(*arguments)))
        seconds = time.perf_counter() - start
        for before, after in placed.carried:
            held[before] = outputs[after]
        return seconds

    step()
    return step


def cell(model: str, mesh: str, hardware: str, rounds: int, within: float) -> str:
    """A line of the table: ours beside the others."""
    graph = prepare(subject(model)[0])
    plans = candidates(graph, DeviceMesh.of(mesh), hardware, within)
    same: dict[str, str] = {}
    steps: dict[str, Step] = {}
    for who, plan in plans.items():
        key = str([plan.rules.compute, plan.rules.extra, plan.order, plan.regather, plan.attention])
        if same.setdefault(key, who) == who:
            steps[who] = stepper(model, plan)
    steps["ours again"] = stepper(model, plans["ours"])
    seconds: dict[str, list[float]] = {who: [] for who in steps}
    for turn in range(rounds):
        order = list(steps)[turn % len(steps) :] + list(steps)[: turn % len(steps)]
        for who in order:
            seconds[who].append(steps[who]())
    columns = [model, mesh, str(len(steps) - 2)]
    for of in (min, statistics.median):
        found = {who: of(each) for who, each in seconds.items()}
        others = {who: each for who, each in found.items() if who not in ("ours", "ours again")}
        best, ours = min(others, key=lambda who: others[who]), found["ours"]
        columns.append(f"{1e3 * ours:,.1f} ({best}, {ours / others[best] - 1:+.1%})")
        columns.append(f"{found['ours again'] / ours - 1:+.1%}")
    ours = statistics.median(seconds["ours"])
    rest = sorted((statistics.median(each) / ours, who) for who, each in seconds.items() if not who.startswith("ours"))
    return "| " + " | ".join([*columns, ", ".join(f"{who} {share:.2f}" for share, who in rest)]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--meshes", nargs="+", default=MESHES)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--within", type=float, default=1.2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"plan_timed-{datetime.date.today()}")
    options = parser.parse_args()
    chip: Path = options.out.with_suffix(".yaml")
    if not chip.exists():
        chip.write_text(chip_file())
    heads = ["model", "mesh", "others", "fastest step, ms", "again", "median step, ms", "again", "medians, ours = 1"]
    lines = [
        f"# Plans beside experts', timed, {datetime.date.today()}",
        "",
        f"`{' '.join(['python benchmarks/plan_timed.py', *sys.argv[1:]])}`: {DEVICES} CPU devices on {os.cpu_count()} "
        f"cores, {options.rounds} steps of each plan in turn; the chip is the .yaml beside this.",
        "Ours, and in brackets the best of the others and how much longer ours takes; *again* is how much longer the",
        "same plan took, compiled a second time: the noise.",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|---|---:|---|---|---|---|---|",
    ]
    for model in options.models:
        for mesh in options.meshes:
            lines.append(cell(model, mesh, f"{chip}:cpu_devices", options.rounds, options.within))
            print(lines[-1], flush=True)
            options.out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
