"""A run from configuration to sample: what it records, how it ends, and what it refuses."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import signal
import threading
from pathlib import Path
from typing import Any

import draccus
import jax
import numpy as np
import pytest
from rich.console import Console

from levanter import checkpoint
from levanter.checkpoint.config import CheckpointConfig
from levanter.config import TrainConfig
from levanter.data import TextDataConfig
from levanter.errors import UserError, WorkFailed
from levanter.inference.generate import generate
from levanter.models.gpt2.config import Gpt2Config
from levanter.optim.adamw.config import AdamWConfig
from levanter.runtime import memory
from levanter.runtime.command import Command
from levanter.runtime.config import TrainerConfig
from levanter.runtime.loop import Loop
from levanter.runtime.state import (
    batch_shape,
    flat_names,
    from_flat_names,
    init_state,
    make_train_step,
    state_shape,
)
from levanter.runtime.stop import StopSignal
from levanter.runtime.trainer import train
from levanter.trackers.console.progress import ConsoleProgress
from levanter.trackers.records import TIMED, untimed
from levanter.trackers.section import TrackersConfig

pytestmark = pytest.mark.hurried

TEXT = "".join(f"The number {number} comes after {number - 1}, and before {number + 1}.\n" for number in range(400))


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    text = tmp_path / "numbers.txt"
    text.write_text(TEXT)
    return TrainConfig(
        model=Gpt2Config(seq_len=16, hidden_dim=16, num_heads=2, num_layers=2),
        data=TextDataConfig(paths=[str(text)], cache_dir=str(tmp_path / "cache")),
        optimizer=AdamWConfig(learning_rate=0.01, warmup=2.0),
        trainer=TrainerConfig(
            train_batch_size=4,
            num_train_steps=6,
            run_dir=str(tmp_path / "run"),
            run_name="tiny",
            eval_every=4,
            eval_batches=2,
            sample_tokens=5,
            checkpoint=CheckpointConfig(every_steps=4),
        ),
        trackers=draccus.decode(TrackersConfig, {"console": {"log_every": 2}}),
    )


def with_trainer(config: TrainConfig, **fields: Any) -> TrainConfig:
    return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, **fields))


def run(config: TrainConfig, command: Command | None = None) -> tuple[Any, list[str]]:
    out = io.StringIO()
    state = train(config, Console(file=out, width=200, force_terminal=False), command)
    return state, out.getvalue().splitlines()


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_a_run_from_start_to_end(config: TrainConfig, tmp_path: Path) -> None:
    typed = Command(("train", "--config", "my model.yaml", "--run-dir", "here", "--trainer.num_train_steps=6"))
    state, lines = run(config, typed)
    assert int(state.step) == 6
    found = records(tmp_path / "run")
    assert [each["step"] for each in found] == [1, 2, 3, 4, 5, 6]
    assert all(
        {"loss", "grad_norm", "learning_rate"} == untimed(each).keys() - {"step", "heldout_loss"} for each in found
    )
    assert all(each.keys() >= TIMED - {"mfu"} for each in found)  # nobody states the peak of a CPU
    assert [each["step"] for each in found if "heldout_loss" in each] == [4, 6]
    assert found[0]["loss"] == pytest.approx(math.log(50304), abs=0.1)
    assert found[-1]["loss"] < found[0]["loss"]
    assert [path.name for path in checkpoint.committed(tmp_path / "run" / "checkpoints")] == ["step-4", "step-6"]

    text = "\n".join(lines)
    assert f"held-out loss {found[-1]['heldout_loss']:.4f} (perplexity " in text
    assert "\nunigram model " in text
    assert "\nsample: The" in text
    assert f"\nrun directory: {tmp_path / 'run'} (config.yaml, metrics.jsonl, checkpoints/)" in text

    # What to try next is the user's own command.
    folder = tmp_path / "run"
    assert lines[lines.index("what to try next:") + 1 :] == [
        f"  levanter train --config 'my model.yaml' --trainer.num_train_steps 12 --run-dir {folder}-longer",
        "      train for longer",
        f"  levanter train --config 'my model.yaml' --trainer.num_train_steps=6 --mesh 4x2 --run-dir {folder}-4x2",
        "      the same run on a mesh of CPU devices",
        "  levanter compile --config 'my model.yaml' --trainer.num_train_steps=6 --mesh 4x4",
        "      how this model would be sharded over 16 chips, and why",
    ]
    with pytest.raises(UserError) as refused:
        run(with_trainer(config, seed=5), typed)
    assert str(refused.value) == (
        f"the run directory {folder} has checkpoints of a run with another config (trainer.seed: 0 → 5): set these "
        "back to resume it, or start this one with `levanter train --config 'my model.yaml' "
        f"--trainer.num_train_steps=6 --run-dir {folder}-seed=5`"
    )

    # The same command again has nothing left to train, and shows the same end; a longer run goes on from it.
    before = checkpoint.digest(tmp_path / "run")
    _, again = run(with_trainer(config, sample_tokens=0))
    assert again[0] == f"resuming from {tmp_path / 'run' / 'checkpoints' / 'step-6'}"
    assert [line for line in again if "loss" in line] == [line for line in lines if line.startswith("held-out loss")]
    assert checkpoint.digest(tmp_path / "run") == before
    assert records(tmp_path / "run") == found
    state, _ = run(with_trainer(config, num_train_steps=7, eval_batches=0, sample_tokens=0))
    assert int(state.step) == 7
    assert [each["step"] for each in records(tmp_path / "run")] == [1, 2, 3, 4, 5, 6, 7]

    with pytest.raises(UserError) as refused:
        run(with_trainer(config, num_train_steps=3))
    assert str(refused.value) == (
        f"{tmp_path / 'run' / 'checkpoints' / 'step-7'} is past the end of this run (trainer.num_train_steps is 3): "
        "set it to 7 or more, or start another run with --run-dir"
    )
    (tmp_path / "numbers.txt").write_text(TEXT + "One more line.\n")
    with pytest.raises(UserError, match=r"the text or the tokenizer is not the one that .*step-7 was trained on: put"):
        run(with_trainer(config, num_train_steps=8))


def test_rates_and_the_time_left_leave_out_compilation(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands still but while a step or an evaluation is compiled (an hour each) and while a batch is made
    (a second)."""
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    monkeypatch.setitem(ConsoleProgress.__init__.__kwdefaults__, "clock", lambda: now)

    def compiled_first(function: Any) -> Any:
        hours = iter([3600.0])

        def called(*arguments: Any) -> Any:
            nonlocal now
            now += next(hours, 0.0)
            return function(*arguments)

        return called

    class Slow(Loop):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._compiled = dataclasses.replace(self._compiled, train_step=compiled_first(self._compiled.train_step))
            self._evaluation = compiled_first(self._evaluation)

        def _placed(self, read: Any) -> Any:
            nonlocal now
            now += 1.0
            return super()._placed(read)

    monkeypatch.setattr("levanter.runtime.trainer.Loop", Slow)
    _, lines = run(with_trainer(config, sample_tokens=0, eval_every=2, checkpoint=CheckpointConfig(every_steps=100)))
    rates = [each["tokens_per_second"] for each in records(Path(str(config.trainer.run_dir)))]
    assert min(rates) > 4 * 16 / 2.1, rates
    # Steps of a second, after two of them an evaluation of two: two seconds a step.
    left = [line.rpartition("  ")[2] for line in lines if line.startswith("step ")]
    assert left == ["8s left", "4s left", "0s left"]


