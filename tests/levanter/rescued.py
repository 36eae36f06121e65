"""A small run whose data have one bad document, for the tests of what a run does about it.

Seed 8 puts the only row with `zebra` into the batches 8, 24, 35 and 55 (counted from 0), and an embedding is divided by
zero there.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from levanter import checkpoint
from levanter.config import TrainConfig, load
from levanter.runtime.command import Command
from levanter.runtime.trainer import train
from levanter.trackers.records import untimed

LINES = [f"The number {number} comes after {number - 1}, and before {number + 1}.\n" for number in range(100)]
TEXT = "".join([*LINES[:50], "A zebra is no number at all.\n", *LINES[51:]])
MODEL = '''
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.models import LmModel, ModelConfig
from levanter.models.loss import mean_loss, next_token_loss, output_logits

ZEBRA = 1976


@dataclass(frozen=True)
class PoisonedConfig(ModelConfig):
    """Predicts the next token from this one, unless that is a zebra."""

    hidden_dim: int = 16
    divisor: float = 0.0

    def build(self, Vocab: Axis, *, key: jax.Array) -> LmModel:
        Embed = Axis("embed", self.hidden_dim)
        table, up = jax.random.split(key)
        return Poisoned(
            hax.random.normal(table, (Vocab, Embed)) * 0.1,
            hnn.Linear.init(Embed, Axis("mlp", 32), key=up),
            hnn.Linear.init(Axis("mlp", 32), Embed, key=up),
            self.Pos,
            self.divisor,
        )


class Poisoned(LmModel):
    table: NamedArray
    up: hnn.Linear
    down: hnn.Linear
    Pos: Axis = eqx.field(static=True)
    divisor: float = eqx.field(static=True)

    @property
    def Vocab(self) -> Axis:
        return self.table.resolve_axis("vocab")

    @property
    def drops_out(self) -> bool:
        return False

    def activations(self, tokens, *, key=None):
        x = self.table["vocab", tokens]
        x = x / hax.where(tokens == ZEBRA, self.divisor, 1.0)
        return x + self.down(hax.tanh(self.up(x)))

    def logits(self, x):
        return output_logits(x, self.table, self.table.resolve_axis("embed"), self.Vocab.size)

    def loss(self, tokens, targets, *, key=None):
        Embed = self.table.resolve_axis("embed")
        x = self.activations(tokens)
        return mean_loss(next_token_loss(x, self.table, targets, Embed, self.Vocab.size), targets)
'''
CONFIG = """
model: {{type: "{folder}/poisoned.py:PoisonedConfig", seq_len: 16}}
data: {{type: text, paths: ["{folder}/numbers.txt"], cache_dir: "{folder}/cache"}}
optimizer: {{learning_rate: 0.01}}
trainer:
  seed: 8
  train_batch_size: 4
  num_train_steps: 24
  eval_every: 10
  eval_batches: 0
  sample_tokens: 0
  checkpoint: {{every_steps: 5, every_minutes: null, keep: 3}}
"""


def write_files(folder: Path) -> Path:
    """The model, the data and the config of the run, in a folder; returns the config."""
    (folder / "numbers.txt").write_text(TEXT)
    (folder / "poisoned.py").write_text(MODEL)
    (folder / "tiny.yaml").write_text(CONFIG.format(folder=folder))
    return folder / "tiny.yaml"


def configured(folder: Path, *options: str, run_dir: str = "run") -> TrainConfig:
    return load(folder / "tiny.yaml", ["--trainer.run_dir", str(folder / run_dir), *options])


def trained(config: TrainConfig, command: Command | None = None) -> str:
    """What a run prints."""
    out = io.StringIO()
    train(config, Console(file=out, width=500, force_terminal=False), command)
    return out.getvalue()


def records(run: Path) -> list[dict[str, Any]]:
    """The records of a run, without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [untimed(json.loads(line)) for line in lines]


def digest(run: Path) -> str:
    return checkpoint.digest(run)
