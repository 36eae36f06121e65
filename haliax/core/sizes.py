"""The shape of a NamedArray: a dict from names to sizes, which says so where it is asked by number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

from haliax import errors


class NamedShape(dict[str, int]):
    """The sizes by name, in the order of the axes: `{"batch": 2, "embed": 3}`."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> int:
        try:
            return dict.__getitem__(self, key)
        except (KeyError, TypeError):
            raise errors.no_such_size(self, key) from None


def _flatten(shape: NamedShape) -> tuple[tuple[int, ...], tuple[str, ...]]:
    names = tuple(sorted(shape))
    return tuple(shape[name] for name in names), names


def _flatten_with_keys(shape: NamedShape) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    sizes, names = _flatten(shape)
    return tuple((jax.tree_util.DictKey(name), size) for name, size in zip(names, sizes, strict=True)), names


def _unflatten(names: tuple[str, ...], sizes: Iterable[int]) -> NamedShape:
    return NamedShape(zip(names, sizes, strict=True))


jax.tree_util.register_pytree_with_keys(NamedShape, _flatten_with_keys, _unflatten, _flatten)
