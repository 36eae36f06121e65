"""The keys and values of the tokens so far, so that a further token need not read the text again."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

import haliax as hax
from haliax import Axis, NamedArray

Start = NamedArray | int | jax.Array
"""The place of the first of some tokens: int32 with the axes of the batch, or one number for all, maybe traced."""


class Cache(eqx.Module):
    """Keys and values, [layers, ..., key_position, kv_heads, head_size] each; inside a block without `layers`."""

    keys: NamedArray
    values: NamedArray

    @staticmethod
    def empty(axes: tuple[Axis, ...], dtype: Any) -> Cache:
        """A cache that holds nothing."""
        return Cache(hax.zeros(axes, dtype=dtype), hax.zeros(axes, dtype=dtype))

    def extended(self, start: Start, keys: NamedArray, values: NamedArray) -> Cache:
        """The cache with `keys` and `values` [..., key_position, ...] from the place `start` of each row on."""
        at = {"key_position": start}
        return Cache(self.keys.updated_slice(at, keys), self.values.updated_slice(at, values))
