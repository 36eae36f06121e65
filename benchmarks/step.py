"""The step of `levanter train` beside a plain hand-written JAX GPT-2 of the same size, and what the loop adds to it.

    python benchmarks/step.py [--model gpt2_nano] [--rounds 40] [--loop-steps 60] [--out FILE] [--NAME.FIELD VALUE …]

Both steps start from the same weights, read the same batches, and use the same optimizer; both are jitted and donate
their state. They take turns in one process, so that whatever else the machine does hits both. The loop is the
trainer's own, with data, metrics and a checkpoint at its end, beside the bare step over batches that lie ready.

Prints the medians and writes them to benchmarks/results/step-DATE.json, or to `--out`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import plain_gpt2
from rich.console import Console

from haliax import named
from levanter import data as text
from levanter.checkpoint import Checkpointer
from levanter.compiler.compile import Compiled, compile_training
from levanter.config import TrainConfig, load
from levanter.optim.schedule import learning_rate
from levanter.runtime import huge_pages
from levanter.runtime.instruments import Instruments
from levanter.runtime.loop import Loop
from levanter.runtime.run_directory import open_run
from levanter.runtime.state import LmBatch, TrainState, batch_axes, flat_names, init_state
from levanter.runtime.stop import StopSignal
from levanter.trackers.config import TrackedRun
from levanter.trackers.trackers import open_trackers

RESULTS = Path(__file__).parent / "results"


class Seconds(NamedTuple):
    """What a call took: by the clock, and of all cores together, which another process on the machine disturbs less."""

    wall: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gpt2_nano")
    parser.add_argument("--rounds", type=int, default=40, help="steps of each of the two")
    parser.add_argument("--loop-steps", type=int, default=60, help="steps of one run of the loop")
    parser.add_argument("--loop-rounds", type=int, default=3, help="runs of the loop; 0 leaves it out")
    parser.add_argument("--out", type=Path, help="the file of results; left out: benchmarks/results/step-DATE.json")
    options, overrides = parser.parse_known_args()
    huge_pages.restart_with_them()

    config = load(options.model, overrides)
    tokens = text.build(
        config.data,
        seq_len=config.model.seq_len,
        seed=config.trainer.seed,
        batch_size=config.trainer.train_batch_size,
    )
    compiled = compile_training(config)
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}",
        "load_average": os.getloadavg()[0],
        "jax": jax.__version__,
        "model": {"name": options.model, **dataclasses.asdict(config.model)},
        "batch_size": config.trainer.train_batch_size,
        "step": compare_steps(config, compiled, tokens, options.rounds),
    }
    if options.loop_rounds:
        result["loop"] = loop_overhead(config, compiled, tokens, options.loop_steps, options.loop_rounds)
    print(json.dumps(result, indent=1))
    path = options.out or RESULTS / f"step-{datetime.date.today().isoformat()}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


def compare_steps(config: TrainConfig, compiled: Compiled, tokens: text.TokenData, rounds: int) -> dict[str, Any]:
    """Seconds of both steps, taking turns."""
    state = init_state(config, compiled.state_shardings)
    settings: Any = config.optimizer
    optimizer = plain_gpt2.make_optimizer(
        learning_rate(settings, config.trainer.num_train_steps),
        settings.weight_decay,
        settings.beta1,
        settings.beta2,
        settings.epsilon,
        settings.max_grad_norm,
    )
    parameters = jax.tree.map(jax.numpy.copy, plain_gpt2.from_arrays(flat_names(state.model)))
    plain_state = (parameters, jax.jit(optimizer.init)(parameters))
    plain_step = plain_gpt2.make_step(
        optimizer, getattr(config.model, "gradient_checkpointing", False), config.model.vocab_size
    )
    ours: list[Seconds] = []
    plain: list[Seconds] = []
    losses: list[float] = []

    def step_ours(batch: LmBatch) -> float:
        nonlocal state
        state, metrics = compiled.train_step(state, batch)
        jax.block_until_ready(state)
        return float(metrics["loss"])

    def step_plain(batch: LmBatch) -> float:
        nonlocal plain_state
        plain_state, loss, _ = plain_step(plain_state, batch.tokens.array, batch.targets.array)
        jax.block_until_ready(plain_state)
        return float(loss)

    for number in range(rounds + 2):
        batch = placed(config, compiled, tokens, number)
        pair = [(ours, step_ours), (plain, step_plain)]
        found = {}
        for seconds, step in pair if number % 2 else reversed(pair):
            found[step.__name__] = timed(lambda step=step, batch=batch: step(batch), seconds)
        losses.append(abs(found["step_ours"] - found["step_plain"]))
    # The first two of each compile and warm up.
    return {
        "rounds": rounds,
        **compared("levanter", ours[2:], "plain", plain[2:]),
        "largest_loss_difference": max(losses),
    }


def loop_overhead(
    config: TrainConfig, compiled: Compiled, tokens: text.TokenData, steps: int, rounds: int
) -> dict[str, Any]:
    """Seconds of `steps` steps, bare and in the trainer's loop, taking turns; the loop also saves one checkpoint."""
    trainer = dataclasses.replace(config.trainer, num_train_steps=steps, eval_every=0, eval_batches=0)
    config = dataclasses.replace(config, trainer=trainer)
    batches = [placed(config, compiled, tokens, number) for number in range(steps)]
    bare: list[Seconds] = []
    looped: list[Seconds] = []

    def run_bare(state: TrainState) -> None:
        for batch in batches:
            state, _ = compiled.train_step(state, batch)
        jax.block_until_ready(state)

    for number in range(rounds):
        for which in ("bare", "loop") if number % 2 else ("loop", "bare"):
            state = jax.block_until_ready(init_state(config, compiled.state_shardings))
            if which == "bare":
                timed(lambda state=state: run_bare(state), bare)
            else:
                with loop_of(config, compiled, tokens) as run:
                    timed(lambda run=run, state=state: jax.block_until_ready(run(state)), looped)
    return {"steps": steps, "rounds": rounds, "checkpoints": 1, **compared("loop", looped, "bare", bare)}


