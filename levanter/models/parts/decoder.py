"""A decoder of blocks that are all alike: what the families of language models share around their block.

    tokens [batch, position] → embeddings [batch, position, embed] → blocks, `layers` times → final norm
      → the head, or the token embedding again: logits [batch, position, vocab]

No function here mentions a batch: an axis that a function does not name passes through it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.models.lm_model import LmModel
from levanter.models.loss import mean_loss, next_token_loss, output_logits
from levanter.models.parts import initial
from levanter.models.parts.cache import Cache, Start
from levanter.models.parts.config import DecoderConfig
from levanter.models.parts.places import Places
from levanter.models.parts.precision import in_dtype
from levanter.models.parts.rotary import Rotation
from levanter.runtime import rng

Self = TypeVar("Self", bound="DecoderLm")
Losses = dict[str, NamedArray]
"""What a block adds to the loss, by name; each a number."""


class Layer(eqx.Module):
    """What one layer is told: how far it sees, and how it turns queries and keys."""

    window: Any
    rotation: Rotation


class DecoderBlock(Protocol):
    """One layer of a decoder."""

    def __call__(
        self, x: NamedArray, places: Places, layer: Layer, cache: Cache | None
    ) -> tuple[NamedArray, Cache | None, Losses]:
        """x [..., position, embed] → the same axes, the layer's cache, and what it adds to the loss."""
        ...


class TokenEmbedding(eqx.Module):
    """The vector of each token, times a constant."""

    tokens: hnn.Embedding  # [vocab, embed]
    scale: float = eqx.field(static=True)

    @staticmethod
    def init(config: DecoderConfig, Vocab: Axis, *, scale: float = 1.0, key: jax.Array) -> TokenEmbedding:
        weight = initial.normal((Vocab, config.Embed), config.initializer_range, rng.named(key, "tokens"))
        return TokenEmbedding(hnn.Embedding(weight, Vocab, config.Embed), scale)

    def __call__(self, tokens: NamedArray) -> NamedArray:
        """tokens [..., position] → [..., position, embed]"""
        # Ids are those of the tokenizer, whose vocabulary the table covers; no check of each is computed.
        vectors = self.tokens.weight.take(self.tokens.Vocab, tokens, mode="promise_in_bounds")
        return vectors if self.scale == 1.0 else vectors * jnp.asarray(self.scale, vectors.dtype)


