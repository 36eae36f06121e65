"""What plans predict beside what XLA compiles: collectives, peak memory, time; for CPU devices, TPU slices and GPUs.

    pip install -e ".[tpu,gpu]"
    python benchmarks/plan_truth.py [--only gpt2_nano] [--on v5e] [--jobs 2] [--again]

Each model is planned (by hand: for FSDP, for tensor parallelism and for both) and compiled for eight CPU devices and,
ahead of time, for the TPU slices v5e:4x2 and v5p:2x2x2 and for eight H100, as `levanter compile --verify` does. Nothing
runs. Compiled programs are kept in the user's cache by a digest of what they were compiled from (the lowered program
and the versions of the compilers: `levanter.compiler.verify.kept`), so that the same command compiles what changed and
no more, and predicts everything anew; `--again` compiles all anew. The table is written to
benchmarks/results/plan_truth-DATE.md, and what it is made of beside it, as JSON: each cell as soon as it is done, and
at the end all of them in their order.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
from scipy.stats import spearmanr

import passes
from levanter.compiler import compile as of_config
from levanter.compiler import user_step
from levanter.compiler.target import Target
from levanter.compiler.verify import keeping
from levanter.config import load
from levanter.errors import UserError, WorkFailed

HERE = Path(__file__).parent
Cell = dict[str, Any]
Rules = tuple[dict[str, list[str]], dict[str, list[str]]]

SHORT = ["--model.seq_len=1024", "--model.num_layers=4"]
MODELS: dict[str, tuple[str, list[str]]] = {
    "gpt2_nano": ("gpt2_nano", []),
    "llama_nano": ("llama_nano", []),
    "mixtral_nano": ("mixtral_nano", []),
    "gpt2_small, 4 layers": ("gpt2_small", [*SHORT, "--trainer.train_batch_size=64"]),
}
"""Configurations, with what is made smaller: the compiler must see each layout, not each layer."""
STEPS = {
    "8 unrolled layers": "plan_truth_steps.py:unrolled",
    "wide": "plan_truth_steps.py:wide",
    "words": "plan_truth_steps.py:words",
    "vit": "plan_truth_steps.py:vit",
}
PLACES = {
    "cpu 8": ("cpu", "v5e", {"data": 4, "model": 2}),
    "v5e 4x2": ("tpu", "v5e", {"data": 4, "model": 2}),
    "v5p 2x2x2": ("tpu", "v5p", {"data": 2, "sequence": 2, "model": 2}),
    "h100 4x2": ("gpu", "h100", {"data": 4, "model": 2}),
}
PLANS = ("fsdp", "tensor", "both")
CLOCK = {"v5e": 1.5e9, "v5p": 1.75e9}
"""Cycles per second: https://jax-ml.github.io/scaling-book/tpus/."""


def rules(plan: str, mesh: Mapping[str, int]) -> Rules:
    """Sharding rules by hand, also of names that only some models have."""
    *outer, inner = mesh
    if plan == "fsdp":
        return {"batch": list(mesh)}, {"embed": list(mesh)}
    split = {name: [inner] for name in ("mlp", "heads", "kv_heads", "vocab")}
    return {"batch": outer, **split}, {"embed": outer} if plan == "both" else {}


def measure(model: str, plan: str, where: str) -> Cell:
    """One cell: a model under a plan, compiled for a place."""
    kind, hardware, mesh = PLACES[where]
    compute, storage = rules(plan, mesh)
    start = time.perf_counter()
    if model in MODELS:
        name, overrides = MODELS[model]
        config = load(name, overrides)
        report = lambda **how: of_config.report(config, mesh, hardware, **how)  # noqa: E731
    else:
        target = Target(f"{HERE / STEPS[model]}")
        report = lambda **how: user_step.report(target, mesh, hardware, **how)  # noqa: E731
    found = report(by_hand=(compute, storage), verify=True, platform=kind)
    verify = found["verify"]
    time_ = {**found["time"], "serial": found["time"]["compute"] + found["time"]["communication"]}
    cycles = verify.get("cycles", {}).get("compiled_cycles")
    if cycles:
        made = passes.Plan.by_hand(mesh, compute, storage, hardware)
        time_["compiled_serial"] = cycles / CLOCK[hardware] + sent_seconds(verify["collectives"], made)
    return {
        "model": model,
        "plan": plan,
        "place": where,
        "layouts": found["plan"],
        "printed": sum(each["count"] * each["bytes"] for each in found["collectives"]),
        "collectives": verify["collectives"],
        "surprises": verify["surprises"],
        "explained": verify["explained"],
        "memory": found["memory"],
        "peak": verify["peak"],
        "time": time_,
        "cycles": cycles,
        "sources": verify.get("cycles", {}).get("sources", []),
        "uncounted": verify.get("cycles", {}).get("uncounted"),
        "seconds": round(time.perf_counter() - start, 1),
    }


