"""The functions of JAX whose own annotations are incomplete, each with its type, for staging and lowering."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax.experimental import layout

_jax: Any = jax
_layout: Any = layout

jnp: Any = _jax.numpy
lax: Any = _jax.lax

make_jaxpr: Callable[..., Callable[..., Any]] = _jax.make_jaxpr
jit: Callable[..., Callable[..., Any]] = _jax.jit
shard_map: Callable[..., Callable[..., Any]] = _jax.shard_map
typeof: Callable[[Any], Any] = _jax.typeof
devices: Callable[[], list[Any]] = _jax.devices
with_sharding_constraint: Callable[[Any, Any], Any] = _jax.lax.with_sharding_constraint

tree_flatten: Callable[..., tuple[list[Any], Any]] = _jax.tree_util.tree_flatten
tree_leaves: Callable[[Any], list[Any]] = _jax.tree_util.tree_leaves
tree_map: Callable[..., Any] = _jax.tree_util.tree_map
tree_structure: Callable[[Any], Any] = _jax.tree_util.tree_structure
is_leaf: Callable[[Any], bool] = _jax.tree_util.treedef_is_leaf
tree_unflatten: Callable[[Any, Iterable[Any]], Any] = _jax.tree_util.tree_unflatten


def laid(array: Any, order: Sequence[int]) -> Any:
    """An array of which the compiler is told the order of dims in memory, from the outermost."""
    return _layout.with_layout_constraint(array, _layout.Layout(major_to_minor=tuple(order)))


def leaves_with_path(tree: Any, is_leaf: Callable[[Any], bool]) -> list[tuple[str, Any]]:
    """The leaves in JAX's flattening order, each behind its path, such as `0.model.weight`."""
    leaves, _ = _jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    words: dict[Any, str] = {}  # a deep model has few different keys in its many paths

    def word(key: Any) -> str:
        known = words.get(key)
        if known is None:
            known = words[key] = _jax.tree_util.keystr((key,), simple=True)
        return known

    return [(".".join([word(key) for key in path]), leaf) for path, leaf in leaves]
