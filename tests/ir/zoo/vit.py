"""A vision transformer: patches by a strided convolution, a class token, unrolled layers; SGD with momentum."""

from __future__ import annotations

import equinox as eqx
import jax
import optax
from zoo.training import Step, floats, tokens, training_step

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray

Batch, Channels, Height, Width = Axis("batch", 4), Axis("channels", 3), Axis("height", 12), Axis("width", 20)
PATCH = 4
Patches = Axis("position", (Height.size // PATCH) * (Width.size // PATCH))
Position, KeyPosition = Patches.resize(Patches.size + 1), Axis("key_position", Patches.size + 1)
Embed, Heads, HeadSize, Mlp = Axis("embed", 14), Axis("heads", 2), Axis("head_size", 7), Axis("mlp", 22)
Classes, Layers = Axis("classes", 10), Axis("layers", 2)


class Block(eqx.Module):
    """Attention among all patches, and a feed-forward network, each behind a norm."""

    attention_norm: hnn.LayerNorm
    qkv: hnn.Linear
    out: hnn.Linear
    mlp_norm: hnn.LayerNorm
    mlp: hnn.MLP

    @staticmethod
    def init(key: jax.Array) -> Block:
        keys = jax.random.split(key, 3)
        return Block(
            hnn.LayerNorm.init(Embed),
            hnn.Linear.init(Embed, (Axis("qkv", 3), Heads, HeadSize), key=keys[0]),
            hnn.Linear.init((Heads, HeadSize), Embed, key=keys[1]),
            hnn.LayerNorm.init(Embed),
            hnn.MLP.init(Embed, Embed.alias("embed_out"), Mlp, 2, key=keys[2], activation=hnn.gelu),
        )

    def __call__(self, x: NamedArray) -> NamedArray:
        q, k, v = self.qkv(self.attention_norm(x)).unbind("qkv")
        k, v = (each.rename({"position": "key_position"}) for each in (k, v))
        x = x + self.out(hnn.attention.dot_product_attention(KeyPosition, HeadSize, q, k, v))
        return x + self.mlp(self.mlp_norm(x)).rename({"embed_out": "embed"})


class VisionTransformer(eqx.Module):
    """From images to scores of the classes."""

    patches: hnn.Conv
    positions: NamedArray
    class_token: NamedArray
    blocks: hnn.BlockSeq
    norm: hnn.LayerNorm
    head: hnn.Linear

    @staticmethod
    def init(key: jax.Array) -> VisionTransformer:
        keys = jax.random.split(key, 4)
        return VisionTransformer(
            hnn.Conv.init((Height, Width), Channels, Embed, PATCH, stride=PATCH, key=keys[0]),
            hax.random.normal(keys[1], (Position, Embed)),
            hax.zeros(Embed),
            hnn.BlockSeq.init(Layers, Block)(jax.random.split(keys[2], Layers.size)),
            hnn.LayerNorm.init(Embed),
            hnn.Linear.init(Embed, Classes, key=keys[3]),
        )

    def loss(self, batch: dict[str, NamedArray]) -> jax.Array:
        x = hax.flatten_axes(self.patches(batch["images"]), ("height", "width"), Patches)
        first = self.class_token.broadcast_axis((Batch, Axis("position", 1)))
        x = hax.concatenate(Position, [first, x.rearrange((Batch, Patches, Embed))]) + self.positions
        x = self.norm(self.blocks.fold(x))
        return hnn.cross_entropy_loss(self.head(x["position", 0]), Classes, batch["labels"]).scalar()


def build() -> Step:
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1e-2, momentum=0.9, nesterov=True))
    batch = {"images": floats(Batch, Channels, Height, Width), "labels": tokens(Batch)}
    return training_step(VisionTransformer.init, VisionTransformer.loss, optimizer, batch)
