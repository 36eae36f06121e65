"""What an adapter is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import draccus

from levanter.fields import check
from levanter.registry import ADAPTERS, Choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from levanter.models.config import ModelConfig
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class AdapterConfig(Choice, draccus.ChoiceRegistry, abc.ABC, registry=ADAPTERS):
    """A kind of adapter, chosen by `type:`. The model's own weights are frozen, and only the adapter is trained."""

    def __post_init__(self) -> None:
        check(self, "adapter")

    @abc.abstractmethod
    def adapted(self, model: LmModel, key: Any) -> LmModel:
        """The model with fresh adapters in its tree, which compute what it computed.

        Raises:
            UserError: a target is no part of the model.
        """

    @abc.abstractmethod
    def is_adapter(self, name: str) -> bool:
        """Whether a parameter, by its name, is the adapter's."""

    @abc.abstractmethod
    def merged(self, model: Any) -> Any:
        """The model with its adapters' changes in its own weights, and no adapters."""

    @abc.abstractmethod
    def layers(self, model: Any) -> dict[str, Any]:
        """The layers of an adapted model that have an adapter, by name."""

    def starting_arrays(self, model: ModelConfig, base: Any, adapted: Any) -> Mapping[str, Any]:
        """The arrays of adapters that the configuration names to start from, by name; none where it names none.

        Args:
            base, adapted: the model without and with its adapters; shapes will do.

        Raises:
            UserError: they cannot be read or do not fit.
        """
        return {}

    def dropped(self, model: Any, key: Any) -> Any:
        """The model as a step of training sees it, which may drop a part of the adapter by a random key."""
        return model

    @property
    def drops_out(self) -> bool:
        """Whether `dropped` drops anything."""
        return False
