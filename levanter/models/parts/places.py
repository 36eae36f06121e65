"""Where the tokens of a text stand: what all layers of a decoder need to know of it, made once."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp

import haliax as hax
from haliax import NamedArray
from haliax.nn.attention import AttentionMask
from levanter.models.parts.cache import Start


class Places(eqx.Module):
    """The places of some tokens.

    Attributes:
        positions: int32 [..., position], counted from the first token of each text.
        mask: which places each place sees, before a layer's window.
        start: the place of the first token in a cache: a number, or int32 with the axes of a batch; None without one.
    """

    positions: NamedArray
    mask: AttentionMask
    start: Start | None = None

    @staticmethod
    def of(tokens: NamedArray, segments: NamedArray | None = None) -> Places:
        """The places of whole texts.

        Args:
            tokens: [..., position].
            segments: int32 [..., position], equal for the tokens of one text, which are neighbours; None where all are
                of one. A token sees those of its text, and positions count from the first of them.
        """
        Pos = tokens.resolve_axis("position")
        place = hax.arange(Pos)
        if segments is None:
            return Places(place, AttentionMask(causal=True))
        before = hax.roll(segments, 1, Pos)
        begins = (segments != before) | (place == 0)
        firsts = hax.where(begins, place.broadcast_axis(segments.axes).rearrange(begins.axes), 0)
        firsts = hax.named(jnp.maximum.accumulate(firsts.array, axis=firsts.axes.index(Pos)), firsts.axes)
        keys = segments.rename({"position": "key_position"})
        return Places(place - firsts, AttentionMask(causal=True, segments=(segments, keys)))

    @staticmethod
    def after(tokens: NamedArray, start: Start) -> Places:
        """The places of tokens that follow others in a cache; `start` is that of the first, for each row."""
        place = hax.arange(tokens.resolve_axis("position"))
        rows = place.broadcast_axis(start.axes) if isinstance(start, NamedArray) else place
        return Places(rows + start, AttentionMask(causal=True, starts=start), start)
