"""What a LLaMA is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.models.parts.config import DecoderConfig

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class LlamaConfig(DecoderConfig):
    """LLaMA 1, 2 and 3 (Touvron et al., 2023; Grattafiori et al., 2024). The defaults are LLaMA 7B."""

    attention_bias: bool = False
    """Whether queries, keys, values and the output of attention have a bias."""
    mlp_bias: bool = False
    """Whether the layers of the MLP have a bias."""

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.llama.llama import LlamaLMHeadModel

        return LlamaLMHeadModel.init(self, Vocab, key=key)
