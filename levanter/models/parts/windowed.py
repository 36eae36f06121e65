"""Configs of decoders whose layers differ in how far they see, as plain data (no JAX here)."""

from __future__ import annotations

from dataclasses import dataclass

from levanter.fields import COUNT, SIZE, number
from levanter.models.parts.config import DecoderConfig


@dataclass(frozen=True)
class UpperWindowConfig(DecoderConfig):
    """The first layers see all, those above them a window, as in Qwen."""

    sliding_window: int | None = number(None, SIZE)
    """How many positions back a place sees in the layers from `full_layers` on; null means all."""
    full_layers: int = number(28, COUNT)
    """The first layers, in which a place sees all before it."""

    @property
    def windows(self) -> tuple[int | None, ...]:
        return tuple(None if layer < self.full_layers else self.sliding_window for layer in range(self.num_layers))


@dataclass(frozen=True)
class LocalGlobalConfig(DecoderConfig):
    """Layers with a window, and one that sees all after every few of them, as in Gemma 2 and 3."""

    sliding_window: int = number(4096, SIZE)
    """How many positions back a place sees in the layers with a window, its own among them."""
    global_every: int = number(2, SIZE)
    """In every layer whose number, counted from 1, is a multiple of this, a place sees all before it."""
    query_scale_size: int = number(256, SIZE)
    """Scores are divided by the square root of this."""

    @property
    def windows(self) -> tuple[int | None, ...]:
        numbers = range(1, self.num_layers + 1)
        return tuple(None if number % self.global_every == 0 else self.sliding_window for number in numbers)
