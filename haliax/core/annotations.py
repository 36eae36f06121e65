"""`NamedArray["batch embed"]`: what an annotation says about the axes, and the dtype, of a named array.

A spec names axes: `"batch embed"` or `("batch", "embed")` in this order, with `...` for any axes in between, and the
set `{"batch", "embed"}` (or `"{batch embed}"`) in any order. Subscribing the class gives
`typing.Annotated[NamedArray, NamedArrayAxes(...)]`, which type checkers read as `NamedArray`.
`haliax.haxtyping` adds the dtype: `f32[NamedArray, "batch embed"]`.
"""

from __future__ import annotations

import types
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import jax.numpy as jnp

from haliax import errors


@dataclass(frozen=True)
class DTypeCategory:
    """A kind of dtypes, such as all floating ones.

    Args:
        name: `float`, `int`, …, as it is written.
        category: the abstract type of `jax.numpy`, such as `jnp.floating`.
    """

    name: str
    category: Any

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class NamedArrayAxes:
    """The axes that an annotation asks for.

    Args:
        before: names of axes, in front of `...` if there is one.
        after: names of axes behind `...`.
        ordered: whether the axes are in this order.
        subset: whether there may be further axes: in the place of `...`, or anywhere if not ordered.
        dtype: a dtype, a `DTypeCategory`, or None for any.
    """

    before: tuple[str, ...]
    after: tuple[str, ...] = ()
    ordered: bool = True
    subset: bool = False
    dtype: Any = None

    def __repr__(self) -> str:
        words = [*self.before, *(["..."] if self.subset else []), *(self.after if self.ordered else ())]
        text = " ".join(words) if self.ordered else f"{{{', '.join(words)}}}"
        dtype = "" if self.dtype is None else f"{getattr(self.dtype, '__name__', self.dtype)} "
        return f"NamedArray[{dtype}{text}]"

    def match(self, names: Sequence[str], dtype: Any) -> bool:
        """Whether an array whose axes have these names, in order, and that has this dtype is as asked for."""
        wanted = (*self.before, *self.after)
        if not self.subset and len(names) != len(wanted) or len(names) < len(wanted):
            return False
        if self.ordered:
            fits = tuple(names[: len(self.before)]) + tuple(names[len(names) - len(self.after) :]) == wanted
        else:
            fits = set(wanted) <= set(names)
        return fits and self._has(dtype)

    def _has(self, dtype: Any) -> bool:
        if self.dtype is None:
            return True
        if isinstance(self.dtype, DTypeCategory):
            return bool(jnp.issubdtype(dtype, self.dtype.category))
        return dtype == jnp.dtype(self.dtype)


NamedArrayAxesSpec = NamedArrayAxes | str | Sequence[str | types.EllipsisType] | Set[str | types.EllipsisType]
"""What names axes in an annotation: `"batch embed"`, a sequence (in order), or a set (in any order)."""


def parse_spec(spec: Any) -> NamedArrayAxes:
    """The axes that a spec, or an annotation that holds one, asks for.

    Raises:
        NamedTypeError: if it is not a spec, or has two `...`.
    """
    if isinstance(spec, NamedArrayAxes):
        return spec
    if get_origin(spec) is Annotated:
        return parse_spec(get_args(spec)[1])
    if isinstance(spec, str):
        inside = spec.strip()
        braces = inside.startswith("{") and inside.endswith("}")
        words = inside[1:-1].split() if braces else inside.split()
        return _of_words(spec, [Ellipsis if word == "..." else word for word in words], ordered=not braces)
    if isinstance(spec, Set):
        return _of_words(spec, sorted(spec, key=str), ordered=False)
    if isinstance(spec, Sequence):
        return _of_words(spec, list(spec), ordered=True)
    raise errors.bad_axes_annotation(spec)


def _of_words(spec: Any, words: list[Any], ordered: bool) -> NamedArrayAxes:
    gaps = [place for place, word in enumerate(words) if word is Ellipsis]
    names = [word for word in words if word is not Ellipsis]
    if len(gaps) > 1 or not all(isinstance(name, str) for name in names):
        raise errors.bad_axes_annotation(spec)
    before = gaps[0] if gaps and ordered else len(names)
    return NamedArrayAxes(tuple(names[:before]), tuple(names[before:]), ordered, bool(gaps))


class NamedArrayMeta(type):
    """The type of `NamedArray`, which lets the class be subscribed: `NamedArray["batch embed"]`."""

    def __getitem__(cls, spec: Any) -> Any:
        return Annotated[cls, parse_spec(spec)]
