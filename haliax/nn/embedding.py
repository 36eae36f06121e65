"""`Embedding`: a vector for each word of a vocabulary."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp

from haliax import errors, random
from haliax.axis import Axis, AxisSpec, axes_of
from haliax.core.array import NamedArray, wrap
from haliax.core.explicit import on_any_mesh
from haliax.nn._inputs import require
from haliax.nn.mup import AbstractEmbeddingReparam, EmbeddingStandardParam, ReparamEnabled
from haliax.ops.contract import dot
from haliax.ops.gathering import lookup_of
from haliax.ops.indexing import normalized, take
from haliax.ops.indexing import slice as slice_axis
from haliax.ops.reduce import mean, std
from haliax.ops.shape import concatenate


class Embedding(eqx.Module, ReparamEnabled):
    """A table of vectors, looked up by the index along `Vocab`.

    >>> Vocab, Embed = hax.make_axes(vocab=100, embed=8)
    >>> table = hax.nn.Embedding.init(Vocab, Embed, key=jax.random.key(0))
    >>> vectors = table(hax.named([[1, 2, 3]], ("batch", "position")))
    >>> vectors.shape
    {'batch': 1, 'position': 3, 'embed': 8}
    >>> table.unembed(vectors).shape
    {'batch': 1, 'position': 3, 'vocab': 100}
    """

    weight: NamedArray
    """Axes `Vocab`, then `Embed`."""
    Vocab: Axis = eqx.field(static=True)
    """The axis of the words."""
    Embed: AxisSpec = eqx.field(static=True)
    """The axes of a word's vector."""
    _reparam_cls: type[AbstractEmbeddingReparam] = eqx.field(static=True, default=EmbeddingStandardParam)

    @staticmethod
    def init(
        Vocab: Axis,
        Embed: AxisSpec,
        init_scale: float = 1.0,
        *,
        key: jax.Array,
        initializer_range: float | None = None,
        reparam_cls: type[AbstractEmbeddingReparam] = EmbeddingStandardParam,
    ) -> Embedding:
        """A table of truncated normal numbers, cut at three standard deviations.

        The standard deviation before the cut is `init_scale` times that of the parameterization, which is
        1/(size of `Embed`) unless said otherwise.

        Args:
            Vocab: the axis of the words.
            Embed: the axes of a vector.
            init_scale: a factor on the initial weights.
            key: a random key.
            initializer_range: the older name of `init_scale`.
            reparam_cls: the parameterization; see `haliax.nn.mup`.
        """
        scale = init_scale if initializer_range is None else initializer_range
        weight = random.truncated_normal(key, (Vocab, *axes_of(Embed)), -3.0, 3.0)
        return Embedding(weight * (scale * reparam_cls.init_scale(Vocab, Embed)), Vocab, Embed, reparam_cls)

    def __call__(self, input_ids: NamedArray | int | jax.Array, *, key: jax.Array | None = None) -> NamedArray:
        """See `embed`; the key is not used."""
        return self.embed(input_ids)

    @on_any_mesh
    def embed(self, input_ids: NamedArray | int | jax.Array) -> NamedArray:
        """The vectors of the words: the axes of `input_ids`, then `Embed`.

        An id that is not of a word, a negative one too, gives NaN.
        """
        dtype = getattr(input_ids, "dtype", None)
        if dtype is not None and not jnp.issubdtype(dtype, jnp.integer) and dtype != jnp.bool_:
            raise errors.not_indices("Embedding", "input_ids", input_ids)
        words = normalized(self.weight, self.Vocab.name, input_ids)
        if isinstance(words, NamedArray):
            lookup, axes = lookup_of(self.weight, {self.Vocab.name: words})
            rows = jnp.asarray(self.weight.array).at[lookup]
            vectors = wrap(rows.get(mode="fill", wrap_negative_indices=False), axes)
        else:
            vectors = take(self.weight, self.Vocab, words)
        scale = self.reparam.active_scale
        return vectors if scale == 1 else vectors * scale

    def unembed(self, input_embeds: NamedArray) -> NamedArray:
        """The scores of each word: the axes of `input_embeds` without `Embed`, then `Vocab`."""
        require("Embedding", "input_embeds", input_embeds, axes_of(self.Embed), Vocab=self.Vocab, Embed=self.Embed)
        scores = dot(input_embeds, self.weight, axis=self.Embed)
        scale = self.reparam.unembed_active_scale
        return scores if scale == 1 else scores * scale

    @property
    def reparam(self) -> AbstractEmbeddingReparam:
        """The parameterization of the table, with its factors."""
        return self._reparam_cls(self.Embed, self.Vocab)

    def resize_embeddings(self, new_size: int, key: jax.Array | None = None) -> Embedding:
        """The table for a vocabulary of another size.

        Words beyond the new size are dropped. New ones get the mean vector or, given a key, normal numbers with the
        mean and the standard deviation of the words.
        """
        Vocab = self.Vocab.resize(new_size)
        if new_size <= self.Vocab.size:
            return dataclasses.replace(self, weight=slice_axis(self.weight, self.Vocab, Vocab), Vocab=Vocab)
        New = self.Vocab.resize(new_size - self.Vocab.size)
        axes = (New, *axes_of(self.Embed))
        rows = mean(self.weight, self.Vocab).broadcast_axis(New)
        if key is not None:
            rows = rows + random.normal(key, axes) * std(self.weight, self.Vocab)
        rows = rows.rearrange(axes).astype(self.weight.dtype)
        return dataclasses.replace(self, weight=concatenate(Vocab, [self.weight, rows]), Vocab=Vocab)
