"""`jax.grad` of a function whose result is a NamedArray without axes.

`jax.grad` and `jax.value_and_grad` want a scalar array, and have no public way to say that something else is one. A
loss that is a NamedArray without axes is one as it stands: its value is returned as it is, and its cotangent is a
NamedArray too. Importing this module makes it so; a loss with axes is an error that names them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from haliax import _compat, errors
from haliax.core.array import NamedArray, unchecked


def _scalar_check(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def check(loss: Any) -> Any:
        if not isinstance(loss, NamedArray):
            return original(loss)
        if loss.axes:
            raise errors.loss_with_axes(loss)
        return original(loss.array)

    return check


def _unit_cotangent(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def one(loss: Any) -> Any:
        return unchecked(original(loss.array), ()) if isinstance(loss, NamedArray) else original(loss)

    return one


_compat.extend_grad(_scalar_check, _unit_cotangent)