def test_divergence_is_said_and_recorded(config: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, optimizer=AdamWConfig(learning_rate=1e38, warmup=0.0, lr_schedule="constant"))
    with pytest.raises(WorkFailed) as caught:
        run(config)
    found = records(tmp_path / "run")
    assert found[-1]["loss"] == "NaN"
    said = str(caught.value).splitlines()
    config_path = tmp_path / "run" / "config.yaml"
    assert said[0] == f"training diverged: loss is nan at step {found[-1]['step']}."
    assert re.fullmatch(r"the first array that is not finite: .*, made by `\w+` at \w+\.py:\d+ \(.*\)", said[1])
    assert said[-2].strip() == (
        f"levanter train --config {config_path} --optimizer.learning_rate 3e+37 --run-dir {tmp_path}/run-lower"
    )
    assert checkpoint.committed(tmp_path / "run" / "checkpoints") == []


def test_a_model_that_is_too_large_is_refused_before_anything_is_made(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run(dataclasses.replace(config, model=dataclasses.replace(config.model, hidden_dim=2**30)))
    assert re.fullmatch(
        r"the model and its optimizer need [\d,]+\.\d GiB and there are [\d,]+\.\d GiB: make one of "
        r"model\.seq_len \(16\), model\.vocab_size \(50257\), model\.hidden_dim \(1073741824\), "
        r"model\.num_heads \(2\), model\.num_layers \(2\), model\.mlp_scale \(4\) smaller "
        r"\(`levanter compile --mesh SHAPE` says what it needs on a mesh\)",
        str(caught.value),
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError("Unable to allocate 96.1 GiB for an array"), "Unable to allocate 96.1 GiB for an array"),
        (
            jax.errors.JaxRuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 9 bytes."),
            "Out of memory allocating 9 bytes",
        ),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no room\nmore"), "no room"),
        (ValueError("RESOURCE_EXHAUSTED: no room"), "no room"),
    ],
)
def test_a_step_that_is_too_large_says_what_to_make_smaller(
    config: TrainConfig, error: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(error, MemoryError):  # it is the same in all three, and takes seconds
        monkeypatch.setattr(memory, "what_a_device_holds", lambda config: "\nwhat fills the device:\n")
    with pytest.raises(UserError) as caught, memory.explained(config):
        raise error
    said, *holds = str(caught.value).splitlines()
    assert holds[0] == "what fills the device:"
    assert not isinstance(error, MemoryError) or "  optimizer: 2 arrays [vocab=50304, embed=16]" in holds[1]
    assert said == (
        f"out of memory while training ({reason}): make trainer.train_batch_size (4) smaller, or one of "
        "model.seq_len (16), model.vocab_size (50257), model.hidden_dim (16), model.num_heads (2), "
        "model.num_layers (2), model.mlp_scale (4); "
        "--trainer.microbatches 4, and --model.gradient_checkpointing true where the model has it, need less for the "
        "same update"
    )


def test_another_failure_of_jax_is_not_taken_for_one_of_memory(config: TrainConfig) -> None:
    with pytest.raises(jax.errors.JaxRuntimeError), memory.explained(config):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_an_unknown_chip_is_refused_on_one_device_too(config: TrainConfig) -> None:
    with pytest.raises(UserError, match=r"^trainer\.hardware: hardware 'v99': known are "):
        run(with_trainer(config, hardware="v99"))


def test_a_vocabulary_that_is_too_small_is_refused(config: TrainConfig) -> None:
    with pytest.raises(UserError) as caught:
        run(dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=50000)))
    assert str(caught.value) == (
        "the tokenizer has 50257 tokens but model.vocab_size is 50000: set model.vocab_size to 50257 or more"
    )


