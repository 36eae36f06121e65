"""What a Mixtral is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, above, at_least, number
from levanter.models import errors
from levanter.models.config import axis
from levanter.models.parts.config import DecoderConfig

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class MixtralConfig(DecoderConfig):
    """Mixtral (Jiang et al., 2024). The defaults are Mixtral 8x7B."""

    intermediate_dim: int = number(14336, SIZE)
    num_kv_heads: int = number(8, SIZE)
    norm_epsilon: float = number(1e-5, above(0))
    num_experts: int = number(8, SIZE)
    """Size of axis `experts`."""
    experts_per_token: int = number(2, SIZE)
    """Experts that a token goes through."""
    capacity_factor: float | None = number(None, above(0))
    """Slots of an expert for each text, relative to what it needs if all experts are chosen equally often: then axis
    `experts` can be sharded, and a token without a slot goes without that expert. null: grouped products, no slots."""
    load_balance: float = number(0.001, at_least(0))
    """Weight in the loss of what makes the router choose all experts equally often."""
    router_z: float = number(0.0, at_least(0))
    """Weight in the loss of the router's squared log-normalizer, which keeps its logits small."""
    sliding_window: int | None = number(None, SIZE)
    """How many positions back a place sees, its own among them; null means all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.experts_per_token > self.num_experts:
            raise errors.too_few_experts(self.num_experts, self.experts_per_token)

    @property
    def windows(self) -> tuple[int | None, ...]:
        return (self.sliding_window,) * self.num_layers

    @property
    def Experts(self) -> Axis:
        return axis("experts", self.num_experts)

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.mixtral.mixtral import MixtralLMHeadModel

        return MixtralLMHeadModel.init(self, Vocab, key=key)
