"""`field`: a field of a module that says which axes the unnamed array in it has, and who reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax

from haliax import errors
from haliax.jax_utils import is_named


def field(
    *,
    converter: Callable[[Any], Any] | None = None,
    static: bool = False,
    axis_names: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """`equinox.field`, with the names of the axes of an unnamed array in the metadata of the field.

    Args:
        converter: applied to the value when the module is made.
        static: whether the field is structure, not data, in the pytree.
        axis_names: the names of the dimensions of the array that the field holds; `metadata["axis_names"]`.
        metadata: more metadata of the field.
        kwargs: as in `dataclasses.field`.

    Raises:
        ValueError: for `axis_names` of a static field, which holds no array.
    """
    if static and axis_names is not None:
        raise errors.axis_names_of_static_field(axis_names)
    if converter is not None:
        kwargs["converter"] = converter
    return eqx.field(static=static, metadata={**(metadata or {}), "axis_names": axis_names}, **kwargs)


def map_with_field_names(function: Callable[[Any, Sequence[str] | None], Any], tree: Any) -> Any:
    """The tree with `function(leaf, names)` for each leaf, NamedArrays whole.

    Args:
        function: gets a leaf, and the `axis_names` of the field that holds it; None if it has none.
        tree: any tree.
    """

    def mapped(node: Any) -> Any:
        if not _names_fields(node):
            return function(node, None)
        children, structure = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
        names = {entry.name: entry.metadata.get("axis_names") for entry in dataclasses.fields(node)}
        return jax.tree.unflatten(structure, [held(child, names.get(path[0].name)) for path, child in children])

    def held(child: Any, names: Sequence[str] | None) -> Any:
        is_array = names is not None and hasattr(child, "ndim") and not is_named(child)
        return function(child, names) if is_array else map_with_field_names(function, child)

    return jax.tree.map(mapped, tree, is_leaf=lambda node: is_named(node) or _names_fields(node))


def _names_fields(node: Any) -> bool:
    """Whether the node is a module with a field that names the axes of an array."""
    return isinstance(node, eqx.Module) and any(
        entry.metadata.get("axis_names") is not None for entry in dataclasses.fields(node)
    )