def sent_seconds(collectives: Iterable[Mapping[str, Any]], plan: passes.Plan) -> float:
    """What the compiled collectives take, priced as the planned ones are: the compiler has no estimate for them."""
    network = plan.physical
    return sum(
        size["compiled_count"] * float(network.seconds(row["kind"], plan.mesh.mask(row["mesh_axes"]), size["bytes"]))
        for row in collectives
        for size in row["sizes"]
    )


# --- the table ------------------------------------------------------------------------------------------------------


def bytes_of(cell: Cell, side: str) -> int:
    return sum(row[f"{side}_bytes"] for row in cell["collectives"])


def agrees(cell: Cell) -> bool:
    """Whether each kind over each set of mesh axes has the bytes that are predicted."""
    return all(row["predicted_bytes"] == row["compiled_bytes"] for row in cell["collectives"])


def known_of(cell: Cell) -> list[str]:
    """What is compiled of a cell with other bytes than are predicted, and by which habit."""
    differing = [row for row in cell["collectives"] if row["predicted_bytes"] != row["compiled_bytes"]]
    names = tuple(f"{row['kind']} over {', '.join(row['mesh_axes'])}: " for row in differing)
    found: dict[str, list[str]] = {}
    for each in cell["explained"]:
        if names and each["what"].startswith(names):
            found.setdefault(each["reason"], []).append(each["what"].removesuffix(", in all"))
    return [f"- {cell['model']}, {cell['plan']}: {'; '.join(whats)}: {reason}" for reason, whats in found.items()]


def _told(lines: list[str]) -> list[str]:
    return ["", "What differs by a known habit:", "", *lines] if lines else []


def ratio(cell: Cell) -> float:
    return cell["peak"]["predicted"] / cell["peak"]["compiled"]


def rank(cells: Iterable[Cell], key: Callable[[Cell], float], truth: Callable[[Cell], float]) -> float:
    pairs = [(key(cell), truth(cell)) for cell in cells if cell["cycles"]]
    return float(spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 2 else float("nan")


def row_of(cell: Cell) -> str:
    predicted, compiled = bytes_of(cell, "predicted"), bytes_of(cell, "compiled")
    equal = "equal" if agrees(cell) else "surprises" if cell["surprises"] else "known"
    cycles = f"{cell['cycles'] / 1e6:,.2f} M" if cell["cycles"] else ""
    columns = [
        cell["model"],
        cell["plan"],
        f"{cell['printed'] / 1e6:,.2f}",
        f"{predicted / 1e6:,.2f}",
        f"{compiled / 1e6:,.2f}",
        equal,
        f"{cell['peak']['predicted'] / 1e6:,.1f}",
        f"{cell['peak']['compiled'] / 1e6:,.1f}",
        f"{ratio(cell):.2f}",
        f"{cell['time']['compute'] * 1e3:,.3f}",
        f"{cell['time']['step'] * 1e3:,.3f}",
        cycles,
    ]
    return f"| {' | '.join(columns)} |"


def summary_of(cells: list[Cell]) -> list[str]:
    """What holds of one place, as counts."""
    near = [cell for cell in cells if abs(ratio(cell) - 1) <= 0.1]
    under = [cell for cell in cells if ratio(cell) < 0.9]
    lines = [
        f"- bytes of collectives equal, kind by kind and axis by axis: {sum(map(agrees, cells))} of {len(cells)}; "
        f"different by a known habit: {sum(not agrees(cell) and not cell['surprises'] for cell in cells)}",
        f"- peak within 10 %: {len(near)} of {len(cells)}; under the compiled by more than 10 %: {len(under)}",
    ]
    if any(cell["cycles"] for cell in cells):
        of_operations = rank(cells, lambda cell: cell["time"]["compute"], lambda cell: cell["cycles"])
        of_steps = rank(cells, lambda cell: cell["time"]["step"], lambda cell: cell["cycles"])
        serial = rank(cells, lambda cell: cell["time"]["serial"], lambda cell: cell["time"]["compiled_serial"])
        lines += [
            f"- Spearman correlation of predicted with compiled: {of_operations:.3f} of the operations, in seconds "
            f"and in cycles; {serial:.3f} of operations and collectives one after the other; {of_steps:.3f} of the "
            "predicted step, in which collectives are hidden, with the cycles of operations alone"
        ]
    return lines


HEAD = (
    "| model | plan | MB printed | MB sent | MB compiled | | peak MB, predicted | peak MB, compiled | ratio "
    "| operations, ms | step, ms | cycles |"
)


def table(cells: list[Cell], command: str) -> str:
    """The dated page."""
    versions = f"jax {jax.__version__}, {_libtpu()}, Python {platform.python_version()}"
    lines = [
        f"# Plans and what XLA compiles of them, {datetime.date.today()}",
        "",
        f"`{command}`, {versions}. Nothing ran: all of this is compiled, for TPUs and GPUs ahead of time.",
        "",
        "MB printed are the bytes of all collectives of a step that the plan prints, MB sent those that the place is",
        "predicted to send for them (on a TPU in bfloat16 what only products read, and an all-reduce in place of a",
        "gather or scatter that it does not make; elsewhere as printed), MB compiled those of the compiled program;",
        "*equal* where each kind over each set of mesh axes has the predicted bytes, *known* where other habits of the",
        "compiler account for the difference (docs/compile.md) and are told below, *surprises* where they do",
        "not.",
        "",
        "Peaks are of one device. Times are the plan's; cycles are the compiler's estimate for its operations,",
        "collectives apart, on one device; for the sum with collectives they are divided by the clock (1.5 and",
        "1.75 GHz), and the compiled collectives are priced as the planned ones are. Of the plans *fsdp* has the batch",
        "and the stored `embed` over all mesh axes; *tensor* has the batch over all but the last, and `mlp`, heads and",
        "`vocab` over the last; *both* is *tensor* with `embed` stored over the others.",
    ]
    for where in PLACES:
        of_place = [cell for cell in cells if cell["place"] == where]
        if of_place:
            rows = [row_of(cell) for cell in of_place]
            lines += [
                "",
                f"## {where}",
                "",
                *summary_of(of_place),
                "",
                HEAD,
                "|---|---|" + "---:|" * 3 + "---|" + "---:|" * 6,
                *rows,
                *_told([line for cell in of_place for line in known_of(cell)]),
            ]
    return "\n".join(lines) + "\n"


def _libtpu() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"libtpu {version('libtpu')}"
    except PackageNotFoundError:
        return "no libtpu"


# --- the command ----------------------------------------------------------------------------------------------------


Key = tuple[str, str, str]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "levanter", "compiled")


