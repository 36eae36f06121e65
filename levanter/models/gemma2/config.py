"""What a Gemma 2 is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, above, number
from levanter.models.parts.config import DecoderConfig

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class Gemma2Config(DecoderConfig):
    """Gemma 2 (Riviere et al., 2024). The defaults are Gemma 2 2B."""

    vocab_size: int = number(256000, SIZE)
    hidden_dim: int = number(2304, SIZE)
    intermediate_dim: int = number(9216, SIZE)
    num_layers: int = number(26, SIZE)
    num_heads: int = number(8, SIZE)
    num_kv_heads: int = number(4, SIZE)
    head_dim: int | None = number(256, SIZE)
    tie_word_embeddings: bool = True
    sliding_window: int = number(4096, SIZE)
    """How many positions back a place sees in the layers with a window, its own among them."""
    global_every: int = number(2, SIZE)
    """In every layer whose number, counted from 1, is a multiple of this, a place sees all before it."""
    query_scale_size: int = number(256, SIZE)
    """Scores are divided by the square root of this."""
    scores_cap: float | None = number(50.0, above(0))
    """Attention scores are bounded by this, smoothly; null leaves them."""
    output_cap: float | None = number(30.0, above(0))
    """Logits are bounded by this, smoothly; null leaves them."""

    @property
    def windows(self) -> tuple[int | None, ...]:
        numbers = range(1, self.num_layers + 1)
        return tuple(None if number % self.global_every == 0 else self.sliding_window for number in numbers)

    @property
    def logits_cap(self) -> float | None:
        return self.output_cap

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.gemma2.gemma2 import Gemma2LMHeadModel

        return Gemma2LMHeadModel.init(self, Vocab, key=key)
