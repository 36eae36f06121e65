"""The whole configuration of a run: one section for each component, whose dataclass lives with the component."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from levanter.adapters.config import AdapterConfig
from levanter.compiler.question import DeviceMesh, check_hardware, parse_mesh
from levanter.config import errors
from levanter.data.config import DataConfig
from levanter.errors import UserError
from levanter.models.config import ModelConfig, is_left_to_the_plan, left_to_the_plan
from levanter.optim.config import OptimizerConfig, with_moments_in
from levanter.registry import MODELS, OPTIMIZERS, SOURCES
from levanter.runtime import precision
from levanter.runtime.config import TrainerConfig
from levanter.trackers.section import TrackersConfig


@dataclass(frozen=True)
class TrainConfig:
    """What `levanter train` and `levanter compile` work on."""

    model: ModelConfig = field(default_factory=MODELS.make_default)
    adapter: AdapterConfig | None = None
    """What is trained in place of the model's own weights; null trains those."""
    data: DataConfig = field(default_factory=SOURCES.make_default)
    optimizer: OptimizerConfig = field(default_factory=OPTIMIZERS.make_default)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    trackers: TrackersConfig = field(default_factory=TrackersConfig)

    def __post_init__(self) -> None:
        policy = precision.parse(self.trainer.precision)
        object.__setattr__(self, "model", policy.applied(self.model))  # the class is frozen for all others
        try:
            _ = self.mesh
        except UserError as error:
            raise errors.in_field("trainer.mesh", error) from None
        plan = self.trainer.plan
        if plan is not None and parse_mesh(plan.mesh) != self.mesh:
            raise errors.plan_of_another_mesh(plan.source, plan.mesh, str(self.mesh))
        if plan is not None and plan.remat:
            object.__setattr__(self, "model", left_to_the_plan(self.model))
        if plan is not None and plan.microbatches is not None:
            self._follow(plan.source, plan.microbatches)
        self._check_moments()
        self._check_gradients()
        if self.trainer.elastic and (plan is not None and plan.remat or is_left_to_the_plan(self.model)):
            raise errors.elastic_remat(plan.source if plan is not None and plan.remat else None)
        try:
            check_hardware(self.trainer.hardware)
        except UserError as error:
            raise errors.in_field("trainer.hardware", error) from None

    def _follow(self, source: str, microbatches: int) -> None:
        """Takes the number of micro-batches of a plan."""
        if self.trainer.elastic and microbatches != self.trainer.microbatches:
            raise errors.elastic_microbatches(source, microbatches, self.trainer.microbatches)
        try:
            object.__setattr__(self, "trainer", replace(self.trainer, microbatches=microbatches))
        except UserError as error:
            raise errors.in_field(source, error) from None

    def _check_moments(self) -> None:
        """Takes what a plan says that moments are kept in; an elastic run has that from its configuration."""
        plan, own = self.trainer.plan, getattr(self.optimizer, "moments_dtype", "")
        planned = (plan.moments or "") if plan is not None else ""
        if self.trainer.elastic and (own is None or planned not in ("", own)):
            raise errors.elastic_moments(plan.source if plan is not None and planned else "", planned, own)
        if plan is not None and planned:
            object.__setattr__(self, "optimizer", with_moments_in(self.optimizer, planned, plan.source))

    def _check_gradients(self) -> None:
        """The same of gradients."""
        plan, own = self.trainer.plan, self.trainer.gradients_dtype
        planned = (plan.gradients or "") if plan is not None else ""
        if self.trainer.elastic and (own is None or planned not in ("", own)):
            raise errors.elastic_gradients(plan.source if plan is not None and planned else "", planned, own)
        if planned:
            object.__setattr__(self, "trainer", replace(self.trainer, gradients_dtype=planned))

    @cached_property
    def mesh(self) -> DeviceMesh:
        """The device mesh of `trainer.mesh`; one device where it is null."""
        return parse_mesh(self.trainer.mesh)
