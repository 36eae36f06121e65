"""Checkpoints outside of the run directory: of one run, and written by one process."""

from __future__ import annotations

import dataclasses
import fcntl
import io
from pathlib import Path

import pytest
from rich.console import Console

from levanter import checkpoint
from levanter.checkpoint.config import CheckpointConfig
from levanter.config import TrainConfig
from levanter.data import TextDataConfig
from levanter.errors import UserError
from levanter.models.gpt2.config import Gpt2Config
from levanter.optim.adamw.config import AdamWConfig
from levanter.runtime.config import TrainerConfig
from levanter.runtime.run_directory import LOCK
from levanter.runtime.trainer import train

pytestmark = pytest.mark.hurried


def config(folder: Path, run: str, steps: int, rate: float = 0.01, layers: int = 1) -> TrainConfig:
    (folder / "text.txt").write_text("a text of a few words that says nothing, and says it again. " * 200)
    return TrainConfig(
        model=Gpt2Config(seq_len=16, hidden_dim=8, num_heads=2, num_layers=layers),
        data=TextDataConfig(paths=[str(folder / "text.txt")]),
        optimizer=AdamWConfig(learning_rate=rate, schedule_steps=4),
        trainer=TrainerConfig(
            train_batch_size=4,
            num_train_steps=steps,
            eval_batches=0,
            sample_tokens=0,
            run_dir=str(folder / run),
            checkpoint=CheckpointConfig(directory=str(folder / "shared")),
        ),
    )


def said(config: TrainConfig) -> str:
    out = io.StringIO()
    train(config, Console(file=out, width=200))
    return out.getvalue()


def test_checkpoints_of_another_run_are_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    said(config(tmp_path, "one", 2))
    for other, shown in (
        ({"rate": 0.1}, "optimizer.learning_rate: 0.01 → 0.1"),
        ({"layers": 2}, "model.num_layers: 1 → 2"),  # whose arrays would not fit
    ):
        with pytest.raises(UserError) as refused:
            said(config(tmp_path, "two", 3, **other))
        assert str(refused.value) == (
            f"{shared}/step-2 is of a run with another config ({shown}): "
            "set these back to resume that run, or choose another folder with --trainer.checkpoint.directory"
        )
        assert not (tmp_path / "two").exists()
    # Where the machine of a run is gone, the same configuration resumes in a new run directory, to the same bits.
    assert f"resuming from {shared}/step-2" in said(config(tmp_path, "three", 4))
    alone = config(tmp_path, "four", 4)
    trainer = dataclasses.replace(alone.trainer, checkpoint=CheckpointConfig())
    said(dataclasses.replace(alone, trainer=trainer))
    assert checkpoint.digest(tmp_path / "three") == checkpoint.digest(tmp_path / "four")


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    with open(shared / LOCK, "w", encoding="utf-8") as lock:
        lock.write("process 7 on there, since noon\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError) as refused:
            said(config(tmp_path, "one", 2))
    assert str(refused.value) == (
        f"another process is writing checkpoints into {shared} (process 7 on there, since noon): "
        "wait for it or stop it, or choose another folder with --trainer.checkpoint.directory"
    )


@pytest.mark.parametrize(("place", "reason"), [("text.txt", "File exists"), ("text.txt/below", "Not a directory")])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, place: str, reason: str) -> None:
    asked = config(tmp_path, "one", 2)
    trainer = dataclasses.replace(asked.trainer, checkpoint=CheckpointConfig(directory=str(tmp_path / place)))
    with pytest.raises(UserError) as refused:
        said(dataclasses.replace(asked, trainer=trainer))
    assert str(refused.value) == (
        f"cannot keep checkpoints in {tmp_path / place}: {reason}; "
        "choose another folder with --trainer.checkpoint.directory"
    )
    assert not (tmp_path / "one").exists()
