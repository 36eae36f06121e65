"""A speech model of this library, an encoder and a decoder, trained under a plan.

    python examples/whisper_speech.py                                     20 steps on 8 devices of a CPU
    levanter check examples/whisper_speech.py:train_step                  its axis mistakes, if any
    levanter compile examples/whisper_speech.py:train_step --mesh 4x2     how it is sharded, and why

`WhisperConfig` has the sizes of Whisper tiny where it is left as it is, and
`levanter.hf.open_folder("openai/whisper-tiny")` reads the published weights. The axes are named by the model, so
nothing is named here.
"""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import optax

import haliax as hax
from levanter.models.whisper.config import WhisperConfig

config = WhisperConfig(
    num_mel_bins=16,
    max_frames=24,
    seq_len=16,
    vocab_size=32,
    vocab_multiple=1,
    hidden_dim=64,
    encoder_mlp_dim=128,
    decoder_mlp_dim=128,
    encoder_layers=2,
    decoder_layers=2,
    encoder_heads=4,
    decoder_heads=4,
    initializer_range=0.05,
    gradient_checkpointing=False,
)
Batch = hax.Axis("batch", 128)
optimizer = optax.adam(5e-3)


def train_step(state, batch):
    model, moments = state

    def loss(model):
        return model.loss(batch["spectrogram"], batch["tokens"], batch["targets"])

    value, grads = jax.value_and_grad(loss)(model)
    updates, moments = optimizer.update(grads, moments)
    return (optax.apply_updates(model, updates), moments), value


def start() -> tuple[Any, Any]:
    """The state before the first step, and a batch: a tone says where to begin, and the text counts up from there."""
    Pos, Mel, Sound = config.Pos, config.Mel, hax.Axis("frame", 2 * config.max_frames)
    first = hax.named(jnp.arange(Batch.size) % config.num_mel_bins, Batch)
    counted = (hax.arange(Pos.resize(Pos.size + 1)).broadcast_axis(Batch) + first) % config.vocab_size
    counted = counted.rearrange((Batch, "position"))
    tone = (hax.arange(Mel).broadcast_axis(Batch) == first).astype(jnp.float32)
    model = config.build(key=jax.random.key(0))
    batch = {
        "spectrogram": tone.broadcast_axis(Sound).rearrange((Batch, Mel, Sound)),
        "tokens": counted["position", 0 : Pos.size],
        "targets": counted["position", 1 : Pos.size + 1],
    }
    return (model, optimizer.init(model)), batch


def train_step_arguments() -> tuple[Any, Any]:
    """Shapes are enough to check and to plan."""
    return jax.eval_shape(start)


def train(mesh: str | None, steps: int = 20) -> list[float]:
    """The losses of some steps under a plan for the mesh; without one, on one device."""
    import ir
    import passes

    state, batch = jax.jit(start)()
    step = jax.jit(train_step)
    if mesh is not None:
        graph = ir.trace(train_step, state, batch)
        step = passes.lower(graph, passes.plan(graph, mesh))
    losses = []
    for _ in range(steps):
        state, value = step(state, batch)
        losses.append(float(value))
    return losses


if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    print(*(f"{value:.4f}" for value in train("4x2")))