def compared(name: str, mine: list[Seconds], other: str, theirs: list[Seconds]) -> dict[str, float]:
    """Median wall and processor seconds of both, and the medians of the ratios of each pair (`name` / `other`)."""
    pairs = list(zip(mine, theirs, strict=True))
    return {
        f"{name}_seconds": statistics.median(each.wall for each in mine),
        f"{other}_seconds": statistics.median(each.wall for each in theirs),
        f"{name}_processor_seconds": statistics.median(each.processor for each in mine),
        f"{other}_processor_seconds": statistics.median(each.processor for each in theirs),
        "ratio": statistics.median(left.wall / right.wall for left, right in pairs),
        "processor_ratio": statistics.median(left.processor / right.processor for left, right in pairs),
    }


@contextlib.contextmanager
def loop_of(config: TrainConfig, compiled: Compiled, tokens: text.TokenData) -> Any:
    """The trainer's loop in a run directory of its own, as a function of the state it starts from."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_run(folder, "{}") as run,
        Checkpointer(run.checkpoints_path, config.trainer.checkpoint, resumed_step=None) as checkpointer,
        open_trackers(
            config.trackers, TrackedRun(run, {}, 0, config.trainer.num_train_steps, Console(file=io.StringIO()))
        ) as trackers,
        StopSignal() as stop,
    ):
        loop = Loop(config, tokens, compiled, checkpointer, trackers, Instruments(config, compiled, run.path))
        yield lambda state: loop.run(state, 0, stop)[0]


def placed(config: TrainConfig, compiled: Compiled, tokens: text.TokenData, number: int) -> LmBatch:
    arrays = (named(array, batch_axes(config)) for array in tokens.train_batch(number))
    return jax.device_put(LmBatch(*arrays), compiled.batch_shardings)


def timed(call: Callable[[], Any], seconds: list[Seconds]) -> Any:
    wall, processor = time.perf_counter(), time.process_time()
    answer = call()
    seconds.append(Seconds(time.perf_counter() - wall, time.process_time() - processor))
    return answer


if __name__ == "__main__":
    main()
