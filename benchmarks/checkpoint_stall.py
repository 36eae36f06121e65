"""How long training waits for its checkpoints: the training step of a model, saved every ten seconds.

    python benchmarks/checkpoint_stall.py [--model gpt2_nano] [--seconds 60] [--every 10] [--NAME.FIELD VALUE …]

The steps are those of `levanter train`; a save is what its loop does: the state is copied, and a thread writes the copy
while the next steps run. The stall is the time in `Checkpointer.save`. The steps are timed too, with the writer beside
them and without, because on a CPU both want the same cores.

Prints the medians and writes them to benchmarks/results/checkpoint_stall-DATE.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from haliax import NamedArray
from levanter.checkpoint import CheckpointConfig, Checkpointer, read_manifest
from levanter.compiler.compile import compile_training
from levanter.config import load
from levanter.runtime import huge_pages
from levanter.runtime.state import LmBatch, batch_axes, flat_names, init_state

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gpt2_nano")
    parser.add_argument("--seconds", type=float, default=60.0, help="of training")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two checkpoints")
    options, overrides = parser.parse_known_args()
    huge_pages.restart_with_them()

    config = load(options.model, overrides)
    compiled = compile_training(config)
    state = init_state(config, compiled.state_shardings)
    axes = batch_axes(config)
    tokens = np.random.default_rng(0).integers(0, config.model.vocab_size, [axis.size for axis in axes], np.int32)
    batch = jax.device_put(LmBatch(NamedArray(tokens, axes), NamedArray(tokens, axes)), compiled.batch_shardings)
    state, metrics = compiled.train_step(state, batch)
    jax.block_until_ready(metrics)

    stalls: list[float] = []
    steps: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        with Checkpointer(folder, CheckpointConfig(), resumed_step=None) as saver:
            saver.prepare(flat_names(state))
            step, began = 1, time.perf_counter()
            next_save = began + options.every
            while (start := time.perf_counter()) < began + options.seconds:
                state, metrics = compiled.train_step(state, batch)
                jax.block_until_ready(metrics)
                steps[saver.writing].append(time.perf_counter() - start)
                step += 1
                # As `Checkpointer.due_by_time`: what is still being written is not waited for.
                if time.perf_counter() >= next_save and not saver.writing:
                    start = time.perf_counter()
                    saver.save(step, flat_names(state), {})
                    stalls.append(time.perf_counter() - start)
                    next_save += options.every
            took = time.perf_counter() - began
            newest = saver.wait()
        assert newest is not None
        size = read_manifest(newest).nbytes

    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "model": options.model,
        "checkpoint_megabytes": round(size / 1e6, 1),
        "seconds": round(took, 1),
        "checkpoints": len(stalls),
        "stall_ms": [round(1e3 * each, 1) for each in stalls],
        "stall_share_percent": round(100 * sum(stalls) / took, 3),
        "step_ms_writing": round(1e3 * statistics.median(steps[True] or [0.0]), 1),
        "step_ms_not_writing": round(1e3 * statistics.median(steps[False]), 1),
        "steps_writing": len(steps[True]),
        "steps": step - 1,
    }
    print(json.dumps(result, indent=1))
    target = RESULTS / f"checkpoint_stall-{datetime.date.today()}.json"
    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
