"""MFU that MaxText publishes of its own runs, beside what our model of the machine says of the same steps.

    python benchmarks/published_mfu.py [--chips v5p v5e]

The figures are those of `MaxText/configs/{v5p,v5e}/README.md`, the runs those of the scripts beside them, in the wheel
of MaxText 0.1.0 on PyPI: batch, `global_parameter_scale`, mesh, what is computed again, 2,048 positions, and of
`base.yml` the sizes that the scale multiplies. Each row is built as a step of ours (a LLaMA of these sizes, AdamW, bf16
products, float32 state), sharded by MaxText's default logical rules, and priced; nothing is searched, nothing runs. The
table is written to benchmarks/results/published_mfu-DATE.md.

`v5p-128` counts cores, so it is 64 chips; `v5e-256` is 256 chips. `2x` is two slices, over which the batch is split and
the state replicated. What MaxText calls `minimal` keeps what products of activations and parameters make, so that
attention and the elementwise operations are computed again; `full` keeps the input of each layer.

Left out: 128B on v5e (`qkv_proj_offloaded` keeps values in the memory of the host, which no plan of ours does), and the
two models of v4, whose scripts of today do not make models of the sizes that their names say (25 and 30 billion
parameters with `base.yml`).
"""

from __future__ import annotations

import argparse
import datetime
import os
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

