"""Random keys that depend on what they are for, and on nothing else.

A key is a pure function of the run's seed, the step, and a name such as `dropout`. No generator is carried along, so
nothing about it is in a checkpoint, and adding one more use of randomness changes no other one.
"""

from __future__ import annotations

import hashlib

import jax


def seed_key(seed: int) -> jax.Array:
    """The key that all keys of a run come from."""
    return jax.random.key(seed)


def named(key: jax.Array, name: str) -> jax.Array:
    """The key for `name` below `key`. Different names give independent keys."""
    # `hash` of a string differs from process to process; a digest does not.
    return jax.random.fold_in(key, int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))


def step_key(seed: int, step: jax.Array | int, name: str) -> jax.Array:
    """The key for `name` at a step, which may be traced."""
    return jax.random.fold_in(named(seed_key(seed), name), step)
