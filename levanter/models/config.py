"""What every model is made from, as plain data.

The dataclasses here are what a YAML file and the command line fill in, so this file imports neither JAX nor haliax:
`levanter --help` and a config error must not wait for them. A family has a folder of its own beside this file, whose
model is imported when `build` is called.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from importlib import import_module, util
from typing import TYPE_CHECKING, Any

import draccus

from levanter.fields import SIZE, check, number
from levanter.registry import MODELS, TASKS, Choice

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.hf.family import HfFamily
    from levanter.models.lm_model import LmModel


COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
"""What matrix products can be computed in; float16 needs `trainer.loss_scale`."""
LOGITS_DTYPES = ("float32", "bfloat16")
"""What the scores of tokens can be kept in for the backward pass."""


@dataclass(frozen=True)
class InFolders:
    """What configs of models have in common that may lie in Hugging Face folders."""

    @classmethod
    def hf(cls) -> HfFamily | None:
        """How such models are read from and written as Hugging Face folders: FAMILY of the hf.py beside the config."""
        package, _, _ = cls.__module__.rpartition(".")
        name = f"{package}.hf"
        return import_module(name).FAMILY if package and util.find_spec(name) is not None else None


@dataclass(frozen=True)
class ModelConfig(InFolders, Choice, draccus.ChoiceRegistry, abc.ABC, registry=MODELS):
    """A kind of model, chosen by `type:`. A subclass builds the model that it describes."""

    seq_len: int = number(1024, SIZE)
    """Tokens in one training sequence: the size of axis `position`."""
    vocab_size: int = number(50257, SIZE)
    """Token ids the model knows; at least as many as the tokenizer has."""
    initialize_from: str | None = None
    """A Hugging Face model folder, or an id on the hub, to start from: its weights, and all fields not set here."""

    def __post_init__(self) -> None:
        check(self, "model")

    @property
    def Vocab(self) -> Axis:
        """Axis `vocab` as the model stores it (it may be longer than `vocab_size`)."""
        return axis("vocab", self.vocab_size)

    @property
    def Pos(self) -> Axis:
        """Axis `position`, of size `seq_len`."""
        return axis("position", self.seq_len)

    @abc.abstractmethod
    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        """A freshly initialized model over the axis `Vocab`; see `LmModel` for what it must be able to do."""


@dataclass(frozen=True)
class TaskConfig(InFolders, Choice, draccus.ChoiceRegistry, abc.ABC, registry=TASKS):
    """A kind of model that is no language model: it has inputs and a loss of its own, and a step of the user's trains
    it (docs/models.md)."""

    initialize_from: str | None = None
    """A Hugging Face model folder, or an id on the hub, that the config was read from."""

    def __post_init__(self) -> None:
        check(self, "model")

    @abc.abstractmethod
    def build(self, *, key: Any) -> Any:
        """A freshly initialized model."""


_CHECKPOINTING = "gradient_checkpointing"


def is_left_to_the_plan(model: object) -> bool:
    """Whether a config leaves it to the planner what the backward pass computes again: by null."""
    return hasattr(model, _CHECKPOINTING) and getattr(model, _CHECKPOINTING) is None


def left_to_the_plan(model: Any) -> Any:
    """The config of a model that computes nothing again by itself, so that the plan has all of it to decide."""
    return replace(model, **{_CHECKPOINTING: False}) if getattr(model, _CHECKPOINTING, False) else model


def vocab_axis(vocab_size: int, multiple: int) -> Axis:
    """Axis `vocab`, rounded up to a multiple, so that it divides over a mesh."""
    return axis("vocab", -(-vocab_size // multiple) * multiple)


def axis(name: str, size: int) -> Axis:
    from haliax import Axis

    return Axis(name, size)
