"""Parameterizations: how a layer's initial weights, learning rate and output scale with its width.

An abc-parameterization (Yang and Hu, "Feature Learning in Infinite-Width Neural Networks", arXiv:2011.14522) is three
factors: *a* on what the layer computes (`active_scale`), *b* on its initial weights (`init_scale`), *c* on its learning
rate (`lr_scale`). The standard one has fan-in initial weights and nothing else. The maximal update one (muP) is chosen
so that a good learning rate stays good as the width grows. With fan-in n, for Adam (Yang et al., "Tensor Programs V",
arXiv:2203.03466, table 3, in its form with unit initial weights at both ends):

| layer  | `init_scale` | `lr_scale` | `active_scale` |
|--------|--------------|------------|----------------|
| input  | 1            | 1          | 1              |
| hidden | 1/sqrt(n)    | 1/n        | 1              |
| output | 1            | 1          | 1/n            |

The optimizer must apply `lr_scale` itself: `layer.reparam.lr_scale` says it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from haliax.axis import AxisSpec, axes_of


def size_of(spec: AxisSpec) -> int:
    """How many elements an array with these axes has; 1 without axes."""
    return math.prod(axis.size for axis in axes_of(spec))


class AbstractReparam(ABC):
    """The three factors of a parameterization."""

    @staticmethod
    @abstractmethod
    def init_scale(In: AxisSpec, Out: AxisSpec) -> float:
        """The standard deviation of the initial weights, from the axes `In` to the axes `Out`."""

    @property
    @abstractmethod
    def lr_scale(self) -> float:
        """The factor on the learning rate."""

    @property
    @abstractmethod
    def active_scale(self) -> float:
        """The factor on what the layer computes, before its bias."""


@dataclass
class AbstractLinearReparam(AbstractReparam):
    """A parameterization of a linear layer with these axes."""

    In: AxisSpec
    Out: AxisSpec


@dataclass
class AbstractEmbeddingReparam(AbstractReparam):
    """A parameterization of an embedding with these axes."""

    Embed: AxisSpec
    Vocab: AxisSpec

    @property
    @abstractmethod
    def unembed_active_scale(self) -> float:
        """The factor on the scores of `unembed`."""


class ReparamEnabled:
    """A layer with a parameterization: its attribute `reparam`."""

    reparam: Any


class _LinearUnscaled(AbstractLinearReparam):
    """Fan-in initial weights, and factors of 1."""

    @staticmethod
    def init_scale(In: AxisSpec, Out: AxisSpec) -> float:
        return 1.0 / math.sqrt(max(1, size_of(In)))

    @property
    def lr_scale(self) -> float:
        return 1.0

    @property
    def active_scale(self) -> float:
        return 1.0


class LinearStandardParam(_LinearUnscaled):
    """The standard parameterization: initial weights of standard deviation 1/sqrt(size of `In`)."""


class InputLinearMup(_LinearUnscaled):
    """muP for a layer whose input does not grow with the width."""

    @staticmethod
    def init_scale(In: AxisSpec, Out: AxisSpec) -> float:
        return 1.0


class HiddenLinearMup(_LinearUnscaled):
    """muP for a layer whose input and output grow with the width."""

    @property
    def lr_scale(self) -> float:
        return 1.0 / max(1, size_of(self.In))


class OutputLinearMup(_LinearUnscaled):
    """muP for a layer whose output does not grow with the width."""

    @staticmethod
    def init_scale(In: AxisSpec, Out: AxisSpec) -> float:
        return 1.0

    @property
    def active_scale(self) -> float:
        return 1.0 / max(1, size_of(self.In))


class EmbeddingStandardParam(AbstractEmbeddingReparam):
    """The standard parameterization of an embedding: initial weights of standard deviation 1/(size of `Embed`)."""

    @staticmethod
    def init_scale(In: AxisSpec, Out: AxisSpec) -> float:
        return 1.0 / max(1, size_of(Out))

    @property
    def lr_scale(self) -> float:
        return 1.0

    @property
    def active_scale(self) -> float:
        return 1.0

    @property
    def unembed_active_scale(self) -> float:
        return 1.0


class EmbeddingMup(EmbeddingStandardParam):
    """muP for an embedding, also one that serves as the output layer: then it has the factor of `OutputLinearMup`."""

    @staticmethod
    def init_scale(In: AxisSpec, Out: AxisSpec) -> float:
        return 1.0

    @property
    def unembed_active_scale(self) -> float:
        return 1.0 / max(1, size_of(self.Embed))
