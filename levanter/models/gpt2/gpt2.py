"""GPT-2 (Radford et al., 2019) with named axes.

    tokens [batch, position] → embeddings [batch, position, embed]
      → blocks, `layers` times: attention and an MLP, each after a norm and added to what it read
      → final norm, then the token embedding again as the output head: logits [batch, position, vocab]

No function here mentions a batch: an axis that a function does not name passes through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from haliax.nn.attention import attend
from levanter.models.lm_model import LmModel
from levanter.models.loss import mean_loss, next_token_loss, output_logits
from levanter.models.parts import initial
from levanter.models.parts.cache import Cache, Start
from levanter.models.parts.places import Places
from levanter.models.parts.precision import in_dtype
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.models.gpt2.config import Gpt2Config


class Attention(eqx.Module):
    """Causal multi-head self-attention."""

    qkv: hnn.Linear  # [embed] → [qkv, heads, head_size]
    out: hnn.Linear  # [heads, head_size] → [embed]
    HeadSize: Axis = eqx.field(static=True)

    @staticmethod
    def init(config: Gpt2Config, *, key: jax.Array) -> Attention:
        heads, scale = (config.Heads, config.HeadSize), config.initializer_range
        return Attention(
            qkv=initial.linear(config.Embed, (Axis("qkv", 3), *heads), scale, rng.named(key, "qkv")),
            out=initial.linear(heads, config.Embed, _branch_scale(config), rng.named(key, "out")),
            HeadSize=config.HeadSize,
        )

    def __call__(self, x: NamedArray, places: Places, cache: Cache | None) -> tuple[NamedArray, Cache | None]:
        """x [..., position, embed] → the same axes, and the cache with the keys and values of these tokens."""
        q, k, v = self.qkv(x).unbind("qkv")
        k, v = (each.rename({"position": "key_position"}) for each in (k, v))
        if cache is not None:
            assert places.start is not None
            cache = cache.extended(places.start, k, v)
            k, v = cache.keys.astype(q.dtype), cache.values.astype(q.dtype)
        return self.out(attend(q, k, v, Key=self.HeadSize, KPos="key_position", mask=places.mask)), cache


class Mlp(eqx.Module):
    """Two linear maps with a GELU between them."""

    up: hnn.Linear  # [embed] → [mlp]
    down: hnn.Linear  # [mlp] → [embed]

    @staticmethod
    def init(config: Gpt2Config, *, key: jax.Array) -> Mlp:
        return Mlp(
            up=initial.linear(config.Embed, config.Mlp, config.initializer_range, rng.named(key, "up")),
            down=initial.linear(config.Mlp, config.Embed, _branch_scale(config), rng.named(key, "down")),
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

    def __call__(
        self, x: NamedArray, places: Places, cache: Cache | None, *, key: jax.Array | None
    ) -> tuple[NamedArray, Cache | None]:
        """x [..., position, embed] → the same axes, and the layer's cache; without a key nothing is dropped."""
        attended, cache = self.attention(self.attention_norm(x), places, cache)
        x = x + _drop(self.dropout, attended, key, "attention")
        return x + _drop(self.dropout, self.mlp(self.mlp_norm(x)), key, "mlp"), cache


