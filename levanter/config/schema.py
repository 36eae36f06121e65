"""The whole configuration of a run: one section for each component, whose dataclass lives with the component."""

from __future__ import annotations

from dataclasses import dataclass, field

from levanter.config import errors
from levanter.config.mesh import parse_mesh
from levanter.data.config import DataConfig
from levanter.errors import UserError
from levanter.models.config import ModelConfig
from levanter.optim.config import OptimizerConfig
from levanter.registry import MODELS, OPTIMIZERS, SOURCES
from levanter.runtime.config import TrainerConfig


@dataclass(frozen=True)
class TrainConfig:
    """What `levanter train` and `levanter compile` work on."""

    model: ModelConfig = field(default_factory=MODELS.make_default)
    data: DataConfig = field(default_factory=SOURCES.make_default)
    optimizer: OptimizerConfig = field(default_factory=OPTIMIZERS.make_default)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        if self.trainer.mesh is not None:
            try:
                parse_mesh(self.trainer.mesh)
            except UserError as error:
                raise errors.in_field("trainer.mesh", error) from None
