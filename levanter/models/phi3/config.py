"""What a Phi-3 is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, above, number
from levanter.models.parts.config import DecoderConfig

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class Phi3Config(DecoderConfig):
    """Phi-3 and Phi-4 (Abdin et al., 2024). The defaults are Phi-3 mini."""

    vocab_size: int = number(32064, SIZE)
    hidden_dim: int = number(3072, SIZE)
    intermediate_dim: int = number(8192, SIZE)
    norm_epsilon: float = number(1e-5, above(0))
    sliding_window: int | None = number(None, SIZE)
    """How many positions back a place sees, its own among them; null means all."""

    @property
    def windows(self) -> tuple[int | None, ...]:
        return (self.sliding_window,) * self.num_layers

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.phi3.phi3 import Phi3LMHeadModel

        return Phi3LMHeadModel.init(self, Vocab, key=key)
