"""What Muon is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from levanter.fields import SIZE, above, fraction, number
from levanter.optim.config import MomentsConfig

if TYPE_CHECKING:
    from levanter.optim.optimizer import Decays, Optimizer


@dataclass(frozen=True)
class MuonConfig(MomentsConfig):
    """Muon (Jordan et al., 2024): the momentum of a linear layer's weight is made orthogonal; AdamW for all others.

    Updates have the size of AdamW's (Liu et al., 2025), so that one learning rate is right for both."""

    momentum: float = number(0.95, fraction())
    """Share of the momentum that a step keeps, for matrices."""
    nesterov: bool = True
    """Whether a step looks ahead by one momentum."""
    newton_schulz_steps: int = number(5, SIZE)
    """Iterations that make the momentum nearly orthogonal."""
    separate_axes: list[str] = field(default_factory=lambda: ["qkv"])
    """Axes along which a weight is several matrices, though they are inputs or outputs of its layer; those of stacked
    layers and of experts always are."""
    beta1: float = number(0.9, fraction())
    """Share of the running mean of gradients that a step keeps, for AdamW."""
    beta2: float = number(0.95, fraction())
    """Share of the running mean of squared gradients that a step keeps, for AdamW."""
    epsilon: float = number(1e-8, above(0))
    """Added to AdamW's root mean square, and to the size of a momentum that is made orthogonal."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_squares(self.beta2)

    def build(self, num_train_steps: int, decays: Decays) -> Optimizer:
        from levanter.optim.muon.muon import muon

        return muon(self, num_train_steps, decays)
