"""A model in two parts: what is trained, and what stays as it is and has neither gradient nor optimizer state."""

from __future__ import annotations

from typing import Any

import jax

from haliax.jax_utils import is_named
from levanter.paths import map_named


def parted(model: Any, frozen: Any) -> tuple[Any, Any]:
    """The trained part of a model and the frozen one, each with None in the places of the other.

    Args:
        frozen: the tree of the model with a bool in the place of each array; None where nothing is frozen.
    """
    if frozen is None:
        return model, None
    trained = map_named(lambda name, leaf, still: None if still else leaf, model, frozen)
    return trained, map_named(lambda name, leaf, still: leaf if still else None, model, frozen)


def whole(trained: Any, frozen: Any) -> Any:
    """The model of which `parted` made two."""
    if frozen is None:
        return trained

    def is_part(leaf: Any) -> bool:
        return leaf is None or is_named(leaf)

    return jax.tree.map(lambda one, other: other if one is None else one, trained, frozen, is_leaf=is_part)
