"""How positions turn queries and keys, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass

from levanter.fields import LARGEST_SIZE, above, at_least, between, check, number, word
from levanter.models import errors

SCALINGS = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")


@dataclass(frozen=True)
class RopeConfig:
    """Rotary positions (Su et al., 2021, arXiv:2104.09864), and how a longer text than was trained on is fitted in."""

    theta: float = number(10000.0, above(0))
    """The slowest frequency turns once in about 2π times this many positions."""
    fraction: float = number(1.0, between(0, 1))
    """Share of a head's elements that are turned; the others know no position."""
    scaling: str = word("default", SCALINGS)
    """How frequencies are scaled: default (not at all), linear, dynamic, yarn, llama3 or longrope."""
    factor: float = number(1.0, at_least(1))
    """How many times longer the texts are (linear, dynamic, yarn, llama3, longrope)."""
    original_positions: int | None = number(None, between(1, LARGEST_SIZE))
    """Positions that the model was first trained on (dynamic, yarn, llama3, longrope); null means `seq_len`."""
    low_frequency_factor: float = number(1.0, above(0))
    """Frequencies that turn fewer times than this in the original length are divided by `factor` (llama3)."""
    high_frequency_factor: float = number(4.0, above(0))
    """Frequencies that turn more times than this in the original length stay as they are (llama3)."""
    beta_fast: float = number(32.0, above(0))
    """Frequencies that turn more times than this in the original length stay as they are (yarn)."""
    beta_slow: float = number(1.0, above(0))
    """Frequencies that turn fewer times than this in the original length are divided by `factor` (yarn)."""
    attention_factor: float | None = number(None, above(0))
    """Queries and keys are multiplied by this (yarn, longrope); null takes the formula of the paper."""
    short_factors: list[float] | None = None
    """A divisor for each frequency in texts up to the original length (longrope)."""
    long_factors: list[float] | None = None
    """A divisor for each frequency in longer texts (longrope)."""

    def __post_init__(self) -> None:
        check(self, "model.rope")
        if self.scaling == "longrope" and (self.short_factors is None or self.long_factors is None):
            raise errors.longrope_without_factors()
