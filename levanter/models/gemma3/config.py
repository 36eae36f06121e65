"""What a Gemma 3 is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, above, number
from levanter.models.parts.rope_config import RopeConfig
from levanter.models.parts.windowed import LocalGlobalConfig

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class Gemma3Config(LocalGlobalConfig):
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
    global_every: int = number(6, SIZE)

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.gemma3.gemma3 import Gemma3LMHeadModel

        return Gemma3LMHeadModel.init(self, Vocab, key=key)
