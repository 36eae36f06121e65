"""What a short run costs beside its arithmetic: CPU seconds of whole processes of `levanter train`.

    python benchmarks/start.py [--runs 5] [--steps 300] [--against SOURCE_TREE] [--NAME.FIELD VALUE …]

Each run is a new one, of a model so small that its arithmetic is the lesser part, with everything that a run has:
evaluations, checkpoints, a sample. It is started once before, so its programs are in the compile cache and its text is
tokenized. Beside it the same with the cache off (`trainer.compile_cache`); or, with `--against`, with the sources of
another tree. They take turns, so that what else the machine does meets both alike.

Python keeps the bytecode of what it imports; where it is told not to (PYTHONDONTWRITEBYTECODE) and an installer left
none, each start compiles all sources again, which the result says.

Prints a table of user + system seconds and writes it to benchmarks/results/start-DATE.json.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import jax

HERE = Path(__file__).parents[1]
RESULTS = HERE / "benchmarks" / "results"
TINY = (
    *("--model.num_layers", "2", "--model.hidden_dim", "16", "--model.num_heads", "2", "--model.seq_len", "16"),
    *("--trainer.train_batch_size", "2"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--against", type=Path, help="another tree of sources")
    options, overrides = parser.parse_known_args()
    wanted = [*TINY, *overrides, "--trainer.num_train_steps", str(options.steps)]
    kinds = {"warm": (HERE, wanted)}
    if options.against:
        kinds["warm, the other tree"] = (options.against.resolve(), wanted)
    else:
        kinds["no cache"] = (HERE, [*wanted, "--trainer.compile_cache", "false"])
    with tempfile.TemporaryDirectory() as folder:
        for tree, arguments in kinds.values():
            seconds(Path(folder), tree, arguments)  # which fills the caches
        found: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(options.runs):
            for name, (tree, arguments) in kinds.items():
                found[name].append(seconds(Path(folder), tree, arguments))
                print(f"{name:22} {found[name][-1]:.2f} s", file=sys.stderr)
    for name, each in found.items():
        print(f"{name:22} mean {statistics.mean(each):.2f} s, least {min(each):.2f} s  {[round(s, 2) for s in each]}")
    record = {
        "date": str(datetime.date.today()),
        "command": " ".join(["levanter train", *wanted]),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "bytecode": {name: has_bytecode(name) for name in ("jax", "levanter")},
        "cpu_seconds": found,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"start-{record['date']}.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def seconds(folder: Path, tree: Path, arguments: list[str]) -> float:
    """User and system seconds of a new run of the sources in `tree`."""
    with tempfile.TemporaryDirectory(dir=folder) as run:
        command = [sys.executable, "-m", "levanter.cli.main", "train", "--run-dir", f"{run}/run", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(tree), "XDG_CACHE_HOME": str(folder), "JAX_PLATFORMS": "cpu"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment, cwd=run, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def has_bytecode(package: str) -> bool:
    """Whether the bytecode of an importable package lies beside its sources."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(importlib.util.cache_from_source(spec.origin)).exists()


if __name__ == "__main__":
    main()
