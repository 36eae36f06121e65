"""Sampling text from a model.

The whole loop is one compiled program over a buffer of fixed length: at each place the model reads the buffer and the
next token is drawn. Nothing is cached between places, which is right for short samples of small models.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import haliax as hax
from haliax import NamedArray
from levanter.models.lm_model import LmModel
from levanter.runtime import rng


def generate(
    model: LmModel,
    prompt: list[int],
    num_tokens: int,
    *,
    vocab_size: int,
    key: jax.Array,
    temperature: float = 0.8,
    top_k: int | None = 40,
) -> list[int]:
    """Token ids that the model continues `prompt` with.

    Args:
        prompt: at least one token id; the last `model.Pos.size - num_tokens` count where there are more.
        num_tokens: how many to draw; the window of the model bounds it.
        vocab_size: ids from here on are padding and never drawn.
        key: fixes the sample. The draw at a place depends on the key and the place only.
        temperature: 0 takes the most likely token.
        top_k: draw among this many most likely tokens; None among all.
    """
    seq_len = model.Pos.size
    num_tokens = min(num_tokens, seq_len - 1)
    prompt = prompt[-(seq_len - num_tokens) :]
    buffer = np.zeros(len(prompt) + num_tokens, np.int32)
    buffer[: len(prompt)] = prompt
    top_k = None if top_k is None else min(top_k, vocab_size)
    drawn = _continue(model, buffer, key, len(prompt), vocab_size, temperature, top_k)
    return np.asarray(drawn)[len(prompt) :].tolist()


@eqx.filter_jit
def _continue(
    model: LmModel, buffer: Any, key: jax.Array, start: int, vocab_size: int, temperature: float, top_k: int | None
) -> jax.Array:
    """`buffer`, int32 [position], with the places from `start` on drawn one after another."""
    Pos = model.Pos.resize(buffer.shape[0])

    def draw(place: jax.Array, tokens: jax.Array) -> jax.Array:
        x = model.activations(hax.named(tokens, (Pos,)), key=None)
        logits = model.logits(x[Pos.name, place - 1])
        return tokens.at[place].set(_sample(logits, jax.random.fold_in(key, place), vocab_size, temperature, top_k))

    return jax.lax.fori_loop(start, buffer.shape[0], draw, jnp.asarray(buffer))


def _sample(logits: NamedArray, key: jax.Array, vocab_size: int, temperature: float, top_k: int | None) -> jax.Array:
    scores = logits.array[:vocab_size]
    if temperature == 0:
        return jnp.argmax(scores).astype(jnp.int32)
    if top_k is not None:
        lowest = jax.lax.top_k(scores, top_k)[0][-1]
        scores = jnp.where(scores < lowest, -jnp.inf, scores)
    return jax.random.categorical(key, scores / temperature).astype(jnp.int32)


def sample_key(seed: int) -> jax.Array:
    """The key of the sample shown at the end of a run."""
    return rng.named(rng.seed_key(seed), "sample")
