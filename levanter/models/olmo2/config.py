"""What an OLMo 2 is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, above, number
from levanter.models.parts.config import DecoderConfig

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class Olmo2Config(DecoderConfig):
    """OLMo 2 (OLMo et al., 2025). The defaults are OLMo 2 7B."""

    vocab_size: int = number(50304, SIZE)
    norm_epsilon: float = number(1e-5, above(0))
    attention_bias: bool = False
    """Whether queries, keys, values and the output of attention have a bias."""

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.olmo2.olmo2 import Olmo2LMHeadModel

        return Olmo2LMHeadModel.init(self, Vocab, key=key)
