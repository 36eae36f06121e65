"""GPT-2 (Radford et al., 2019) with named axes.

    tokens [batch, position] → embeddings [batch, position, embed]
      → blocks, `layers` times: attention and an MLP, each after a norm and added to what it read
      → final norm, then the token embedding again as the output head: logits [batch, position, vocab]

No function here mentions a batch: an axis that a function does not name passes through it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from haliax.nn.attention import AttentionMask, attend
from levanter.models.lm_model import LmModel
from levanter.models.loss import mean_loss, next_token_loss, output_logits
from levanter.models.parts.places import Places
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.models.gpt2.config import Gpt2Config


class Attention(eqx.Module):
    """Causal multi-head self-attention."""

    qkv: hnn.Linear  # [embed] → [qkv, heads, head_size]
    out: hnn.Linear  # [heads, head_size] → [embed]
    KeyPos: Axis = eqx.field(static=True)
    HeadSize: Axis = eqx.field(static=True)

    @staticmethod
    def init(config: Gpt2Config, *, key: jax.Array) -> Attention:
        heads = (config.Heads, config.HeadSize)
        return Attention(
            qkv=_linear(config.Embed, (Axis("qkv", 3), *heads), config.initializer_range, rng.named(key, "qkv")),
            out=_linear(heads, config.Embed, _branch_scale(config), rng.named(key, "out")),
            KeyPos=config.KeyPos,
            HeadSize=config.HeadSize,
        )

    def __call__(self, x: NamedArray, mask: AttentionMask) -> NamedArray:
        """x [..., position, embed] → [..., position, embed]; the mask says which places each place sees"""
        KeyPos = self.KeyPos.resize(x.axis_size("position"))
        q, k, v = self.qkv(x).unbind("qkv")
        k, v = (each.rename({"position": "key_position"}) for each in (k, v))
        return self.out(attend(q, k, v, Key=self.HeadSize, KPos=KeyPos, mask=mask))


class Mlp(eqx.Module):
    """Two linear maps with a GELU between them."""

    up: hnn.Linear  # [embed] → [mlp]
    down: hnn.Linear  # [mlp] → [embed]

    @staticmethod
    def init(config: Gpt2Config, *, key: jax.Array) -> Mlp:
        return Mlp(
            up=_linear(config.Embed, config.Mlp, config.initializer_range, rng.named(key, "up")),
            down=_linear(config.Mlp, config.Embed, _branch_scale(config), rng.named(key, "down")),
        )

    def __call__(self, x: NamedArray) -> NamedArray:
        """x [..., embed] → [..., embed]"""
        return self.down(hnn.gelu(self.up(x)))  # by its tanh approximation, as GPT-2 was trained


class Block(eqx.Module):
    """One layer. Norms come before the branches, so that the residual stream itself is never normalized."""

    attention_norm: hnn.LayerNorm
    attention: Attention
    mlp_norm: hnn.LayerNorm
    mlp: Mlp
    dropout: hnn.Dropout

    @staticmethod
    def init(config: Gpt2Config, *, key: jax.Array) -> Block:
        return Block(
            attention_norm=_layer_norm(config),
            attention=Attention.init(config, key=rng.named(key, "attention")),
            mlp_norm=_layer_norm(config),
            mlp=Mlp.init(config, key=rng.named(key, "mlp")),
            dropout=hnn.Dropout(config.dropout),
        )

    def __call__(self, x: NamedArray, mask: AttentionMask, *, key: jax.Array | None) -> NamedArray:
        """x [..., position, embed] → [..., position, embed]; without a key nothing is dropped."""
        x = x + _drop(self.dropout, self.attention(self.attention_norm(x), mask), key, "attention")
        return x + _drop(self.dropout, self.mlp(self.mlp_norm(x)), key, "mlp")


class Embeddings(eqx.Module):
    """What a token is, plus where it stands."""

    tokens: hnn.Embedding  # [vocab, embed]
    positions: hnn.Embedding  # [position, embed]

    @staticmethod
    def init(config: Gpt2Config, Vocab: Axis, *, key: jax.Array) -> Embeddings:
        def table(Rows: Axis, name: str) -> hnn.Embedding:
            weight = _normal((Rows, config.Embed), config.initializer_range, rng.named(key, name))
            return hnn.Embedding(weight, Rows, config.Embed)

        return Embeddings(table(Vocab, "tokens"), table(config.Pos, "positions"))

    def __call__(self, tokens: NamedArray, positions: NamedArray | None = None) -> NamedArray:
        """tokens and positions (0, 1, … where not given) int32 [..., position] → [..., position, embed]"""
        # Ids are those of the tokenizer, whose vocabulary the table covers; no check of each is computed.
        vectors = self.tokens.weight.take(self.tokens.Vocab, tokens, mode="promise_in_bounds")
        if positions is None:
            return vectors + self.positions.weight["position", 0 : tokens.axis_size("position")]
        table = self.positions.weight.rename({"position": "place"})
        return vectors + table.take("place", positions, mode="promise_in_bounds")


class Gpt2LMHeadModel(LmModel):
    """The language model. Call it for logits; `loss` is what training minimizes."""

    embeddings: Embeddings
    blocks: hnn.Stacked  # [layers] of Block
    final_norm: hnn.LayerNorm
    head: NamedArray | None  # [vocab, embed], or None where the token embedding serves as the head
    config: Gpt2Config = eqx.field(static=True)

    @staticmethod
    def init(config: Gpt2Config, Vocab: Axis, *, key: jax.Array) -> Gpt2LMHeadModel:
        head = _normal((Vocab, config.Embed), config.initializer_range, rng.named(key, "head"))
        layer_keys = jax.random.split(rng.named(key, "blocks"), config.num_layers)
        # A loop over the layers and not a `vmap`: XLA compiles the drawing of random numbers three times as fast.
        layers = hax.map(lambda key: Block.init(config, key=key), config.Layers)(layer_keys)
        return Gpt2LMHeadModel(
            embeddings=Embeddings.init(config, Vocab, key=rng.named(key, "embeddings")),
            blocks=hnn.Stacked(layers, config.Layers, hnn.ScanCheckpointPolicy.of(config.gradient_checkpointing)),
            final_norm=_layer_norm(config),
            head=None if config.tie_word_embeddings else head,
            config=config,
        )

    def activations(
        self, tokens: NamedArray, *, key: jax.Array | None = None, segments: NamedArray | None = None
    ) -> NamedArray:
        """The residual stream after the last norm, in the compute dtype.

        Args:
            tokens: int32 [..., position], at most `seq_len` positions.
            key: for dropout; without it nothing is dropped.
            segments: int32 [..., position], equal for the tokens of one text; see `Places.of`.

        Returns: [..., position, embed].
        """
        model = _cast(self, self.config.compute_dtype)
        places = Places.of(tokens, segments)
        x = model.embeddings(tokens, None if segments is None else places.positions)
        x = _drop(hnn.Dropout(self.config.dropout), x, key, "embeddings")
        return model.final_norm(model.blocks.fold(x, places.mask, key=key))

    def logits(self, x: NamedArray) -> NamedArray:
        """x [..., embed], as `activations` gives it → float32 [..., vocab]"""
        return output_logits(x, self._head(x), self.config.Embed, self.config.vocab_size)

    @property
    def Pos(self) -> Axis:
        return self.config.Pos

    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> jax.Array:
        """Mean cross entropy in nats per target, and the z-loss; tokens and targets int32 [..., position]."""
        return self._loss(tokens, targets, key, self.config.z_loss)

    def evaluation_loss(self, tokens: NamedArray, targets: NamedArray) -> jax.Array:
        """The same without the z-loss, a float32 scalar."""
        return self._loss(tokens, targets, None, 0.0)

    def _loss(self, tokens: NamedArray, targets: NamedArray, key: jax.Array | None, z_loss: float) -> jax.Array:
        x = self.activations(tokens, key=key)
        losses = next_token_loss(x, self._head(x), targets, self.config.Embed, self.config.vocab_size, z_loss)
        return mean_loss(losses, targets)

    @property
    def Vocab(self) -> Axis:
        return self.embeddings.tokens.Vocab

    @property
    def drops_out(self) -> bool:
        return self.config.dropout > 0.0

    def _head(self, x: NamedArray) -> NamedArray:
        head = self.embeddings.tokens.weight if self.head is None else self.head
        return head.astype(x.dtype)


def _normal(axes: tuple[Axis, ...], scale: float, key: jax.Array) -> NamedArray:
    return hax.random.normal(key, axes, dtype=jnp.float32) * scale


def _linear(In: Axis | tuple[Axis, ...], Out: Axis | tuple[Axis, ...], scale: float, key: jax.Array) -> hnn.Linear:
    inputs, outputs = (axes if isinstance(axes, tuple) else (axes,) for axes in (In, Out))
    return hnn.Linear(weight=_normal(inputs + outputs, scale, key), bias=hax.zeros(outputs), In=In, Out=Out)


def _layer_norm(config: Gpt2Config) -> hnn.LayerNorm:
    return hnn.LayerNorm.init(config.Embed, eps=config.layer_norm_epsilon, dtype=jnp.float32)


def _branch_scale(config: Gpt2Config) -> float:
    # Two branches a layer add to the residual stream; this keeps its variance at the end independent of depth.
    return config.initializer_range / math.sqrt(2 * config.num_layers)


def _drop(dropout: hnn.Dropout, x: NamedArray, key: jax.Array | None, name: str) -> NamedArray:
    return x if key is None else dropout(x, key=rng.named(key, name))


def _cast(model: Gpt2LMHeadModel, dtype: str) -> Gpt2LMHeadModel:
    """The model with every parameter in the dtype that products are computed in; norms go back to float32 inside."""
    return jax.tree.map(lambda parameter: parameter.astype(dtype), model)
