"""ViT (Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929) with named axes.

images [batch, height, width, channels] → patches [batch, position, embed], behind one learned place
  → blocks, `layers` times → final norm → the head at the learned place: logits [batch, labels]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.models.parts import initial
from levanter.models.parts.precision import in_dtype
from levanter.models.parts.transformer import EncoderBlock, MultiHeadAttention, PlainMlp, layer_norm
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.models.vit.config import VitConfig


class PatchEmbedding(eqx.Module):
    """An image as a sequence: a vector for each of its patches, row by row, and one for the whole before them."""

    projection: hnn.Linear  # [channels, patch_height, patch_width] → [embed]
    whole: NamedArray  # [embed]
    positions: NamedArray  # [position, embed]

    @staticmethod
    def init(config: VitConfig, *, key: jax.Array) -> PatchEmbedding:
        def random(axes: tuple[Axis, ...], name: str) -> NamedArray:
            return initial.normal(axes, config.initializer_range, rng.named(key, name))

        inputs = (config.Image[2], *config.Patch)
        return PatchEmbedding(
            projection=initial.linear(inputs, config.Embed, config.initializer_range, rng.named(key, "projection")),
            whole=random((config.Embed,), "whole"),
            positions=random((config.Pos, config.Embed), "positions"),
        )

    def __call__(self, images: NamedArray) -> NamedArray:
        """images [..., height, width, channels] → [..., position, embed]"""
        for name in ("height", "width"):
            Side, Patch = images.resolve_axis(name), self.projection.weight.resolve_axis(f"patch_{name}")
            images = images.unflatten_axis(Side, (Axis(f"patches_{name}", Side.size // Patch.size), Patch))
        vectors = self.projection(images).flatten_axes(("patches_height", "patches_width"), "position")
        first = self.whole.broadcast_axis(vectors.axes[:-2]).broadcast_axis(Axis("position", 1))
        first = first.rearrange((*vectors.axes[:-2], "position", "embed"))
        sequence = hax.concatenate("position", [first, vectors.rearrange((..., "position", "embed"))])
        return sequence + self.positions


class VitClassifier(eqx.Module):
    """What an image shows. Call it for logits; `loss` is what training minimizes."""

    embeddings: PatchEmbedding
    blocks: hnn.Stacked  # [layers] of EncoderBlock
    final_norm: hnn.LayerNorm
    head: hnn.Linear  # [embed] → [labels]
    config: VitConfig = eqx.field(static=True)

    @staticmethod
    def init(config: VitConfig, *, key: jax.Array) -> VitClassifier:
        layer_keys = jax.random.split(rng.named(key, "blocks"), config.num_layers)
        layers = hax.map(lambda key: block(config, key=key), config.Layers)(layer_keys)
        return VitClassifier(
            embeddings=PatchEmbedding.init(config, key=rng.named(key, "embeddings")),
            blocks=hnn.Stacked(layers, config.Layers, hnn.ScanCheckpointPolicy.of(bool(config.gradient_checkpointing))),
            final_norm=layer_norm(config.Embed, config.layer_norm_epsilon),
            head=initial.linear(config.Embed, config.Labels, config.initializer_range, rng.named(key, "head")),
            config=config,
        )

    def __call__(self, images: NamedArray) -> NamedArray:
        """images float [..., height, width, channels] → logits float32 [..., labels]"""
        model = in_dtype(self, self.config.compute_dtype)
        x = model.embeddings(images.astype(self.config.compute_dtype))
        x = model.final_norm(model.blocks.fold_via(lambda block, x: block(x, "position"))(x))
        return model.head(x["position", 0]).astype(jnp.float32)

    def loss(self, images: NamedArray, labels: NamedArray) -> jax.Array:
        """Mean cross entropy in nats per image, a float32 scalar.

        Args:
            images: float [..., height, width, channels].
            labels: int32 [...].
        """
        Labels = self.config.Labels
        logits = self(images)
        return hax.mean(hnn.cross_entropy_loss(logits, Labels, hnn.one_hot(labels, Labels))).scalar()


def block(config: VitConfig, *, key: jax.Array) -> EncoderBlock:
    """One layer."""
    Embed, scale, eps = config.Embed, config.initializer_range, config.layer_norm_epsilon
    attention_key = rng.named(key, "attention")
    return EncoderBlock(
        attention_norm=layer_norm(Embed, eps),
        attention=MultiHeadAttention.init(Embed, config.Heads, scale, use_bias=config.qkv_bias, key=attention_key),
        mlp_norm=layer_norm(Embed, eps),
        mlp=PlainMlp.init(Embed, config.Mlp, scale, key=rng.named(key, "mlp")),
    )