class Embeddings(eqx.Module):
    """What a token is, plus where it stands."""

    tokens: hnn.Embedding  # [vocab, embed]
    positions: hnn.Embedding  # [position, embed]

    @staticmethod
    def init(config: Gpt2Config, Vocab: Axis, *, key: jax.Array) -> Embeddings:
        def table(Rows: Axis, name: str) -> hnn.Embedding:
            weight = initial.normal((Rows, config.Embed), config.initializer_range, rng.named(key, name))
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
        head = initial.normal((Vocab, config.Embed), config.initializer_range, rng.named(key, "head"))
        layer_keys = jax.random.split(rng.named(key, "blocks"), config.num_layers)
        # A loop over the layers and not a `vmap`: XLA compiles the drawing of random numbers three times as fast.
        layers = hax.map(lambda key: Block.init(config, key=key), config.Layers)(layer_keys)
        return Gpt2LMHeadModel(
            embeddings=Embeddings.init(config, Vocab, key=rng.named(key, "embeddings")),
            blocks=hnn.Stacked(layers, config.Layers, hnn.ScanCheckpointPolicy.of(bool(config.gradient_checkpointing))),
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
        places = Places.of(tokens, segments)
        return self._run(tokens, places, None if segments is None else places.positions, None, key)[0]

    def cache(self, batch: tuple[Axis, ...], length: int, dtype: Any = None) -> Cache:
        """An empty cache for `length` places of each row of a batch; by default in the compute dtype."""
        config = self.config
        axes = (config.Layers, *batch, Axis("key_position", length), config.Heads, config.HeadSize)
        return Cache.empty(axes, dtype or config.compute_dtype)

    def extend(self, tokens: NamedArray, cache: Cache, start: Start) -> tuple[NamedArray, Cache]:
        """The activations of tokens that follow those in the cache, and the cache with them in it.

        Args:
            tokens: int32 [..., position], at places `start`, `start` + 1, … of each row.
            start: what the cache holds from there on is overwritten before it is seen.

        Returns: [..., position, embed], and the cache.
        """
        places = Places.after(tokens, start)
        return self._run(tokens, places, places.positions, cache, None)

    def _run(
        self, tokens: NamedArray, places: Places, positions: NamedArray | None, cache: Any, key: jax.Array | None
    ) -> tuple[NamedArray, Any]:
        """All layers: activations, and caches with `layers` in front."""
        model = in_dtype(self, self.config.compute_dtype)
        x = _drop(hnn.Dropout(self.config.dropout), model.embeddings(tokens, positions), key, "embeddings")

        def step(block: Block, x: NamedArray, cache: Any, *, key: jax.Array | None) -> tuple[NamedArray, Any]:
            return block(x, places, cache, key=key)

        x, caches = model.blocks.scan_via(step)(x, cache, key=key)
        return model.final_norm(x), caches

    def logits(self, x: NamedArray) -> NamedArray:
        """x [..., embed], as `activations` gives it → float32 [..., vocab]"""
        return output_logits(x, self._head(x), self.config.Embed, self.config.vocab_size)

    @property
    def Pos(self) -> Axis:
        return self.config.Pos

    def loss(
        self,
        tokens: NamedArray,
        targets: NamedArray,
        *,
        key: jax.Array | None = None,
        segments: NamedArray | None = None,
    ) -> jax.Array:
        """Mean cross entropy in nats per target, and the z-loss; tokens and targets int32 [..., position]."""
        return self._loss(tokens, targets, key, self.config.z_loss, segments)

    def evaluation_loss(
        self, tokens: NamedArray, targets: NamedArray, *, segments: NamedArray | None = None
    ) -> jax.Array:
        """The same without the z-loss, a float32 scalar."""
        return self._loss(tokens, targets, None, 0.0, segments)

    def _loss(
        self,
        tokens: NamedArray,
        targets: NamedArray,
        key: jax.Array | None,
        z_loss: float,
        segments: NamedArray | None,
    ) -> jax.Array:
        x = self.activations(tokens, key=key, segments=segments)
        config = self.config
        losses = next_token_loss(
            x, self._head(x), targets, config.Embed, config.vocab_size, z_loss, dtype=config.logits_dtype
        )
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


def _layer_norm(config: Gpt2Config) -> hnn.LayerNorm:
    return hnn.LayerNorm.init(config.Embed, eps=config.layer_norm_epsilon, dtype=jnp.float32)


def _branch_scale(config: Gpt2Config) -> float:
    return initial.branch_scale(config.initializer_range, config.num_layers)


def _drop(dropout: hnn.Dropout, x: NamedArray, key: jax.Array | None, name: str) -> NamedArray:
    return x if key is None else dropout(x, key=rng.named(key, name))
