"""`field`: a field of a module that says which axes the unnamed array in it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx

from haliax import errors


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
