"""What a Gemma 2 is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, above, number
from levanter.models.parts.windowed import LocalGlobalConfig

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class Gemma2Config(LocalGlobalConfig):
    """Gemma 2 (Riviere et al., 2024). The defaults are Gemma 2 2B."""

    vocab_size: int = number(256000, SIZE)
    hidden_dim: int = number(2304, SIZE)
    intermediate_dim: int = number(9216, SIZE)
    num_layers: int = number(26, SIZE)
    num_heads: int = number(8, SIZE)
    num_kv_heads: int = number(4, SIZE)
    head_dim: int | None = number(256, SIZE)
    tie_word_embeddings: bool = True
    scores_cap: float | None = number(50.0, above(0))
    """Attention scores are bounded by this, smoothly; null leaves them."""
    output_cap: float | None = number(30.0, above(0))
    """Logits are bounded by this, smoothly; null leaves them."""

    @property
    def logits_cap(self) -> float | None:
        return self.output_cap

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.gemma2.gemma2 import Gemma2LMHeadModel

        return Gemma2LMHeadModel.init(self, Vocab, key=key)
