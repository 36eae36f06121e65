"""Small helpers that have nothing to do with arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import equinox as eqx

from haliax.axis import ensure_tuple as ensure_tuple
from haliax.axis import index_where as index_where
from haliax.core.array import NamedArray
from haliax.jax_utils import is_jax_array_like as is_jax_array_like
from haliax.jax_utils import is_jax_or_hax_array_like as is_jax_or_hax_array_like

T = TypeVar("T")


class Unspecified:
    """The type of `UNSPECIFIED`: an argument that was not given, where None means something."""

    def __repr__(self) -> str:
        return "UNSPECIFIED"


UNSPECIFIED = Unspecified()


def is_named_array(leaf: Any) -> bool:
    """Whether the leaf is a NamedArray."""
    return isinstance(leaf, NamedArray)


def maybe_untuple(x: Sequence[T] | T) -> Sequence[T] | T:
    """The only element of a tuple of one; anything else as it is."""
    return x[0] if isinstance(x, tuple) and len(x) == 1 else x


def safe_update_wrapper(wrapper: Callable[..., Any], wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """`functools.update_wrapper` that leaves out what `wrapped` does not have, and takes an equinox module as wrapper.

    Raises:
        ValueError: if the wrapper is a module without a property `__wrapped__`.
    """
    if isinstance(wrapper, eqx.Module):
        return eqx.module_update_wrapper(wrapper)
    return functools.update_wrapper(wrapper, wrapped, updated=("__dict__",) if hasattr(wrapped, "__dict__") else ())


def safe_wraps(fn: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`functools.wraps` that leaves out what `fn` does not have."""
    return functools.partial(safe_update_wrapper, wrapped=fn)


class StringHolderEnum(type):
    """The type of classes that hold string constants: `class Colour(metaclass=StringHolderEnum): RED = "red"`.

    `Colour.RED` is the string itself. Iterating over the class gives the strings, and `in` looks among them.
    """

    def __iter__(cls) -> Iterator[str]:
        return (value for name, value in vars(cls).items() if isinstance(value, str) and not name.startswith("_"))
