"""State dicts: the arrays of a module by dotted names, and the names and shapes that PyTorch uses.

A module is walked field by field: `transformer.blocks.attention.weight`. A module says what differs by methods: another
key for a field (`_state_dict_key_map`, which any `eqx.Module` may have), other entries (`to_state_dict`,
`from_state_dict`: `Stacked` has an entry for each layer), or another shape outside (`flatten_for_export`: `Linear` has
a matrix, as in PyTorch).
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from haliax import errors
from haliax.core.array import NamedArray, unchecked
from haliax.jax_utils import is_jax_array_like

StateDict = dict[str, Any]
"""Arrays by dotted names."""
T = TypeVar("T")


class ModuleWithStateDictSerialization(eqx.Module):
    """A module that may say how it looks in a state dict. Each method has a sensible default."""

    def to_state_dict(self, prefix: str | None = None) -> StateDict:
        """The arrays of the module by name; each name starts with `prefix`."""
        return _fields_to_state_dict(self, prefix)

    def from_state_dict(self: T, state_dict: StateDict, prefix: str | None = None) -> T:
        """The module with its arrays taken from the state dict."""
        return _fields_from_state_dict(self, state_dict, prefix)

    def _state_dict_key_map(self) -> dict[str, str | None]:
        """The keys of fields that are not called as in Python; None for a field that adds nothing to the name."""
        return {}

    def flatten_for_export(self: T) -> T:
        """The module in the shape that it has outside. The modules inside it are asked by themselves."""
        return self

    def unflatten_from_export(self: T, template: T) -> T:
        """The module back in its own shape, which is that of `template`."""
        return self


def _on_inner_modules(root: T, function: Callable[..., Any], *rest: Any) -> T:
    """The tree with the function applied to the outermost modules inside that may say something."""

    def is_inner(node: Any) -> bool:
        return isinstance(node, ModuleWithStateDictSerialization) and node is not root

    return jax.tree.map(lambda x, *more: function(x, *more) if is_inner(x) else x, root, *rest, is_leaf=is_inner)


def with_prefix(prefix: str | None, leaf: str | None) -> str | None:
    """`prefix.leaf`, where either may be absent."""
    if prefix is None or leaf is None:
        return leaf if prefix is None else prefix
    return f"{prefix}.{leaf}"


def to_state_dict(tree: Any, prefix: str | None = None) -> StateDict:
    """The arrays of a tree by dotted names; numbers and strings too, as they are.

    Args:
        tree: any tree.
        prefix: what each name starts with.

    Raises:
        ValueError: for an array that is the whole tree, without a prefix.
    """
    if isinstance(tree, ModuleWithStateDictSerialization):
        return tree.to_state_dict(prefix)
    if isinstance(tree, NamedArray):
        return {_name(prefix): tree.array}
    if is_jax_array_like(tree) or _is_plain(tree):
        return {_name(prefix): tree}
    if isinstance(tree, eqx.Module):
        return _fields_to_state_dict(tree, prefix)
    result: StateDict = {}
    for key, child in _children(tree):
        result.update(to_state_dict(child, with_prefix(prefix, key)))
    return result


def from_state_dict(tree: Any, state_dict: StateDict, prefix: str | None = None) -> Any:
    """The tree with its arrays taken from the state dict, in the dtypes that they have there.

    Numbers and strings are taken too where the state dict has them; everything else stays.

    Args:
        tree: a tree of the wanted structure; arrays may be `jax.ShapeDtypeStruct`s.
        state_dict: arrays by dotted names.
        prefix: what each name starts with.

    Raises:
        KeyError: for a name that the state dict lacks.
        AxisError: for an array of another shape.
    """
    if isinstance(tree, ModuleWithStateDictSerialization):
        return tree.from_state_dict(state_dict, prefix)
    if isinstance(tree, NamedArray):
        return unchecked(_entry(state_dict, _name(prefix), tree.array), tree.axes)
    if is_jax_array_like(tree):
        return _entry(state_dict, _name(prefix), tree)
    if _is_plain(tree):
        return state_dict.get(_name(prefix), tree)
    if isinstance(tree, eqx.Module):
        return _fields_from_state_dict(tree, state_dict, prefix)
    children = [from_state_dict(child, state_dict, with_prefix(prefix, key)) for key, child in _children(tree)]
    if isinstance(tree, dict):
        return dict(zip(tree, children, strict=True))
    if hasattr(tree, "_fields"):
        return type(tree)(*children)
    return type(tree)(children) if isinstance(tree, list | tuple) else tree


def _children(tree: Any) -> list[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        return [(str(key), child) for key, child in tree.items()]
    return [(str(at), child) for at, child in enumerate(tree)] if isinstance(tree, list | tuple) else []


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | complex | str)


def _name(prefix: str | None) -> str:
    if prefix is None:
        raise errors.array_without_name()
    return prefix


def _entry(state_dict: StateDict, name: str, like: Any) -> Any:
    if name not in state_dict:
        raise errors.missing_entry(name, list(state_dict))
    array = state_dict[name]
    if tuple(array.shape) != tuple(like.shape):
        raise errors.entry_shape(name, array.shape, like.shape)
    return jnp.asarray(array)


def _keyed_fields(module: eqx.Module) -> list[tuple[str, str | None]]:
    """The data fields of a module, each with its key."""
    own: Any = module
    keys = own._state_dict_key_map() if hasattr(module, "_state_dict_key_map") else {}
    fields = [field for field in dataclasses.fields(module) if not field.metadata.get("static", False)]
    return [(field.name, keys.get(field.name, field.name)) for field in fields]


def _fields_to_state_dict(module: eqx.Module, prefix: str | None) -> StateDict:
    result: StateDict = {}
    for name, key in _keyed_fields(module):
        result.update(to_state_dict(getattr(module, name), with_prefix(prefix, key)))
    return result


def _fields_from_state_dict(module: T, state_dict: StateDict, prefix: str | None) -> T:
    own: Any = module
    names = [name for name, _ in _keyed_fields(own)]
    values = [
        from_state_dict(getattr(own, name), state_dict, with_prefix(prefix, key)) for name, key in _keyed_fields(own)
    ]
    return eqx.tree_at(lambda m: [getattr(m, name) for name in names], own, values, is_leaf=lambda x: x is None)


def flatten_modules_for_export(t: T) -> T:
    """The tree with each module in the shape that it has outside: first the outer ones, then those inside them."""
    own: Any = t
    if isinstance(own, ModuleWithStateDictSerialization):
        own = own.flatten_for_export()
    return _on_inner_modules(own, flatten_modules_for_export)


def unflatten_modules_from_export(t: Any, template: Any) -> Any:
    """The tree with each module back in its own shape, which is that of `template`."""
    own, like = t, template
    if isinstance(template, ModuleWithStateDictSerialization):
        like = eqx.filter_eval_shape(lambda module: module.flatten_for_export(), template)
    own = _on_inner_modules(own, unflatten_modules_from_export, like)
    return own.unflatten_from_export(template) if isinstance(own, ModuleWithStateDictSerialization) else own


def to_torch_compatible_state_dict(
    t: Any,
    *,
    flatten: bool = True,
    prefix: str | None = None,
    filter: bool | Callable[[Any], bool] = is_jax_array_like,  # noqa: A002
) -> StateDict:
    """The arrays of a tree as numpy arrays, by the names and in the shapes that PyTorch uses.

    Args:
        t: any tree.
        flatten: whether layers take the shapes that they have in PyTorch.
        prefix: what each name starts with.
        filter: which entries to include: a predicate of the value, or a boolean; by default the arrays.

    >>> layer = hax.nn.Linear.init(*hax.make_axes(embed=8, mlp=16), key=jax.random.key(0))
    >>> {name: array.shape for name, array in hax.state_dict.to_torch_compatible_state_dict(layer, prefix="up").items()}
    {'up.weight': (16, 8), 'up.bias': (16,)}
    """
    entries = to_state_dict(flatten_modules_for_export(t) if flatten else t, prefix)
    return _as_numpy({name: x for name, x in entries.items() if (filter(x) if callable(filter) else filter)})


def from_torch_compatible_state_dict(
    t: T, state_dict: StateDict, *, unflatten: bool = True, prefix: str | None = None
) -> T:
    """The tree with its arrays taken from a state dict that has PyTorch's names and shapes.

    Args:
        t: a tree of the wanted structure; arrays may be `jax.ShapeDtypeStruct`s.
        state_dict: arrays by PyTorch's names.
        unflatten: whether layers have the shapes there that they have in PyTorch.
        prefix: what each name starts with.

    Raises:
        KeyError: for a name that the state dict lacks.
        AxisError: for an array of another shape.
    """
    if not unflatten:
        return from_state_dict(t, state_dict, prefix)
    outside = eqx.filter_eval_shape(flatten_modules_for_export, t)
    return unflatten_modules_from_export(from_state_dict(outside, state_dict, prefix), t)


def to_numpy_state_dict(model: Any, prefix: str | None = None) -> StateDict:
    """Like `to_state_dict`, with numpy arrays.

    Args:
        model: any tree.
        prefix: what each name starts with.
    """
    return _as_numpy(to_state_dict(model, prefix))


def _as_numpy(state_dict: StateDict) -> StateDict:
    return {name: np.asarray(x) if is_jax_array_like(x) else x for name, x in state_dict.items()}


def save_state_dict(state_dict: StateDict, path: str | os.PathLike[str]) -> None:
    """Writes a state dict to a safetensors file. Entries that are None are left out.

    Args:
        state_dict: arrays by dotted names.
        path: the file to write.

    Raises:
        ImportError: if the package `safetensors` is not installed.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in state_dict.items() if array is not None}
    _safetensors().save_file(arrays, path)


def load_state_dict(path: str | os.PathLike[str]) -> StateDict:
    """The state dict of a safetensors file, as numpy arrays.

    Raises:
        ImportError: if the package `safetensors` is not installed.
    """
    return _safetensors().load_file(path)


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.numpy")
    except ImportError as error:
        raise errors.safetensors_missing() from error
