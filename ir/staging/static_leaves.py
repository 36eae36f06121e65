"""Leaves of arguments that are no arrays: the activation function of an `eqx.nn.MLP`, a mode given as text.

JAX traces arrays alone. Such a leaf is hidden in the structure of the arguments for the time of a trace, as
`eqx.filter_jit` does, so it is part of what a step was traced for. So is a bool of an Equinox module, such as the
`inference` of its dropout, which `if` reads.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np

_tree: Any = jax.tree_util
_NUMBERS: tuple[type, ...] = (bool, int, float, complex, np.generic)


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
            return hash(type(self.value).__name__)

    def __repr__(self) -> str:
        return getattr(self.value, "__qualname__", repr(self.value))


def _flattened(leaf: Static) -> tuple[tuple[()], Static]:
    return (), leaf


def _unflattened(leaf: Static, _: object) -> Static:
    return leaf


_tree.register_pytree_node(Static, _flattened, _unflattened)


def has_static(tree: Any) -> bool:
    """Whether a tree has leaves that are no arrays."""
    return any(isinstance(leaf, Static) for leaf in _tree.tree_leaves(hidden(tree), is_leaf=_is_static))


def hidden(tree: Any) -> Any:
    """The tree with every leaf that is no array as structure."""
    return _tree.tree_map(_hidden_in, tree, is_leaf=_is_module)


def shown(tree: Any) -> Any:
    """The inverse of `hidden`."""
    return _tree.tree_map(_shown, tree, is_leaf=_is_static)


def _hidden_in(node: Any) -> Any:
    return _tree.tree_map(_hidden_of_module, node) if _is_module(node) else _hidden(node)


def _hidden(leaf: Any) -> Any:
    return leaf if is_array(leaf) else Static(leaf)


def _hidden_of_module(leaf: Any) -> Any:
    return Static(leaf) if isinstance(leaf, bool) else _hidden(leaf)


def _is_module(node: Any) -> bool:
    return isinstance(node, eqx.Module)


def _shown(leaf: Any) -> Any:
    return leaf.value if isinstance(leaf, Static) else leaf


def _is_static(leaf: Any) -> bool:
    return isinstance(leaf, Static)


def is_array(leaf: Any) -> bool:
    """Whether JAX traces a leaf."""
    return (
        isinstance(leaf, _NUMBERS)
        or hasattr(leaf, "__jax_array__")
        or (hasattr(leaf, "dtype") and hasattr(leaf, "shape"))
    )
