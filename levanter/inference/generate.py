"""Text that goes on from a prompt, for a batch of prompts at once.

    prompts, padded on the right → one pass over all of them, which fills the cache → the loop: draw, read

Each of the two is one compiled program. Prompts may have different lengths: each row has a place of its own at which it
goes on, and what padding has left in the cache is overwritten before it is seen. A row ends at a stop id, the loop when
all have. What a prompt becomes does not depend on the prompts beside it: the draw at a place is of the key, the place
and how often the same prompt stands before it in the batch.

A model that has no cache (`LmModel` asks for none) reads its whole text again for each token: the same tokens, slower.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import haliax as hax
from haliax import Axis, NamedArray
from levanter.inference.sampling import Sampling, draw
from levanter.models.lm_model import LmModel
from levanter.runtime import rng

_MULTIPLE = 32
"""Lengths are rounded up to this, so that prompts of about the same length share a compiled program."""
BATCH = "batch"

Placement = Callable[[Any], Any]
"""What lays arrays out on a mesh: a tree to the same tree, constrained. It is called inside `jit`."""


@dataclass(frozen=True)
class Generated:
    """What came of one prompt.

    Attributes:
        tokens: the ids that follow the prompt; a stop id that ended them is not among them.
        stopped: whether a stop id ended them, and not their number.
        dropped: how many ids of the prompt, the first ones, did not fit the model's window.
    """

    tokens: list[int]
    stopped: bool
    dropped: int = 0


def generate(
    model: LmModel,
    prompt: Sequence[int],
    num_tokens: int,
    *,
    vocab_size: int,
    key: jax.Array,
    temperature: float = 0.8,
    top_k: int | None = 40,
) -> list[int]:
    """Token ids that the model continues `prompt` with; see `Generator`.

    `num_tokens` are drawn, bounded by the window of the model, which nothing stops.
    """
    generator = Generator(model, vocab_size, Sampling(temperature, top_k))
    return generator([prompt], min(num_tokens, model.Pos.size - 1), key)[0].tokens


class Generator:
    """Continues prompts with one model, one way of drawing and, where given, one layout over a mesh.

    Args:
        vocab_size: ids from here on are padding and never drawn.
        stop: ids that end a text.
        place: lays out the cache (and the model, where it does not lie on devices yet); None is one device.
        use_cache: whether to use the model's cache if it has one.
    """

    def __init__(
        self,
        model: LmModel,
        vocab_size: int,
        sampling: Sampling,
        *,
        stop: Collection[int] = (),
        place: Placement | None = None,
        use_cache: bool = True,
    ) -> None:
        self._model = model
        self._stop = tuple(sorted(stop))
        memory = _Cache if use_cache and hasattr(model, "extend") else _Text
        self._steps = _Steps(memory, vocab_size, sampling, self._stop, place or (lambda tree: tree))
        self._prefill = jax.jit(self._steps.prefill, static_argnums=(4,))
        self._decode = jax.jit(self._steps.decode, static_argnums=(5,), donate_argnums=(2,))

    def __call__(self, prompts: Sequence[Sequence[int]], num_tokens: int, key: jax.Array) -> list[Generated]:
        """What each prompt goes on with.

        Args:
            prompts: token ids, at least one each; the last `Pos.size - num_tokens` count where there are more.
            num_tokens: how many to draw for each, at least 1 and fewer than `Pos.size`.
            key: fixes the draws.
        """
        longest = self._model.Pos.size - num_tokens
        kept = [list(prompt)[-longest:] for prompt in prompts]
        if num_tokens == 0 or not kept:
            return [Generated([], False) for _ in kept]
        lengths = np.asarray([len(prompt) for prompt in kept], np.int32)
        width = min(-(-int(lengths.max()) // _MULTIPLE) * _MULTIPLE, longest)
        tokens = np.zeros((len(kept), width), np.int32)
        for row, prompt in zip(tokens, kept, strict=True):
            row[: len(prompt)] = prompt
        Batch = Axis(BATCH, len(kept))
        rows = NamedArray(jnp.asarray(tokens), (Batch, self._model.Pos.resize(width)))
        starts = NamedArray(jnp.asarray(lengths), (Batch,))
        keys = _keys(key, kept)
        total = min(-(-(width + num_tokens) // _MULTIPLE) * _MULTIPLE, self._model.Pos.size)
        first, memory = self._prefill(self._model, rows, starts, keys, total)
        drawn, counts, _ = self._decode(self._model, first, memory, starts, keys, num_tokens)
        drawn, counts = jax.device_get((drawn, counts))
        return [
            Generated(row[:count].tolist(), count < num_tokens, len(prompt) - len(used))
            for row, count, prompt, used in zip(drawn, counts.tolist(), prompts, kept, strict=True)
        ]


def sample_key(seed: int) -> jax.Array:
    """The key of samples of a run."""
    return rng.named(rng.seed_key(seed), "sample")


def _keys(key: jax.Array, prompts: Sequence[Sequence[int]]) -> jax.Array:
    """A key for each row: the first of equal prompts has `key` itself, another one of its own."""
    seen: Counter[tuple[int, ...]] = Counter()
    keys = []
    for prompt in map(tuple, prompts):
        keys.append(rng.named(key, f"again {seen[prompt]}") if seen[prompt] else key)
        seen[prompt] += 1
    return jnp.stack(keys)


class _Cache:
    """What a model with a cache keeps of the text so far: the cache."""

    @staticmethod
    def start(
        model: Any, tokens: NamedArray, lengths: NamedArray, total: int, place: Placement
    ) -> tuple[NamedArray, Any]:
        dtype = jax.eval_shape(lambda: model.activations(tokens, key=None)).dtype
        cache = place(model.cache((lengths.axes[0],), total, dtype))
        x, cache = model.extend(tokens, cache, 0)
        return x[model.Pos.name, lengths - 1], place(cache)

    @staticmethod
    def extended(model: Any, cache: Any, token: NamedArray, places: NamedArray) -> tuple[NamedArray, Any]:
        x, cache = model.extend(token.broadcast_axis(model.Pos.resize(1)), cache, places)
        return x[model.Pos.name, 0], cache


class _Text:
    """What a model without a cache keeps: the text itself, int32 [batch, position]."""

    @staticmethod
    def start(
        model: Any, tokens: NamedArray, lengths: NamedArray, total: int, place: Placement
    ) -> tuple[NamedArray, Any]:
        Pos = tokens.resolve_axis(model.Pos.name)
        text = hax.zeros((lengths.axes[0], Pos.resize(total)), dtype=jnp.int32)
        text = place(text.updated_slice({Pos.name: 0}, tokens))
        return _Text._last(model, text, lengths - 1), text

    @staticmethod
    def extended(model: Any, text: NamedArray, token: NamedArray, places: NamedArray) -> tuple[NamedArray, Any]:
        text = text.at[model.Pos.name, places].set(token)
        return _Text._last(model, text, places), text

    @staticmethod
    def _last(model: Any, text: NamedArray, places: NamedArray) -> NamedArray:
        return model.activations(text, key=None)[model.Pos.name, places]


@dataclass(frozen=True)
class _Steps:
    """The two programs of a generator, as pure functions."""

    memory: type[_Cache] | type[_Text]
    vocab_size: int
    sampling: Sampling
    stop: tuple[int, ...]
    place: Placement

    def prefill(
        self, model: LmModel, tokens: NamedArray, lengths: NamedArray, keys: jax.Array, total: int
    ) -> tuple[NamedArray, Any]:
        """The first token of every row, int32 [batch], and what is kept of the text, for `total` places."""
        x, memory = self.memory.start(model, tokens, lengths, total, self.place)
        return self._drawn(model, x, keys, lengths), memory

    def decode(
        self, model: LmModel, first: NamedArray, memory: Any, lengths: NamedArray, keys: jax.Array, num_tokens: int
    ) -> tuple[jax.Array, jax.Array, Any]:
        """The tokens of every row, int32 [batch, num_tokens], how many of them come before a stop id, and the memory,
        which is given back so that it is written in place."""
        Batch = lengths.axes[0]
        drawn = jnp.zeros((Batch.size, num_tokens), jnp.int32).at[:, 0].set(first.array)
        counts = jnp.where(self._stops(first.array), 0, num_tokens)

        def running(carry: tuple[Any, ...]) -> jax.Array:
            made, counts = carry[0], carry[2]
            return (made < num_tokens) & jnp.any(counts == num_tokens)

        def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            made, drawn, counts, token, memory = carry
            x, memory = self.memory.extended(model, memory, token, lengths + made - 1)
            token = self._drawn(model, x, keys, lengths + made)
            drawn = drawn.at[:, made].set(token.array)
            counts = jnp.where(self._stops(token.array), jnp.minimum(counts, made), counts)
            return made + 1, drawn, counts, token, self.place(memory)

        start = (jnp.ones((), jnp.int32), drawn, counts, first, memory)
        _, drawn, counts, _, memory = jax.lax.while_loop(running, step, start)
        return drawn, counts, memory

    def _drawn(self, model: LmModel, x: NamedArray, keys: jax.Array, places: NamedArray) -> NamedArray:
        """x [batch, …] → the token at `places` of each row, int32 [batch]."""
        (Batch,), Vocab = places.axes, model.Vocab
        scores = model.logits(x)[Vocab.name, 0 : min(self.vocab_size, Vocab.size)]
        scores = scores.rearrange((Batch, scores.resolve_axis(Vocab.name)))
        at_place = jax.vmap(jax.random.fold_in)(keys, places.array)
        tokens = jax.vmap(lambda scores, key: draw(scores, key, self.sampling))(scores.array, at_place)
        return NamedArray(tokens, (Batch,))

    def _stops(self, tokens: jax.Array) -> jax.Array:
        return jnp.isin(tokens, jnp.asarray(self.stop, jnp.int32)) if self.stop else jnp.zeros(tokens.shape, bool)
