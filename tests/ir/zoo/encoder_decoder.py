"""A translation model: an encoder over the source, a decoder that attends to itself and to the source; Adam."""

from __future__ import annotations

import equinox as eqx
import jax
import optax
from zoo.training import Step, tokens, training_step

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray

Batch, Source, Target = Axis("batch", 4), Axis("source", 13), Axis("target", 10)
SourceVocab, Vocab, Layers = Axis("source_vocab", 26), Axis("vocab", 34), Axis("layers", 3)
Embed, Heads, HeadSize, Mlp = Axis("embed", 14), Axis("heads", 2), Axis("head_size", 7), Axis("mlp", 22)
KeySource, KeyTarget = Source.alias("key_source"), Target.alias("key_target")
PADDING = 0


class Attention(eqx.Module):
    """From the positions of `x` to those of `context`, each normalized before."""

    q: hnn.Linear
    kv: hnn.Linear
    out: hnn.Linear

    @staticmethod
    def init(key: jax.Array) -> Attention:
        keys = jax.random.split(key, 3)
        return Attention(
            hnn.Linear.init(Embed, (Heads, HeadSize), key=keys[0]),
            hnn.Linear.init(Embed, (Axis("kv", 2), Heads, HeadSize), key=keys[1]),
            hnn.Linear.init((Heads, HeadSize), Embed, key=keys[2]),
        )

    def __call__(self, x: NamedArray, context: NamedArray, ContextPos: Axis, mask: NamedArray) -> NamedArray:
        k, v = self.kv(context).unbind("kv")
        return self.out(hnn.attention.dot_product_attention(ContextPos, HeadSize, self.q(x), k, v, mask=mask))


class EncoderBlock(eqx.Module):
    """Attention over the source in both directions, and a feed-forward network."""

    norms: tuple[hnn.LayerNorm, hnn.LayerNorm]
    attention: Attention
    mlp: hnn.MLP

    @staticmethod
    def init(key: jax.Array) -> EncoderBlock:
        keys = jax.random.split(key)
        norms = (hnn.LayerNorm.init(Embed), hnn.LayerNorm.init(Embed))
        return EncoderBlock(norms, Attention.init(keys[0]), feed_forward(keys[1]))

    def __call__(self, x: NamedArray, real: NamedArray) -> NamedArray:
        normal = self.norms[0](x)
        context = normal.rename({"source": "key_source"})
        x = x + self.attention(normal, context, KeySource, real.rename({"source": "key_source"}))
        return x + self.mlp(self.norms[1](x)).rename({"embed_out": "embed"})


class DecoderBlock(eqx.Module):
    """Attention over earlier targets, then over the source, and a feed-forward network."""

    norms: tuple[hnn.LayerNorm, hnn.LayerNorm, hnn.LayerNorm]
    attention: Attention
    cross: Attention
    mlp: hnn.MLP

    @staticmethod
    def init(key: jax.Array) -> DecoderBlock:
        keys = jax.random.split(key, 3)
        norms = (hnn.LayerNorm.init(Embed), hnn.LayerNorm.init(Embed), hnn.LayerNorm.init(Embed))
        return DecoderBlock(norms, Attention.init(keys[0]), Attention.init(keys[1]), feed_forward(keys[2]))

    def __call__(self, x: NamedArray, source: NamedArray, real: NamedArray) -> NamedArray:
        normal = self.norms[0](x)
        causal = hnn.attention.causal_mask(Target, KeyTarget)
        x = x + self.attention(normal, normal.rename({"target": "key_target"}), KeyTarget, causal)
        x = x + self.cross(self.norms[1](x), source, Source, real)
        return x + self.mlp(self.norms[2](x)).rename({"embed_out": "embed"})


def feed_forward(key: jax.Array) -> hnn.MLP:
    return hnn.MLP.init(Embed, Embed.alias("embed_out"), Mlp, 2, key=key)


class Translator(eqx.Module):
    """Scores of the next target token, given the source and the targets before it."""

    source_embedding: hnn.Embedding
    source_positions: NamedArray
    target_embedding: hnn.Embedding
    target_positions: NamedArray
    encoder: hnn.Stacked
    decoder: hnn.Stacked
    norm: hnn.LayerNorm

    @staticmethod
    def init(key: jax.Array) -> Translator:
        keys = jax.random.split(key, 6)
        return Translator(
            hnn.Embedding.init(SourceVocab, Embed, key=keys[0]),
            hax.random.normal(keys[1], (Source, Embed)),
            hnn.Embedding.init(Vocab, Embed, key=keys[2]),
            hax.random.normal(keys[3], (Target, Embed)),
            hnn.Stacked.init(Layers, EncoderBlock)(jax.random.split(keys[4], Layers.size)),
            hnn.Stacked.init(Layers, DecoderBlock)(jax.random.split(keys[5], Layers.size)),
            hnn.LayerNorm.init(Embed),
        )

    def loss(self, batch: dict[str, NamedArray]) -> jax.Array:
        real = batch["source"] != PADDING
        source = self.encoder.fold(self.source_embedding(batch["source"]) + self.source_positions, real)
        x = self.decoder.fold(self.target_embedding(batch["tokens"]) + self.target_positions, source, real)
        logits = self.target_embedding.unembed(self.norm(x))
        counted = batch["targets"] != PADDING
        return hnn.cross_entropy_loss(logits, Vocab, batch["targets"], where=counted).scalar()


def build() -> Step:
    targets = tokens(Batch, Target)
    batch = {"source": tokens(Batch, Source), "tokens": targets, "targets": targets}
    return training_step(Translator.init, Translator.loss, optax.adam(1e-3), batch)
