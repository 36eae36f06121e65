"""What a Gemma 3 is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, above, number
from levanter.models.parts.config import DecoderConfig
from levanter.models.parts.rope_config import RopeConfig

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class Gemma3Config(DecoderConfig):
    """Gemma 3 (Kamath et al., 2025), its language model. The defaults are those of `transformers`."""

    vocab_size: int = number(262208, SIZE)
    hidden_dim: int = number(2304, SIZE)
    intermediate_dim: int = number(9216, SIZE)
    num_layers: int = number(26, SIZE)
    num_heads: int = number(8, SIZE)
    num_kv_heads: int = number(4, SIZE)
    head_dim: int | None = number(256, SIZE)
    tie_word_embeddings: bool = True
    rope: RopeConfig = field(default_factory=lambda: RopeConfig(theta=1e6))
    local_theta: float = number(10000.0, above(0))
    """`theta` of the rotary positions in the layers with a window, which nothing scales."""
    sliding_window: int = number(4096, SIZE)
    """How many positions back a place sees in the layers with a window, its own among them."""
    global_every: int = number(6, SIZE)
    """In every layer whose number, counted from 1, is a multiple of this, a place sees all before it."""
    query_scale_size: int = number(256, SIZE)
    """Scores are divided by the square root of this."""

    @property
    def windows(self) -> tuple[int | None, ...]:
        numbers = range(1, self.num_layers + 1)
        return tuple(None if number % self.global_every == 0 else self.sliding_window for number in numbers)

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.gemma3.gemma3 import Gemma3LMHeadModel

        return Gemma3LMHeadModel.init(self, Vocab, key=key)
