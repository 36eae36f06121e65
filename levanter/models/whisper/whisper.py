"""Whisper (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv:2212.04356).

spectrogram [batch, mel, frame] → two convolutions, the second of stride 2 → encoder blocks → [batch, frame, embed]
tokens [batch, position] → decoder blocks, which see earlier tokens and all frames → logits [batch, position, vocab]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from haliax.nn.attention import AttentionMask
from levanter.models.loss import mean_loss, next_token_loss, output_logits
from levanter.models.parts import initial
from levanter.models.parts.precision import in_dtype
from levanter.models.parts.transformer import EncoderBlock, MultiHeadAttention, PlainMlp, layer_norm
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.models.whisper.config import WhisperConfig

EPSILON = 1e-5


class Encoder(eqx.Module):
    """What is heard, as a vector for each frame."""

    first: hnn.Conv  # [mel] → [embed]
    second: hnn.Conv  # [embed] → [embed], every other frame
    positions: NamedArray  # [frame, embed]
    blocks: hnn.Stacked  # [layers] of EncoderBlock
    final_norm: hnn.LayerNorm

    @staticmethod
    def init(config: WhisperConfig, *, key: jax.Array) -> Encoder:
        Embed, Layers = config.Embed, Axis("layers", config.encoder_layers)
        keys = jax.random.split(rng.named(key, "blocks"), config.encoder_layers)
        layers = hax.map(lambda key: encoder_block(config, key=key), Layers)(keys)
        return Encoder(
            first=hnn.Conv.init("frame", config.Mel, Embed, 3, padding=1, key=rng.named(key, "first")),
            second=hnn.Conv.init("frame", Embed, _made(Embed), 3, padding=1, stride=2, key=rng.named(key, "second")),
            positions=sinusoids(config.Frames, Embed),
            blocks=hnn.Stacked(layers, Layers, hnn.ScanCheckpointPolicy.of(bool(config.gradient_checkpointing))),
            final_norm=layer_norm(Embed, EPSILON),
        )

    def __call__(self, spectrogram: NamedArray) -> NamedArray:
        """spectrogram [..., mel, frame] → [..., frame, embed], half as many frames"""
        x = hnn.gelu(self.first(spectrogram), approximate=False)
        x = hnn.gelu(self.second(x), approximate=False).rename({"made": "embed"})
        x = x.rearrange((..., "frame", "embed"))
        x = x + self.positions["frame", 0 : x.resolve_axis("frame").size]
        return self.final_norm(self.blocks.fold_via(lambda block, x: block(x, "frame"))(x))


class DecoderBlock(eqx.Module):
    """One layer of the decoder: a place sees those before it, then all frames."""

    attention_norm: hnn.LayerNorm
    attention: MultiHeadAttention
    heard_norm: hnn.LayerNorm
    heard: MultiHeadAttention
    mlp_norm: hnn.LayerNorm
    mlp: PlainMlp

    @staticmethod
    def init(config: WhisperConfig, *, key: jax.Array) -> DecoderBlock:
        Embed, Heads, scale = config.Embed, Axis("heads", config.decoder_heads), config.initializer_range

        def attention(name: str) -> MultiHeadAttention:
            return MultiHeadAttention.init(Embed, Heads, scale, use_key_bias=False, key=rng.named(key, name))

        return DecoderBlock(
            attention_norm=layer_norm(Embed, EPSILON),
            attention=attention("attention"),
            heard_norm=layer_norm(Embed, EPSILON),
            heard=attention("heard"),
            mlp_norm=layer_norm(Embed, EPSILON),
            mlp=PlainMlp.init(Embed, Axis("mlp", config.decoder_mlp_dim), scale, key=rng.named(key, "mlp")),
        )

    def __call__(self, x: NamedArray, frames: NamedArray) -> NamedArray:
        """x [..., position, embed], frames [..., frame, embed] → the axes of x."""
        own = self.attention_norm(x)
        x = x + self.attention(own, own, "position", AttentionMask(causal=True))
        x = x + self.heard(self.heard_norm(x), frames, "frame")
        return x + self.mlp(self.mlp_norm(x))


class Decoder(eqx.Module):
    """What is written, given what is heard."""

    tokens: NamedArray  # [vocab, embed], which is the output head too
    positions: NamedArray  # [position, embed]
    blocks: hnn.Stacked  # [layers] of DecoderBlock
    final_norm: hnn.LayerNorm

    @staticmethod
    def init(config: WhisperConfig, *, key: jax.Array) -> Decoder:
        Embed, Layers = config.Embed, Axis("layers", config.decoder_layers)
        keys = jax.random.split(rng.named(key, "blocks"), config.decoder_layers)
        scale = config.initializer_range
        return Decoder(
            tokens=initial.normal((config.Vocab, Embed), scale, rng.named(key, "tokens")),
            positions=initial.normal((config.Pos, Embed), scale, rng.named(key, "positions")),
            blocks=hnn.Stacked(
                hax.map(lambda key: DecoderBlock.init(config, key=key), Layers)(keys),
                Layers,
                hnn.ScanCheckpointPolicy.of(bool(config.gradient_checkpointing)),
            ),
            final_norm=layer_norm(Embed, EPSILON),
        )

    def __call__(self, tokens: NamedArray, frames: NamedArray) -> NamedArray:
        """tokens int32 [..., position], frames [..., frame, embed] → [..., position, embed]"""
        x = self.tokens.take("vocab", tokens, mode="promise_in_bounds")
        x = x + self.positions["position", 0 : tokens.resolve_axis("position").size]
        return self.final_norm(self.blocks.fold_via(lambda block, x: block(x, frames))(x))


class WhisperModel(eqx.Module):
    """Speech to text. Call it for logits; `loss` is what training minimizes."""

    encoder: Encoder
    decoder: Decoder
    config: WhisperConfig = eqx.field(static=True)

    @staticmethod
    def init(config: WhisperConfig, *, key: jax.Array) -> WhisperModel:
        encoder = Encoder.init(config, key=rng.named(key, "encoder"))
        return WhisperModel(encoder, Decoder.init(config, key=rng.named(key, "decoder")), config)

    def activations(self, spectrogram: NamedArray, tokens: NamedArray) -> NamedArray:
        """The decoder's output, in the compute dtype.

        Args:
            spectrogram: float [..., mel, frame], twice as many frames as `max_frames` at most.
            tokens: int32 [..., position].

        Returns: [..., position, embed].
        """
        model = in_dtype(self, self.config.compute_dtype)
        return model.decoder(tokens, model.encoder(spectrogram.astype(self.config.compute_dtype)))

    def __call__(self, spectrogram: NamedArray, tokens: NamedArray) -> NamedArray:
        """spectrogram [..., mel, frame], tokens int32 [..., position] → logits float32 [..., position, vocab]"""
        x = self.activations(spectrogram, tokens)
        return output_logits(x, self.decoder.tokens.astype(x.dtype), self.config.Embed, self.config.vocab_size)

    def loss(self, spectrogram: NamedArray, tokens: NamedArray, targets: NamedArray) -> jax.Array:
        """Mean cross entropy in nats per token with a target (one that is not negative), a float32 scalar."""
        x = self.activations(spectrogram, tokens)
        head = self.decoder.tokens.astype(x.dtype)
        return mean_loss(next_token_loss(x, head, targets, self.config.Embed, self.config.vocab_size), targets)


def encoder_block(config: WhisperConfig, *, key: jax.Array) -> EncoderBlock:
    """One layer of the encoder."""
    Embed, Heads, scale = config.Embed, Axis("heads", config.encoder_heads), config.initializer_range
    attention_key = rng.named(key, "attention")
    return EncoderBlock(
        attention_norm=layer_norm(Embed, EPSILON),
        attention=MultiHeadAttention.init(Embed, Heads, scale, use_key_bias=False, key=attention_key),
        mlp_norm=layer_norm(Embed, EPSILON),
        mlp=PlainMlp.init(Embed, Axis("mlp", config.encoder_mlp_dim), scale, key=rng.named(key, "mlp")),
    )


def sinusoids(Frames: Axis, Embed: Axis) -> NamedArray:
    """Sines, then cosines, of wavelengths from 2π to 10,000 · 2π frames: float32 [frame, embed]."""
    half = Embed.size // 2
    rates = np.exp(-np.log(10000.0) * np.arange(half) / max(half - 1, 1))
    angles = np.arange(Frames.size)[:, None] * rates
    return hax.named(jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], 1), jnp.float32), (Frames, Embed))


def _made(Embed: Axis) -> Axis:
    return Axis("made", Embed.size)
