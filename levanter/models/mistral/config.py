"""What a Mistral is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, number
from levanter.models.parts.config import DecoderConfig

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class MistralConfig(DecoderConfig):
    """Mistral (Jiang et al., 2023). The defaults are Mistral 7B v0.1."""

    intermediate_dim: int = number(14336, SIZE)
    num_kv_heads: int = number(8, SIZE)
    sliding_window: int | None = number(4096, SIZE)
    """How many positions back a place sees, its own among them; null means all."""

    @property
    def windows(self) -> tuple[int | None, ...]:
        return (self.sliding_window,) * self.num_layers

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.mistral.mistral import MistralLMHeadModel

        return MistralLMHeadModel.init(self, Vocab, key=key)
