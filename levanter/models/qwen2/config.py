"""What a Qwen2 is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, number
from levanter.models.parts.windowed import UpperWindowConfig

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class Qwen2Config(UpperWindowConfig):
    """Qwen2 and Qwen2.5 (Yang et al., 2024). The defaults are those of Qwen2 7B, with its heads."""

    vocab_size: int = number(151936, SIZE)
    hidden_dim: int = number(4096, SIZE)
    intermediate_dim: int = number(22016, SIZE)

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.qwen2.qwen2 import Qwen2LMHeadModel

        return Qwen2LMHeadModel.init(self, Vocab, key=key)
