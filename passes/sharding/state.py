"""The kinds of state of a step, each of which a plan may store over the storage axes or not. No JAX here."""

from collections.abc import Iterable
from typing import Literal

from passes.errors import state_without_optimizer, unknown_state

StateKind = Literal["parameters", "gradients", "optimizer"]
STATE_KINDS: tuple[StateKind, ...] = ("parameters", "gradients", "optimizer")
"""The kinds of state: what the forward or backward pass reads, what the update alone reads of the backward pass, and
the rest of what a step carries (moments, averages, master weights)."""
STAGES: tuple[tuple[StateKind, ...], ...] = (STATE_KINDS, ("gradients", "optimizer"), ("optimizer",))
"""What may be stored: ZeRO-3, ZeRO-2 and ZeRO-1."""


def kinds_of(words: Iterable[str]) -> tuple[StateKind, ...]:
    """Kinds of state in their order. Raises `PlanError` for a word that is none, and where others are stored over
    mesh axes that the optimizer's state is not: the update is computed where that is."""
    given = list(words)
    for word in given:
        if word not in STATE_KINDS:
            raise unknown_state(word, STATE_KINDS)
    if given and "optimizer" not in given:
        raise state_without_optimizer(given)
    return tuple(kind for kind in STATE_KINDS if kind in given)
