"""What a family's two models are given, so that they can be compared: text, images, or speech."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import haliax as hax

ROWS = 3
"""Of a batch of text: one that is full, one padded on the right, one padded on the left."""


class Text:
    """Random tokens [batch, position] over all the places that the model reads, some of them padding."""

    def __init__(self, vocab_size: int, length: int, architecture: str) -> None:
        self.architecture = architecture
        self.tokens = np.random.default_rng(0).integers(0, vocab_size, (ROWS, length)).astype(np.int32)
        self.mask = np.ones_like(self.tokens, dtype=bool)
        self.mask[1, length - length // 3 :] = False
        self.mask[2, : length // 4] = False

    def theirs(self, model: Any) -> np.ndarray:
        """float32 [batch, position, vocab]; positions count from the first token that is no padding."""
        import torch

        attention = torch.tensor(self.mask.astype(np.int64))
        positions = (attention.cumsum(-1) - 1).clamp(min=0)
        ids = torch.tensor(self.tokens.astype(np.int64))
        with torch.no_grad():
            return model(ids, attention_mask=attention, position_ids=positions, use_cache=False).logits.numpy()

    def ours(self, model: Any, config: Any) -> np.ndarray:
        """The same of ours: padding is a text of its own."""
        ids = hax.named(jnp.asarray(self.tokens), ("batch", "position"))
        segments = hax.named(jnp.asarray(~self.mask, jnp.int32), ("batch", "position"))

        @jax.jit
        def logits(model: Any, ids: Any, segments: Any) -> Any:
            return model.logits(model.activations(ids, segments=segments))

        return np.asarray(logits(model, ids, segments).array)[..., : config.vocab_size]

    def counts(self) -> np.ndarray:
        return self.mask[..., None]

    def step(self, config: Any) -> None:
        return None


class Images:
    """Random images; their logits [batch, labels]."""

    architecture = "ViTForImageClassification"

    def __init__(self, size: int, channels: int = 3) -> None:
        self.pixels = np.random.default_rng(0).normal(size=(ROWS, channels, size, size)).astype(np.float32)

    def theirs(self, model: Any) -> np.ndarray:
        import torch

        with torch.no_grad():
            return model(torch.tensor(self.pixels)).logits.numpy()

    def ours(self, model: Any, config: Any) -> np.ndarray:
        images = hax.named(jnp.asarray(self.pixels), ("batch", "channels", "height", "width"))
        images = images.rearrange(("batch", "height", "width", "channels"))
        return np.asarray(jax.jit(lambda model, images: model(images))(model, images).array)

    def counts(self) -> np.ndarray:
        return np.ones((1, 1), bool)

    def step(self, config: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return gradients, jax.eval_shape(
            lambda: (
                config.build(key=jax.random.key(0)),
                hax.zeros((hax.Axis("batch", 8), *config.Image)),
                hax.zeros(hax.Axis("batch", 8), dtype=jnp.int32),
            )
        )


class Speech:
    """A random spectrogram and random tokens; the logits of these [batch, position, vocab]."""

    architecture = "WhisperForConditionalGeneration"

    def __init__(self, mel: int, frames: int, vocab_size: int, length: int) -> None:
        draw = np.random.default_rng(0)
        self.spectrogram = draw.normal(size=(ROWS, mel, frames)).astype(np.float32)
        self.tokens = draw.integers(0, vocab_size, (ROWS, length)).astype(np.int32)

    def theirs(self, model: Any) -> np.ndarray:
        import torch

        ids = torch.tensor(self.tokens.astype(np.int64))
        with torch.no_grad():
            return model(torch.tensor(self.spectrogram), decoder_input_ids=ids, use_cache=False).logits.numpy()

    def ours(self, model: Any, config: Any) -> np.ndarray:
        heard = hax.named(jnp.asarray(self.spectrogram), ("batch", "mel", "frame"))
        ids = hax.named(jnp.asarray(self.tokens), ("batch", "position"))
        logits = jax.jit(lambda model, heard, ids: model(heard, ids))(model, heard, ids)
        return np.asarray(logits.array)[..., : config.vocab_size]

    def counts(self) -> np.ndarray:
        return np.ones((1, 1, 1), bool)

    def step(self, config: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        def arguments() -> tuple[Any, ...]:
            Batch = hax.Axis("batch", 8)
            heard = hax.zeros((Batch, config.Mel, config.Frames.resize(2 * config.max_frames)))
            tokens = hax.zeros((Batch, config.Pos), dtype=jnp.int32)
            return config.build(key=jax.random.key(0)), heard, tokens, tokens

        return gradients, jax.eval_shape(arguments)


def gradients(model: Any, *batch: Any) -> Any:
    """The loss and its gradient."""
    return jax.value_and_grad(lambda model: model.loss(*batch))(model)
