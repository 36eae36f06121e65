"""Rotary positions: pairs of a head's elements are turned by an angle that grows with the position.

Source: Su et al., "RoFormer", arXiv:2104.09864. Element i is paired with element i + half, as in GPT-NeoX and LLaMA.
How frequencies are scaled for longer texts: Chen et al., arXiv:2306.15595 (linear); Peng et al., "YaRN",
arXiv:2309.00071 (yarn, dynamic); Grattafiori et al., "The Llama 3 Herd of Models", arXiv:2407.21783 (llama3); Ding et
al., "LongRoPE", arXiv:2402.13753 (longrope).
"""

from __future__ import annotations

import math

import equinox as eqx
import jax.numpy as jnp

import haliax as hax
from haliax import Axis, NamedArray
from levanter.models.parts.rope_config import RopeConfig


class Rotation(eqx.Module):
    """The angles of a text's positions: cosine and sine, float32 [..., position, head_size/2]."""

    cos: NamedArray
    sin: NamedArray

    @staticmethod
    def of(config: RopeConfig, positions: NamedArray, HeadSize: Axis, longest: int) -> Rotation:
        """The angles at `positions`, int32 [..., position].

        Args:
            longest: the positions that the model reads, where the config names no original number of them.
        """
        frequencies, scale = _frequencies(config, positions, HeadSize.size, longest)
        angles = positions.astype(jnp.float32).broadcast_axis(frequencies.axes).rearrange((..., *frequencies.axes))
        angles = angles * frequencies
        return Rotation(hax.cos(angles) * scale, hax.sin(angles) * scale)

    def __call__(self, x: NamedArray) -> NamedArray:
        """x [..., position, ..., head_size], each pair turned by the angle of its position; same axes and dtype."""
        half = self.cos.resolve_axis("head_size").size
        size = x.resolve_axis("head_size").size
        own = x.astype(jnp.float32)
        first, second = own["head_size", 0:half], own["head_size", half : 2 * half]
        turned = [first * self.cos - second * self.sin, second * self.cos + first * self.sin]
        if 2 * half < size:
            turned.append(own["head_size", 2 * half : size])
        order = tuple(axis.name for axis in first.axes)
        return hax.concatenate("head_size", [part.rearrange(order) for part in turned]).astype(x.dtype)


def _frequencies(config: RopeConfig, positions: NamedArray, head_size: int, longest: int) -> tuple[NamedArray, float]:
    """Radians a position for each pair, float32 [head_size/2], and what cosine and sine are multiplied by."""
    turned = int(head_size * config.fraction)
    exponents = jnp.arange(0, turned, 2, dtype=jnp.float32) / turned
    plain = 1.0 / config.theta**exponents
    original = config.original_positions or longest
    scale = 1.0
    if config.scaling == "linear":
        plain = plain / config.factor
    elif config.scaling == "dynamic":
        # The base grows with the text, once that is longer than what was trained on.
        length = jnp.maximum(positions.array.max() + 1, original).astype(jnp.float32)
        growth = config.factor * length / original - (config.factor - 1)
        plain = 1.0 / (config.theta * growth ** (turned / (turned - 2))) ** exponents
    elif config.scaling == "llama3":
        plain = _by_turns(plain, config, original)
    elif config.scaling == "yarn":
        plain = _by_index(plain, config, original, turned)
        scale = config.attention_factor or 0.1 * math.log(config.factor) + 1.0
    elif config.scaling == "longrope":
        is_long = positions.array.max() + 1 > original
        divisors = jnp.where(is_long, jnp.asarray(config.long_factors), jnp.asarray(config.short_factors))
        plain = plain / divisors
        formula = math.sqrt(1 + math.log(config.factor) / math.log(original)) if config.factor > 1 else 1.0
        scale = config.attention_factor or formula
    return hax.named(plain, (Axis("head_size", turned // 2),)), scale


def _by_turns(frequencies, config: RopeConfig, original: int):
    """Slow frequencies divided by the factor, fast ones as they are, and a mixture between (llama3)."""
    turns = original * frequencies / (2 * math.pi)
    low, high = config.low_frequency_factor, config.high_frequency_factor
    kept = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
    return kept * frequencies + (1 - kept) * frequencies / config.factor


def _by_index(frequencies, config: RopeConfig, original: int, turned: int):
    """The same, with a ramp along the index of the frequency (YaRN, section 3.2)."""

    def index_of(turns: float) -> float:
        return turned * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(config.theta))

    low = max(math.floor(index_of(config.beta_fast)), 0)
    high = min(math.ceil(index_of(config.beta_slow)), turned - 1)
    ramp = (jnp.arange(turned // 2, dtype=jnp.float32) - low) / max(high - low, 0.001)
    kept = 1.0 - jnp.clip(ramp, 0.0, 1.0)
    return kept * frequencies + (1 - kept) * frequencies / config.factor
