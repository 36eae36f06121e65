"""What going through the IR costs on one device: `passes.lower(ir.trace(step))` beside `jax.jit(step)`.

    python benchmarks/lowered.py [--model gpt2_nano] [--rounds 30] [--NAME.FIELD VALUE …]

Both programs take turns in one process on the same state and batch; the results must be the same bits. Prints the
median ratio of a step, and that of staging to tracing with JAX alone, and writes them to
benchmarks/results/lowered-DATE.json.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

import ir
import passes
from levanter.config import load
from levanter.runtime.state import batch_shape, init_state, state_shape, train_step_of

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gpt2_nano")
    parser.add_argument("--rounds", type=int, default=30)
    options, overrides = parser.parse_known_args()
    config = load(options.model, overrides)
    step, shapes = train_step_of(config), (state_shape(config), batch_shape(config))

    # The first of each fills JAX's caches of library functions; a new step function each time leaves its own cold.
    traced = min(seconds_of(lambda: jax.make_jaxpr(train_step_of(config))(*shapes)) for _ in range(3))
    staged = min(seconds_of(lambda: ir.trace(train_step_of(config), *shapes)) for _ in range(3))
    graph = ir.trace(step, *shapes)
    lowered = passes.lower(graph, passes.Plan.by_hand({"data": 1}, {}))
    plain = jax.jit(step)
    programs = {"lowered": lowered.lower(*shapes), "plain": plain.lower(*shapes)}
    compiled: dict[str, Any] = {name: program.compile() for name, program in programs.items()}

    state = init_state(config)
    batch = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), batch_shape(config))
    results = {name: jax.block_until_ready(program(state, batch)) for name, program in compiled.items()}
    same = all(
        np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
        for a, b in zip(*(jax.tree.leaves(result) for result in results.values()), strict=True)
    )
    times: dict[str, list[float]] = {name: [] for name in compiled}
    for number in range(options.rounds):
        for name in sorted(compiled, reverse=bool(number % 2)):
            times[name].append(seconds_of(lambda name=name: jax.block_until_ready(compiled[name](state, batch))))
    answer = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "jax": jax.__version__,
        "same_bits": same,
        "step_ratio": statistics.median(a / b for a, b in zip(times["lowered"], times["plain"], strict=True)),
        "staging_ratio": staged / traced,
    }
    print(json.dumps(answer, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"lowered-{datetime.date.today().isoformat()}.json").write_text(json.dumps(answer, indent=1) + "\n")
    if not same:
        sys.exit("the lowered step and jax.jit(step) differ")


def seconds_of(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
