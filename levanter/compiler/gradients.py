"""What gradients are kept in until the update, as a choice of the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from levanter.compiler.dtypes import DtypeChoice
from passes.planner.constraints import GRADIENTS

if TYPE_CHECKING:
    from levanter.config.schema import TrainConfig


def _in_dtype(config: TrainConfig, dtype: str, source: str) -> TrainConfig:
    return replace(config, trainer=replace(config.trainer, gradients_dtype=dtype))


def _own(config: TrainConfig) -> str | None:
    return config.trainer.gradients_dtype


GRADIENTS_DTYPE = DtypeChoice(GRADIENTS, "trainer.gradients_dtype", _in_dtype, _own)
