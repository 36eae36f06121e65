"""What a Qwen3 is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, number
from levanter.models.parts.windowed import UpperWindowConfig

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class Qwen3Config(UpperWindowConfig):
    """Qwen3 (Yang et al., 2025), the dense models. The defaults are those of `transformers`."""

    vocab_size: int = number(151936, SIZE)
    hidden_dim: int = number(4096, SIZE)
    intermediate_dim: int = number(22016, SIZE)
    head_dim: int | None = number(128, SIZE)
    attention_bias: bool = False
    """Whether queries, keys, values and the output of attention have a bias."""

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.qwen3.qwen3 import Qwen3LMHeadModel

        return Qwen3LMHeadModel.init(self, Vocab, key=key)
