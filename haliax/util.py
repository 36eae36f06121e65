"""Small helpers that have nothing to do with arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from haliax.array import NamedArray
from haliax.axis import ensure_tuple as ensure_tuple
from haliax.axis import index_where as index_where
from haliax.jax_utils import is_jax_or_hax_array_like as is_jax_or_hax_array_like

T = TypeVar("T")


class Unspecified:
    """The type of `UNSPECIFIED`: an argument that was not given, where None means something."""

    def __repr__(self) -> str:
        return "UNSPECIFIED"


UNSPECIFIED = Unspecified()


def is_named_array(value: Any) -> bool:
    """Whether the value is a NamedArray."""
    return isinstance(value, NamedArray)


def maybe_untuple(values: Sequence[T] | T) -> Sequence[T] | T:
    """The only element of a tuple or list of one; anything else as it is."""
    return values[0] if isinstance(values, tuple | list) and len(values) == 1 else values


def safe_update_wrapper(wrapper: Callable[..., Any], wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """`functools.update_wrapper` that leaves out what `wrapped` does not have."""
    return functools.update_wrapper(wrapper, wrapped, updated=("__dict__",) if hasattr(wrapped, "__dict__") else ())


def safe_wraps(wrapped: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`functools.wraps` that leaves out what `wrapped` does not have."""
    return functools.partial(safe_update_wrapper, wrapped=wrapped)


class StringHolderEnum(StrEnum):
    """An enumeration whose members are strings, and may be used where a string is."""
