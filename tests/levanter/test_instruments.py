"""What looks on while steps are made: it sees what it should, and changes no bit of the run."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from levanter import checkpoint
from levanter.config import TrainConfig
from levanter.data import TextDataConfig, build
from levanter.errors import UserError
from levanter.models.gpt2.config import Gpt2Config
from levanter.optim.adamw.config import AdamWConfig
from levanter.runtime import errors
from levanter.runtime.callbacks import Callback, RunStart, callbacks_of
from levanter.runtime.config import TrainerConfig, WatchConfig
from levanter.runtime.profile import STEP, Profile, common
from levanter.runtime.state import LmBatch, batch_axes, flat_names, init_state, train_step_of
from levanter.runtime.trainer import train
from levanter.runtime.watch import Watch
from levanter.trackers.records import read, untimed

pytestmark = pytest.mark.hurried

OWN = """
from levanter.runtime.callbacks import Callback

class Doubled(Callback):
    every = 2

    def on_step(self, step, numbers, state):
        assert state is None
        return {"doubled": 2 * float(numbers["loss"]), "seen_too": float(numbers["weight"])}

nothing = 3
"""
UP = "blocks.mlp.up.weight"


class Weights(Callback):
    """Keeps what it is told."""

    every = 2
    reads_state = True

    def __init__(self) -> None:
        self.started: list[RunStart] = []
        self.seen: list[tuple[int, int]] = []
        self.ended: list[int] = []

    def on_start(self, run: RunStart) -> None:
        self.started.append(run)

    def on_step(self, step: int, numbers: Mapping[str, Any], state: Any) -> Mapping[str, float]:
        self.seen.append((step, int(state.step)))
        return {"weight": float(np.linalg.norm(np.asarray(flat_names(state.model)[UP])))}

    def on_end(self, step: int) -> None:
        self.ended.append(step)


@dataclasses.dataclass(frozen=True)
class Made:
    """A run that was looked at, and the same one that was not."""

    config: TrainConfig
    looked_at: Path
    alone: Path
    said_alone: str
    weights: Weights


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("looked_at")
    (folder / "text.txt").write_text("a text of a few words that says nothing, and says it again. " * 200)
    (folder / "own_callbacks.py").write_text(OWN)
    alone = TrainConfig(
        model=Gpt2Config(seq_len=16, hidden_dim=8, num_heads=2, num_layers=1),
        data=TextDataConfig(paths=[str(folder / "text.txt")]),
        optimizer=AdamWConfig(learning_rate=0.01, warmup=2.0),
        trainer=TrainerConfig(
            train_batch_size=4,
            num_train_steps=5,
            eval_batches=0,
            sample_tokens=0,
            run_dir=str(folder / "alone"),
            profile="6:7",
        ),
    )
    trainer = dataclasses.replace(
        alone.trainer,
        run_dir=str(folder / "run"),
        watch=WatchConfig(parameters=["*.mlp.*", "embeddings.positions.weight"], every=2),
        profile="3:4",
        callbacks=[f"{folder}/own_callbacks.py:Doubled"],
    )
    config = dataclasses.replace(alone, trainer=trainer)
    weights = Weights()
    said = io.StringIO()
    train(alone, Console(file=said, width=200))
    train(config, Console(file=io.StringIO()), callbacks=[weights])
    return Made(config, folder / "run", folder / "alone", said.getvalue(), weights)


def test_looking_on_changes_no_bit(made: Made) -> None:
    assert checkpoint.digest(made.looked_at) == checkpoint.digest(made.alone)
    computed = ("step", "loss", "grad_norm", "learning_rate")
    looked_at = [{key: each[key] for key in computed} for each in read(made.looked_at / "metrics.jsonl")]
    assert looked_at == [untimed(each) for each in read(made.alone / "metrics.jsonl")]


def test_callbacks_are_called_and_add_numbers(made: Made) -> None:
    weights = made.weights
    assert [(each.directory, each.step) for each in weights.started] == [(made.looked_at, 0)]
    assert weights.seen == [(2, 2), (4, 4)] and weights.ended == [5]
    records = list(read(made.looked_at / "metrics.jsonl"))
    assert [each["step"] for each in records if "weight" in each] == [2, 4]
    for each in (records[1], records[3]):
        assert each["doubled"] == 2 * np.float32(each["loss"]) and each["seen_too"] == each["weight"]


def test_watched_norms_are_those_of_the_step(made: Made) -> None:
    """Step 2, made again by hand from the state after step 1."""
    config = dataclasses.replace(made.config, trainer=dataclasses.replace(made.config.trainer, watch=WatchConfig()))
    tokens = build(config.data, seq_len=16, seed=0, batch_size=4)

    def batch(step: int) -> LmBatch:
        from haliax import named

        return LmBatch(*(named(array, batch_axes(config)) for array in tokens.train_batch(step)))

    seen = {}

    def keep(weights: Any, gradients: Any, updates: Any) -> dict[str, Any]:
        trees = {"weight_norm": weights, "gradient_norm": gradients, "update_norm": updates}
        return {f"{of}/{UP}": optax.tree.norm(tree.blocks.stacked.mlp.up.weight) for of, tree in trees.items()}

    step = jax.jit(train_step_of(config, watch=keep))
    state, _ = step(init_state(config), batch(0))
    _, seen = step(state, batch(1))
    records = list(read(made.looked_at / "metrics.jsonl"))
    keys = {key for key in records[1] if "/" in key}
    assert {key.partition("/")[0] for key in keys} == {"weight_norm", "gradient_norm", "update_norm"}
    assert {key.partition("/")[2] for key in keys} == {
        *(f"blocks.mlp.{part}.{kind}" for part in ("up", "down") for kind in ("weight", "bias")),
        "embeddings.positions.weight",
    }
    assert [each["step"] for each in records if any("/" in key for key in each)] == [2, 4]
    for of in ("weight_norm", "gradient_norm", "update_norm"):
        assert records[1][f"{of}/{UP}"] == pytest.approx(float(seen[f"{of}/{UP}"]), rel=1e-4)


def test_a_window_of_steps_is_traced(made: Made) -> None:
    found = {path.name.partition(".")[2] for path in (made.looked_at / "profile").rglob("*") if path.is_file()}
    assert {"xplane.pb", "json.gz"} <= found
    (trace,) = (made.looked_at / "profile").rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    steps = [(each["args"]["step_num"], each["dur"] > 0) for each in events if each.get("name") == STEP]
    assert steps == [("3", True), ("4", True)]
    assert not (made.alone / "profile").exists()


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (0, None),
        (2, None),
        (3, "trainer.profile 3:4 traces step 4 only: this start makes steps 4 to 5"),
        (4, "trainer.profile 3:4 traces nothing: this start makes step 5"),
        (5, "trainer.profile 3:4 traces nothing: this start makes no step"),
    ],
)
def test_steps_of_a_window_that_are_not_made_are_said(step: int, said: str | None) -> None:
    asked, made = TrainerConfig(profile="3:4").profiled, range(step + 1, 6)
    traced = common(asked, made)
    assert (errors.window_cut(asked, traced, made) if traced != asked else None) == said


def test_a_start_that_traces_nothing_says_so(made: Made) -> None:
    assert "trainer.profile 6:7 traces nothing: this start makes steps 1 to 5" in made.said_alone.splitlines()


def test_a_trace_that_cannot_be_written_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the trace of another process than the first lies in a folder of its own."""
    folders = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder, create_perfetto_trace: folders.append(folder))
    monkeypatch.setattr("jax.profiler.stop_trace", Mock(side_effect=OSError(28, "No space left on device")))
    profile = Profile(tmp_path, range(2, 4), process=3)
    for step in range(1, 6):
        profile.before(step)
        if profile.ends_with(step):
            profile.stop()
    profile.stop()
    assert folders == [tmp_path / "process-3"]
    assert capsys.readouterr().err == (
        f"cannot write the trace of trainer.profile into {tmp_path}/process-3 ([Errno 28] No space left on device): "
        "the run continues without it\n"
    )


@pytest.mark.parametrize("text", ["20", "5:4", "0:3", "a:b", ""])
def test_a_window_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        TrainerConfig(profile=text)
    assert str(caught.value) == (
        f"trainer.profile is '{text}': write FIRST:LAST, two steps counted from 1, such as 20:25"
    )


def test_a_callback_that_is_none_is_refused(made: Made) -> None:
    place = f"{made.looked_at.parent}/own_callbacks.py:nothing"
    with pytest.raises(UserError) as caught:
        callbacks_of([place])
    assert str(caught.value) == (
        f"trainer.callbacks has `{place}`, which is not a callback: name FILE.py:NAME, or MODULE:NAME, of a subclass "
        "of levanter.runtime.callbacks.Callback that is made without arguments"
    )


def test_a_pattern_that_watches_nothing_is_refused(made: Made) -> None:
    watch = WatchConfig(parameters=["*.mpl.*"])
    config = dataclasses.replace(made.config, trainer=dataclasses.replace(made.config.trainer, watch=watch))
    with pytest.raises(UserError) as caught:
        Watch(config, None)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "trainer.watch.parameters has `*.mpl.*`, which stands for no parameter: did you mean a part of "
        "`blocks.mlp.up.weight`?"
    )
