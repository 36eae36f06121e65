"""What the optimizer keeps its running means in, as a choice of the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from levanter.compiler.dtypes import DtypeChoice
from levanter.optim.config import MomentsConfig, with_moments_in
from passes.planner.constraints import MOMENTS

if TYPE_CHECKING:
    from levanter.config.schema import TrainConfig


def _in_dtype(config: TrainConfig, dtype: str, source: str) -> TrainConfig:
    return replace(config, optimizer=with_moments_in(config.optimizer, dtype, source))


def _own(config: TrainConfig) -> str | None:
    return config.optimizer.moments_dtype if isinstance(config.optimizer, MomentsConfig) else ""


MOMENTS_DTYPE = DtypeChoice(MOMENTS, "optimizer.moments_dtype", _in_dtype, _own)