os.environ |= {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

from scipy.stats import spearmanr

import ir
from ir.graph import Graph
from levanter.config import load
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes import Plan, PlanWarning, summary
from passes.as_planned import as_planned
from passes.pipeline import prepare
from passes.placing import placed
from passes.planner.subject import subject_of

HERE = Path(__file__).parent
POSITIONS, VOCAB, HEAD = 2048, 32000, 128
EMBED, HEADS, MLP, LAYERS = 2048, 16, 7168, 16
"""Of `base.yml`, what a scale of 1 is."""
MINIMAL = ("embed", "head_size", "mlp")
"""The axes of which products of activations and parameters have one: `minimal`."""


@dataclass(frozen=True)
class Run:
    """One run of MaxText.

    Attributes:
        chip, billions: what of, and `global_parameter_scale`.
        slices, chips: slices, and chips of each.
        tensor: `ici_tensor_parallelism`; the other chips of a slice are `fsdp`.
        sequences: `per_device_batch_size`.
        remat: `remat_policy`.
        mfu: the published one.
    """

    chip: str
    billions: int
    slices: int
    chips: int
    tensor: int
    sequences: int
    remat: str
    mfu: float

    @property
    def name(self) -> str:
        cores = self.chips * (2 if self.chip == "v5p" else 1)
        return f"{self.billions}B, {self.slices}x {self.chip}-{cores}"

    @property
    def mesh(self) -> dict[str, int]:
        every = {"replica": self.slices, "data": self.chips // self.tensor, "model": self.tensor}
        return {axis: size for axis, size in every.items() if size > 1}


V5P = [
    (32, 64, 4, 6, "minimal", (71.47, 69.43)),
    (64, 64, 4, 3, "minimal", (70.31, 67.26)),
    (128, 128, 8, 1, "minimal", (68.68, 66.34)),
    (128, 256, 8, 1, "minimal", (68.83, 59.66)),
    (256, 512, 8, 1, "minimal", (67.09, 62.99)),
    (512, 512, 8, 2, "full", (63.99, 61.45)),
    (1024, 1024, 16, 2, "full", (55.35, 51.55)),
    (1024, 2048, 16, 2, "full", (64.80, 60.83)),
]
V5E = [
    (16, 256, 1, 6, "full", (61.10, 59.37, 59.14, 58.27, 56.56, 54.65)),
    (32, 256, 1, 4, "full", (66.86, 64.81, 64.10, 63.67, 62.26, 60.40)),
    (64, 256, 1, 2, "full", (59.90, 56.66, 55.85, 54.96, 53.29, 50.18)),
]
RUNS = [
    Run(chip, billions, 2**i, *how, published)
    for chip, rows in (("v5p", V5P), ("v5e", V5E))
    for billions, *how, each in rows
    for i, published in enumerate(each)
]


def sizes(billions: int) -> dict[str, int]:
    """The model of a `global_parameter_scale`: doubled in turn are heads and MLP, the width, and the layers."""
    rounds, rest = divmod(billions.bit_length() - 1, 3)
    wide, high = 2 ** (rounds + (rest > 0)), 2 ** (rounds + (rest > 1))
    return {
        "hidden_dim": EMBED * high,
        "num_heads": HEADS * wide,
        "num_kv_heads": HEADS * wide,
        "intermediate_dim": MLP * wide,
        "num_layers": LAYERS * 2**rounds,
        "head_dim": HEAD,
        "vocab_size": VOCAB,
        "seq_len": POSITIONS,
    }


@cache
def traced(billions: int, batch: int) -> Graph:
    """The canonical graph of a step, without what computes anything again."""
    given = [f"--model.{key}={size}" for key, size in sizes(billions).items()]
    given += ["--model.gradient_checkpointing=false", f"--trainer.train_batch_size={batch}"]
    config = load(HERE.parent / "config" / "llama2_7b.yaml", given, options=[])
    return prepare(ir.trace(train_step_of(config), state_shape(config), batch_shape(config)))


def plan_of(run: Run) -> Plan:
    """MaxText's default logical rules."""
    outer = [axis for axis in run.mesh if axis != "model"]
    tensor = {} if run.tensor == 1 else dict.fromkeys(("mlp", "kv_heads", "vocab", "embed"), "model")
    remat = MINIMAL if run.remat == "minimal" else "full"
    return Plan.by_hand(run.mesh, {"batch": outer, **tensor}, {"embed": "data"}, run.chip, remat=remat)


@dataclass(frozen=True)
class Priced:
    """What our model says of a run: seconds of a step and of what of it are operations, the MFU in percent, the peak as
    a share of the memory, and how many parameters the model has."""

    step: float
    compute: float
    mfu: float
    memory: float
    parameters: int


def priced(run: Run) -> Priced:
    graph = traced(run.billions, run.sequences * run.chips * run.slices)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlanWarning)
        plan = plan_of(run)
        step = as_planned(graph, plan)
        done = placed(step, plan)
    times, needs = summary.times(step, done, plan), summary.memory(step, plan, done)
    mfu = 100 * summary.rate(subject_of(graph), plan, times.step).mfu
    return Priced(times.step, times.compute, mfu, needs["peak"] / needs["capacity"], parameters(graph))


def parameters(graph: Graph) -> int:
    """Of a step of AdamW, whose state is the parameters and two means of each."""
    state = [graph.inputs[before].type for before, _ in graph.carried]
    return sum(type_.elements for type_ in state if type_.dtype == "float32") // 3


def error(run: Run, found: Priced) -> float:
    """By how much our MFU is above the published one, as a share of that."""
    return found.mfu / run.mfu - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(HERE / "results" / f"published_mfu-{datetime.date.today()}.md"))
    out = Path(parser.parse_args().out)
    every: list[tuple[Run, Priced]] = []
    lines = [
        "| run | mesh | parameters | sequences a chip | remat | published | ours | error | computing | peak memory |",
        "|---|---|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for run in RUNS:
        found = priced(run)
        every.append((run, found))
        mesh = ", ".join(f"{axis} {size}" for axis, size in run.mesh.items())
        lines.append(
            f"| {run.name} | {mesh} | {found.parameters / 1e9:.1f}B | {run.sequences} | {run.remat} | {run.mfu:.1f} | "
            f"{found.mfu:.1f} | {error(run, found):+.1%} | {found.compute / found.step:.0%} | {found.memory:.0%} |"
        )
        print(lines[-1], flush=True)
    title = f"# MFU that MaxText publishes, and ours, {datetime.date.today()}"
    out.write_text("\n".join([title, "", f"`python benchmarks/published_mfu.py`: {told(every)}", "", *lines]) + "\n")


def told(every: list[tuple[Run, Priced]]) -> str:
    """How far off the rows are."""
    parts = [f"{len(every)} rows, MFU in percent."]
    for what, chips in (("All", ("v5p", "v5e")), ("v5p", ("v5p",)), ("v5e", ("v5e",))):
        rows = [(run, found) for run, found in every if run.chip in chips]
        one = [error(run, found) for run, found in rows if run.slices == 1]
        order = spearmanr([run.mfu for run, _ in rows], [found.mfu for _, found in rows]).statistic
        every_row = spread([error(*row) for row in rows])
        parts.append(f"{what}: error {every_row}; of one slice {spread(one)}; rank correlation {order:.2f}.")
    return " ".join(parts)


def spread(errors: list[float]) -> str:
    return f"{sum(errors) / len(errors):+.1%} on average, from {min(errors):+.1%} to {max(errors):+.1%}"


if __name__ == "__main__":
    main()
