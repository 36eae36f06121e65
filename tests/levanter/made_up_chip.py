"""A small run, and a chip of as much memory as a test wants, for what the planner chooses by memory."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from levanter.config import TrainConfig
from levanter.data import TextDataConfig
from levanter.models.gpt2.config import Gpt2Config
from levanter.runtime.config import TrainerConfig
from levanter.runtime.trainer import train

CHIP = """
small:
  source: made up
  bf16_tflops: 1
  memory_gb: {gigabytes}
  hbm_gb_per_s: 10
  network: switched
  link_gb_per_s: 1
  host_chips: 8
  host_gb_per_s: 1
  overlap_state: 0
  overlap_activations: 0
"""


def small_run(folder: Path, batch_size: int) -> TrainConfig:
    """A run of two steps, with its text and its chip (1 GB) in the folder."""
    (folder / "chips.yaml").write_text(CHIP.format(gigabytes=1))
    (folder / "text.txt").write_text("a text of a few words that says nothing, and says it again. " * 200)
    trainer = TrainerConfig(
        train_batch_size=batch_size,
        num_train_steps=2,
        eval_batches=0,
        sample_tokens=0,
        run_dir=str(folder / "run"),
        hardware=f"{folder}/chips.yaml:small",
    )
    model = Gpt2Config(seq_len=16, hidden_dim=8, num_heads=2, num_layers=1)
    return TrainConfig(model=model, data=TextDataConfig(paths=[str(folder / "text.txt")]), trainer=trainer)


def write_chip(config: TrainConfig, size: float) -> None:
    """Gives the chip of a run so many bytes of memory."""
    Path(config.trainer.hardware.partition(":")[0]).write_text(CHIP.format(gigabytes=size / 1e9))


def run(config: TrainConfig) -> list[str]:
    """What a run says, line by line."""
    out = io.StringIO()
    train(config, Console(file=out, width=200))
    return out.getvalue().splitlines()