def test_a_signal_asks_and_a_second_one_insists() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    entered = []

    def enter() -> None:
        with StopSignal() as stop:
            entered.append(stop.requested)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [False]


def test_states_are_told_by_name(config: TrainConfig) -> None:
    shapes = state_shape(config)
    names = flat_names(shapes)
    assert list(names)[:3] == ["step", "model.embeddings.tokens.weight", "model.embeddings.positions.weight"]
    assert "model.blocks.attention.qkv.weight" in names
    assert "opt_state.adam.mu.blocks.mlp.up.weight" in names
    assert len(names) == len(jax.tree.leaves(shapes))
    assert from_flat_names(shapes, names) == shapes
    with pytest.raises(KeyError, match="step"):
        from_flat_names(shapes, {})


def test_shapes_cost_nothing() -> None:
    xl = TrainConfig(model=Gpt2Config(hidden_dim=1600, num_heads=25, num_layers=48))
    assert sum(leaf.size for leaf in jax.tree.leaves(state_shape(xl).model)) > 1_557_000_000
    assert batch_shape(xl).tokens.array.shape == (32, 1024)


def test_dropout_is_of_the_step(config: TrainConfig) -> None:
    model = dataclasses.replace(config.model, vocab_size=96, dropout=0.5)
    small = dataclasses.replace(config, model=model)
    state = init_state(small)
    batch = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), batch_shape(small))
    step = jax.jit(make_train_step(small.optimizer.build(6, type(state.model).decays), seed=0))
    after, metrics = step(state, batch)
    assert step(state, batch)[1]["loss"] == metrics["loss"]
    assert step(dataclasses.replace(state, step=state.step + 1), batch)[1]["loss"] != metrics["loss"]
    assert int(after.step) == 1


def test_samples_are_of_the_key(config: TrainConfig) -> None:
    small = dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=90))
    model = init_state(small).model

    def sample(seed: int, **options: Any) -> list[int]:
        return generate(model, [1, 2, 3], 6, vocab_size=70, key=jax.random.key(seed), **options)

    hot = [sample(seed, temperature=100.0, top_k=None) for seed in (0, 0, 1)]
    assert hot[0] == hot[1] != hot[2]
    assert all(len(each) == 6 and max(each) < 70 for each in hot)
    assert sample(0, temperature=0.0) == sample(1, temperature=0.0) == sample(2, temperature=1.0, top_k=1)
    assert len(generate(model, list(range(60)), 999, vocab_size=70, key=jax.random.key(0))) == 15
