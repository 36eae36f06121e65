"""The price of the same bits on any number of devices: `trainer.deterministic: elastic` beside `fast`.

    python benchmarks/elastic.py [--model gpt2_nano] [--devices 1,8] [--rounds 12] [--NAME.FIELD VALUE …]

For each number of devices both steps are compiled for a mesh of that many along `data`, in one process, and take turns
on the same tokens. Prints the median ratio of a step and writes it to benchmarks/results/elastic-DATE.json. The batch
is 32 sequences of 128 tokens unless options say otherwise.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax
import numpy as np

from haliax import NamedArray
from levanter.compiler.compile import compile_training
from levanter.config import load
from levanter.runtime import huge_pages
from levanter.runtime.state import LmBatch, batch_axes, batch_shape, init_state, state_shape

RESULTS = Path(__file__).parent / "results"
DEFAULTS = ["--trainer.train_batch_size", "32", "--model.seq_len", "128"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gpt2_nano")
    parser.add_argument("--devices", default="1,8")
    parser.add_argument("--rounds", type=int, default=12)
    options, overrides = parser.parse_known_args()
    huge_pages.restart_with_them()
    found: list[dict[str, Any]] = []
    for devices in map(int, options.devices.split(",")):
        steps = {kind: prepared(options.model, kind, devices, overrides) for kind in ("fast", "elastic")}
        times: dict[str, list[float]] = {kind: [] for kind in steps}
        for _ in range(options.rounds):
            for kind, step in steps.items():
                began = time.perf_counter()
                step()
                times[kind].append(time.perf_counter() - began)
        ratio = statistics.median(e / f for f, e in zip(times["fast"], times["elastic"], strict=True))
        seconds = {kind: round(statistics.median(each), 4) for kind, each in times.items()}
        found.append({"devices": devices, "ratio": round(ratio, 3), "seconds": seconds})
        shown = f"{seconds['elastic']} s, {seconds['fast']} s"
        print(f"{devices} devices: elastic / fast {ratio:.2f} ({shown})", flush=True)
    write(options, overrides, found)


def prepared(model: str, kind: str, devices: int, overrides: list[str]) -> Any:
    """One compiled step as a function that makes it and waits for it."""
    where = ["--trainer.deterministic", kind, "--trainer.mesh", f"data={devices}"]
    config = load(model, [*DEFAULTS, *overrides, *where])
    compiled = compile_training(config)
    axes = batch_axes(config)
    size, length = config.trainer.train_batch_size, axes[-1].size
    ids = np.random.default_rng(0).integers(0, config.model.vocab_size, (size, length + 1)).astype(np.int32)
    shape = [axis.size for axis in axes]
    batch = LmBatch(*(NamedArray(each.reshape(shape), axes) for each in (ids[:, :-1], ids[:, 1:])))
    batch = jax.device_put(batch, compiled.batch_shardings)
    step: Any = compiled.train_step
    run = step.lower(state_shape(config), batch_shape(config)).compile()
    state = [init_state(config, compiled.state_shardings)]

    def once() -> None:
        state[0], _ = jax.block_until_ready(run(state[0], batch))

    once()
    return once


def write(options: argparse.Namespace, overrides: list[str], found: list[dict[str, Any]]) -> None:
    today = datetime.date.today().isoformat()
    answer = {
        "date": today,
        "command": " ".join(["python", "benchmarks/elastic.py", *sys.argv[1:]]),
        "model": options.model,
        "batch": "32 x 128 tokens unless overridden",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),  # from what else the machine does, too, seconds are longer; ratios hold
        "machine": platform.machine(),
        "jax": jax.__version__,
        "backend": jax.default_backend(),
        "results": found,
    }
    (RESULTS / f"elastic-{today}.json").write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
