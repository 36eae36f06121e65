"""What a NamedArray answers to `jax.grad`, which wants an array for a loss: an error that says how it is done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from haliax import _compat, errors
from haliax.core.array import NamedArray


def jax_array(array: NamedArray) -> Callable[[], Any]:
    """The method by which JAX would get the array from an object that is none: there is no such method.

    Raises:
        AxisError: if `jax.grad` asks.
        AttributeError: if anything else does.
    """
    if _compat.is_scalar_check(sys._getframe(1)):
        raise errors.named_loss(array)
    raise AttributeError("'NamedArray' object has no attribute '__jax_array__'", name="__jax_array__", obj=array)
