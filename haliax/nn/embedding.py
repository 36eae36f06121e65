"""`Embedding`: a vector for each word of a vocabulary."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from haliax import random
from haliax.array import NamedArray, wrap
from haliax.axis import Axis, AxisSpec, axes_of
from haliax.contract import dot
from haliax.indexing import slice as slice_axis
from haliax.indexing import take
from haliax.shape import concatenate


class Embedding(eqx.Module):
    """A table of vectors, looked up by the index along `Vocab`."""

    weight: NamedArray
    Vocab: Axis = eqx.field(static=True)
    Embed: AxisSpec = eqx.field(static=True)

    @staticmethod
    def init(Vocab: Axis, Embed: AxisSpec, init_scale: float = 1.0, *, key: jax.Array) -> Embedding:
        """A table of truncated normal numbers of standard deviation `init_scale`."""
        axes = (Vocab, *axes_of(Embed))
        return Embedding(random.truncated_normal(key, axes, -3.0, 3.0) * init_scale, Vocab, Embed)

    def __call__(self, input_ids: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        """See `embed`."""
        return self.embed(input_ids)

    def embed(self, input_ids: NamedArray) -> NamedArray:
        """The vectors of the words: the axes of `input_ids`, then `Embed`.

        This is one gather, without a check: the caller answers for `0 <= input_ids < Vocab.size`. Out of range, the
        lookup gives the vector of the nearest word, and its gradient is lost.
        """
        return take(self.weight, self.Vocab, input_ids, mode="promise_in_bounds")

    def unembed(self, input_embeds: NamedArray) -> NamedArray:
        """The scores of each word: the axes of `input_embeds` without `Embed`, then `Vocab`."""
        return dot(input_embeds, self.weight, axis=self.Embed)

    def resize_embeddings(self, new_size: int, key: jax.Array | None = None) -> Embedding:
        """The table for a vocabulary of another size.

        Words beyond the new size are dropped; new ones get the mean vector or, given a key, random ones with the
        standard deviation of the table.
        """
        Vocab = self.Vocab.resize(new_size)
        if new_size <= self.Vocab.size:
            return Embedding(slice_axis(self.weight, self.Vocab, Vocab), Vocab, self.Embed)
        New = self.Vocab.resize(new_size - self.Vocab.size)
        axes = (New, *axes_of(self.Embed))
        if key is None:
            mean = jnp.mean(self.weight.array, axis=0, keepdims=True)
            rows = wrap(jnp.broadcast_to(mean, (New.size, *mean.shape[1:])), axes)
        else:
            rows = random.normal(key, axes) * jnp.std(self.weight.array)
        rows = rows.astype(self.weight.dtype)
        return Embedding(concatenate(Vocab, [self.weight, rows]), Vocab, self.Embed)
