"""Which token comes next: from the scores of all tokens to one of them.

The order is that of the field: scores are divided by the temperature, then all but the `top_k` highest are dropped,
then all but the fewest that together have `top_p` of the probability (nucleus sampling, Holtzman et al., 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from levanter.inference import errors


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn.

    Attributes:
        temperature: scores are divided by it; 0 takes the most likely token.
        top_k: draw among this many most likely tokens; None among all.
        top_p: draw among the fewest most likely tokens that together have this probability; None among all.
    """

    temperature: float = 0.8
    top_k: int | None = 40
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise errors.bad_number("--temperature", self.temperature, "at least 0")
        if self.top_k is not None and self.top_k < 1:
            raise errors.bad_number("--top-k", self.top_k, "at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise errors.bad_number("--top-p", self.top_p, "above 0 and at most 1")


GREEDY = Sampling(temperature=0.0, top_k=None)


def draw(scores: jax.Array, key: jax.Array, how: Sampling) -> jax.Array:
    """An id, int32: scores float [vocab], without the ids that are padding."""
    if how.temperature == 0:
        return jnp.argmax(scores).astype(jnp.int32)
    scores = scores / how.temperature
    if how.top_k is not None and how.top_k < scores.shape[0]:
        lowest = jax.lax.top_k(scores, how.top_k)[0][-1]
        scores = jnp.where(scores < lowest, -jnp.inf, scores)
    if how.top_p is not None and how.top_p < 1:
        scores = jnp.where(scores < _nucleus(scores, how.top_p), -jnp.inf, scores)
    return jax.random.categorical(key, scores).astype(jnp.int32)


def _nucleus(scores: jax.Array, top_p: float) -> jax.Array:
    """The lowest score of the fewest tokens that have probability `top_p` together; the most likely is always there."""
    falling = jnp.sort(scores, descending=True)
    before = jnp.cumsum(jax.nn.softmax(falling)) - jax.nn.softmax(falling)
    return jnp.min(jnp.where(before < top_p, falling, jnp.inf))
