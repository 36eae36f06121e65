"""Leaves of arguments that are no arrays: the activation function of an `eqx.nn.MLP`, a mode given as text.

JAX traces arrays alone. Such a leaf is hidden in the structure of the arguments for the time of a trace, as
`eqx.filter_jit` does, so it is part of what a step was traced for.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

_tree: Any = jax.tree_util
_NUMBERS = (bool, int, float, complex, np.generic)


@dataclass(frozen=True, eq=False)
class Static:
    """A leaf as structure: equal where the leaves are."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and (self.value is other.value or bool(self.value == other.value))

    def __hash__(self) -> int:
        try:
            return hash(self.value)
        except TypeError:
            return hash(type(self.value))

    def __repr__(self) -> str:
        return getattr(self.value, "__qualname__", repr(self.value))


_tree.register_pytree_node(Static, lambda leaf: ((), leaf), lambda leaf, _: leaf)


def has_static(tree: Any) -> bool:
    """Whether a tree has leaves that are no arrays."""
    return not all(map(_is_array, _tree.tree_leaves(tree)))


def hidden(tree: Any) -> Any:
    """The tree with every leaf that is no array as structure."""
    return _tree.tree_map(lambda leaf: leaf if _is_array(leaf) else Static(leaf), tree)


def shown(tree: Any) -> Any:
    """The inverse of `hidden`."""
    return _tree.tree_map(
        lambda leaf: leaf.value if isinstance(leaf, Static) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, Static),
    )


def _is_array(leaf: Any) -> bool:
    return (
        hasattr(leaf, "dtype")
        and hasattr(leaf, "shape")
        or isinstance(leaf, _NUMBERS)
        or hasattr(leaf, "__jax_array__")
    )
