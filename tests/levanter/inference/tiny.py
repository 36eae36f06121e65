"""Tiny models to use: a LLaMA, which has a cache, and letters, which has none."""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax

import haliax as hax
from haliax import Axis, NamedArray
from levanter import config
from levanter.config import TrainConfig
from levanter.models import LmModel, ModelConfig
from levanter.models.loss import mean_loss, next_token_loss
from levanter.runtime.state import init_state

LLAMA = """
model: {type: llama, seq_len: 64, vocab_size: 90, hidden_dim: 16, num_layers: 2, num_heads: 4, num_kv_heads: 2,
        intermediate_dim: 32, initializer_range: 0.3, compute_dtype: float32, gradient_checkpointing: false}
"""
Hidden = Axis("hidden", 8)


@dataclass(frozen=True)
class LettersConfig(ModelConfig):
    """Each place reads the mean of what stands before it."""

    @property
    def Vocab(self) -> Axis:
        return Axis("letter", self.vocab_size + 6)

    @property
    def Pos(self) -> Axis:
        return Axis("time", self.seq_len)

    def build(self, Vocab: Axis, *, key: jax.Array) -> LmModel:
        return Letters(hax.random.normal(key, (Vocab, Hidden)), self.Pos)


class Letters(LmModel):
    table: NamedArray  # [letter, hidden]
    Pos: Axis = eqx.field(static=True)

    @property
    def Vocab(self) -> Axis:
        return self.table.axes[0]

    @property
    def drops_out(self) -> bool:
        return False

    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        Time = tokens.resolve_axis("time")
        return hax.cumsum(self.table.take(self.Vocab, tokens), Time) / (hax.arange(Time) + 1.0)

    def logits(self, activations: NamedArray) -> NamedArray:
        return hax.dot(activations, self.table, axis=Hidden)

    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> jax.Array:
        return mean_loss(next_token_loss(self.activations(tokens), self.table, targets, Hidden), targets)


def llama(*lines: str) -> TrainConfig:
    return config.loads("\n".join([LLAMA, *lines]))


def letters() -> TrainConfig:
    return TrainConfig(model=LettersConfig(seq_len=64, vocab_size=90))


def model(of: TrainConfig) -> LmModel:
    return init_state(of).model
