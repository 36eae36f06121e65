"""What a Gemma is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, number
from levanter.models.parts.config import DecoderConfig

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class GemmaConfig(DecoderConfig):
    """Gemma (Mesnard et al., 2024). The defaults are Gemma 7B."""

    vocab_size: int = number(256000, SIZE)
    hidden_dim: int = number(3072, SIZE)
    intermediate_dim: int = number(24576, SIZE)
    num_layers: int = number(28, SIZE)
    num_heads: int = number(16, SIZE)
    num_kv_heads: int = number(16, SIZE)
    head_dim: int | None = number(256, SIZE)
    tie_word_embeddings: bool = True

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.gemma.gemma import GemmaLMHeadModel

        return GemmaLMHeadModel.init(self, Vocab, key=key)