def main() -> int:
    """Measures each cell, writes the table; 1 where a cell could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="models")
    parser.add_argument("--on", nargs="*", help="places, or what they begin with")
    parser.add_argument("--plans", nargs="*", default=PLANS)
    parser.add_argument("--jobs", type=int, default=1, help="how many cells are measured at once")
    parser.add_argument("--again", action="store_true", help="compile anew what is kept")
    parser.add_argument("--kept", type=Path, default=CACHE, help="where compiled programs are kept")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"plan_truth-{datetime.date.today()}")
    options = parser.parse_args()
    keys = [
        (model, plan, where)
        for where in PLACES
        for model in (*MODELS, *STEPS)
        for plan in options.plans
        if not options.only or model in options.only
        if not options.on or any(where.startswith(on) for on in options.on)
    ]
    cells: dict[Key, Cell] = {}
    record = options.out.with_suffix(".jsonl")
    record.write_text("")
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(_kept, key, options.kept, options.again) for key in keys]
        for done in as_completed(running):
            key, cell = done.result()
            if isinstance(cell, str):
                print(f"{', '.join(key)}: {cell}", file=sys.stderr, flush=True)
            else:
                cells[key] = cell
                with record.open("a") as lines:  # a run that is stopped keeps what it has
                    lines.write(_line(cell))
                print(f"{key[2]:10s} {row_of(cell)} {cell['seconds']} s", flush=True)
    ordered = [cells[key] for key in keys if key in cells]
    record.write_text("".join(map(_line, ordered)))
    options.out.with_suffix(".md").write_text(
        table(ordered, " ".join(["python benchmarks/plan_truth.py", *sys.argv[1:]]))
    )
    print("\n".join(line for where in PLACES for line in _place_summary(where, ordered)))
    return 0 if len(ordered) == len(keys) else 1


def _kept(key: Key, folder: Path, again: bool) -> tuple[Key, Cell | str]:
    """A cell, its program kept; or why it could not be measured."""
    try:
        with keeping(folder, again=again):
            return key, measure(*key)
    except (UserError, WorkFailed) as error:
        return key, str(error)


def _line(cell: Cell) -> str:
    """What is the same whenever it is measured, as a line of JSON."""
    return json.dumps({name: value for name, value in cell.items() if name != "seconds"}) + "\n"


def _place_summary(where: str, cells: list[Cell]) -> list[str]:
    of_place = [cell for cell in cells if cell["place"] == where]
    return [where, *summary_of(of_place)] if of_place else []


if __name__ == "__main__":
    sys.exit(main())