class DecoderLm(LmModel):
    """A language model. Call it for logits; `loss` is what training minimizes. A family says what its block is."""

    embeddings: TokenEmbedding
    blocks: hnn.Stacked  # [layers] of a DecoderBlock
    final_norm: hnn.RmsNorm
    head: NamedArray | None  # [vocab, embed], or None where the token embedding serves as the head
    config: DecoderConfig = eqx.field(static=True)

    @classmethod
    def made_of(
        cls: type[Self],
        config: DecoderConfig,
        Vocab: Axis,
        block: Callable[..., Any],
        final_norm: hnn.RmsNorm,
        *,
        embedding_scale: float = 1.0,
        key: jax.Array,
    ) -> Self:
        """A freshly initialized model of `block(config, key=key)` for each layer."""
        head = initial.normal((Vocab, config.Embed), config.initializer_range, rng.named(key, "head"))
        layer_keys = jax.random.split(rng.named(key, "blocks"), config.num_layers)
        # A loop over the layers and not a `vmap`: XLA compiles the drawing of random numbers three times as fast.
        layers = hax.map(lambda key: block(config, key=key), config.Layers)(layer_keys)
        return cls(
            embeddings=TokenEmbedding.init(config, Vocab, scale=embedding_scale, key=rng.named(key, "embeddings")),
            blocks=hnn.Stacked(layers, config.Layers, hnn.ScanCheckpointPolicy.of(bool(config.gradient_checkpointing))),
            final_norm=final_norm,
            head=None if config.tie_word_embeddings else head,
            config=config,
        )

    # --- what the runtime asks --------------------------------------------------------------------------------------

    @property
    def Pos(self) -> Axis:
        return self.config.Pos

    @property
    def Vocab(self) -> Axis:
        return self.embeddings.tokens.Vocab

    @property
    def drops_out(self) -> bool:
        return False

    def activations(
        self, tokens: NamedArray, *, key: jax.Array | None = None, segments: NamedArray | None = None
    ) -> NamedArray:
        """The residual stream after the last norm, in the compute dtype.

        Args:
            tokens: int32 [..., position], at most `seq_len` positions.
            key: not used; nothing is dropped.
            segments: int32 [..., position], equal for the tokens of one text; see `Places.of`.

        Returns: [..., position, embed].
        """
        return self._run(tokens, Places.of(tokens, segments), None)[0]

    def logits(self, activations: NamedArray) -> NamedArray:
        """[..., embed], as `activations` gives it → float32 [..., vocab]"""
        config = self.config
        return output_logits(activations, self._head(activations), config.Embed, config.vocab_size, config.logits_cap)

    def loss(
        self,
        tokens: NamedArray,
        targets: NamedArray,
        *,
        key: jax.Array | None = None,
        segments: NamedArray | None = None,
    ) -> jax.Array:
        """Mean cross entropy in nats per target, with the z-loss and what blocks add; int32 [..., position] each."""
        losses, added = self._losses(tokens, targets, self.config.z_loss, segments)
        return sum((hax.mean(each).scalar() for each in added.values()), losses)

    def evaluation_loss(
        self, tokens: NamedArray, targets: NamedArray, *, segments: NamedArray | None = None
    ) -> jax.Array:
        """Mean cross entropy in nats per target alone, a float32 scalar."""
        return self._losses(tokens, targets, 0.0, segments)[0]

    def _losses(
        self, tokens: NamedArray, targets: NamedArray, z_loss: float, segments: NamedArray | None
    ) -> tuple[jax.Array, Losses]:
        x, _, added = self._run(tokens, Places.of(tokens, segments), None)
        config = self.config
        head = self._head(x)
        cap, dtype = config.logits_cap, config.logits_dtype
        losses = next_token_loss(x, head, targets, config.Embed, config.vocab_size, z_loss, cap, dtype)
        return mean_loss(losses, targets), added

    # --- text after text --------------------------------------------------------------------------------------------

    def cache(self, batch: tuple[Axis, ...], length: int, dtype: Any = None) -> Cache:
        """An empty cache for `length` places of each row of a batch; by default in the compute dtype."""
        config = self.config
        axes = (config.Layers, *batch, Axis("key_position", length), config.KvHeads, config.HeadSize)
        return Cache.empty(axes, dtype or config.compute_dtype)

    def extend(self, tokens: NamedArray, cache: Cache, start: Start) -> tuple[NamedArray, Cache]:
        """The activations of tokens that follow those in the cache, and the cache with them in it.

        Args:
            tokens: int32 [..., position], at places `start`, `start` + 1, … of each row.
            start: what the cache holds from there on is overwritten before it is seen.

        Returns: [..., position, embed], and the cache.
        """
        x, cache, _ = self._run(tokens, Places.after(tokens, start), cache)
        return x, cache

    # --- inside -----------------------------------------------------------------------------------------------------

    def _run(self, tokens: NamedArray, places: Places, cache: Any) -> tuple[NamedArray, Any, Losses]:
        """All layers: activations, caches with `layers` in front, and the losses of the layers."""
        model = in_dtype(self, self.config.compute_dtype)
        rotations = self._rotations(places.positions)
        window = self._windows()

        def step(block: DecoderBlock, x: NamedArray, own: tuple[Any, Any]) -> tuple[NamedArray, Any]:
            cache, window = own
            x, cache, losses = block(x, places, self._layer(rotations, window), cache)
            return x, (cache, losses)

        x, (caches, losses) = model.blocks.scan_via(step)(model.embeddings(tokens), (cache, window))
        return model.final_norm(x), caches, losses

    def _windows(self) -> NamedArray | int | None:
        """The window of every layer: one number where all have the same, else int32 [layers], 0 where one sees all."""
        windows = self.config.windows
        if len(set(windows)) == 1:
            return windows[0]
        return hax.named(jnp.asarray([window or 0 for window in windows], jnp.int32), (self.config.Layers,))

    def _rotations(self, positions: NamedArray) -> tuple[Rotation, ...]:
        """The angles that layers choose from."""
        config = self.config
        longest = config.max_positions or config.seq_len
        return (Rotation.of(config.rope, positions, config.HeadSize, longest),)

    def _layer(self, rotations: tuple[Rotation, ...], window: Any) -> Layer:
        """What a layer is told, given its own window."""
        return Layer(window.scalar() if isinstance(window, NamedArray) else window, rotations[0])

    def _head(self, x: NamedArray) -> NamedArray:
        head = self.embeddings.tokens.weight if self.head is None else self.head
        return head.astype(x.dtype)
