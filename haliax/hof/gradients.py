"""Derivatives of a function whose result is a NamedArray without axes: `grad` and `value_and_grad`.

They are those of JAX, and take such a loss as it is. `jax.grad` itself wants an array and has no protocol by which
another type could be one, so it is given `loss.scalar()`; `enable_jax_grad` changes that for who asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import jax

from haliax import _compat, errors
from haliax.core.array import NamedArray, unchecked


def value_and_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., tuple[Any, Any]]:
    """`jax.value_and_grad` of a function that may give a NamedArray without axes: its value is one then.

    Args:
        fun: from arguments to a loss, a scalar; or with `has_aux` to a pair of that and any tree.
        argnums: by which positional arguments, any trees, to differentiate.
        has_aux: whether the function gives a pair.
        holomorphic: whether it is promised to be holomorphic.
        allow_int: whether integers may be differentiated by; their gradients are of dtype `float0`.

    Returns:
        A function that gives a pair: what `fun` gives, and the gradient, whose NamedArrays have the axes of the
        argument.

    Raises:
        NamedTypeError: if the loss has axes.

    >>> x = hax.arange({"embed": 3}, dtype=jnp.float32)
    >>> hax.value_and_grad(lambda x: (x * x).sum())(x)
    (f32[] 5., f32[embed=3] [0. 2. 4.])
    """

    @wraps(fun, updated=())
    def differentiated(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        is_named = False

        @wraps(fun, updated=())
        def unnamed(*args: Any, **kwargs: Any) -> Any:
            nonlocal is_named
            result = fun(*args, **kwargs)
            if has_aux and not (isinstance(result, tuple) and len(result) == 2):
                return result  # JAX says what is wrong
            loss: Any = result[0] if has_aux else result
            is_named = isinstance(loss, NamedArray)
            raw = _scalar(loss) if isinstance(loss, NamedArray) else loss
            return (raw, result[1]) if has_aux else raw

        of_arrays = jax.value_and_grad(unnamed, argnums, has_aux, holomorphic=holomorphic, allow_int=allow_int)
        value, gradient = of_arrays(*args, **kwargs)
        if is_named:
            value = (unchecked(value[0], ()), value[1]) if has_aux else unchecked(value, ())
        return value, gradient

    return differentiated


def grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """`jax.grad` of a function that may give a NamedArray without axes; with `has_aux` a pair of gradient and tree.

    Args and errors are those of `value_and_grad`.

    >>> hax.grad(lambda x: (x * x).sum())(hax.arange({"embed": 3}, dtype=jnp.float32))
    f32[embed=3] [0. 2. 4.]
    """
    with_value = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int)

    @wraps(fun, updated=())
    def gradient_of(*args: Any, **kwargs: Any) -> Any:
        value, gradient = with_value(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return gradient_of


def enable_jax_grad() -> None:
    """Lets `jax.grad` and `jax.value_and_grad`, and what is built on them, take a NamedArray without axes for a loss.

    This replaces two functions inside of JAX, for the whole process and until it ends. Calling it again changes
    nothing. Where a version of JAX lacks these functions nothing happens, and the error stays.
    """
    _compat.extend_grad(_scalar_check, _unit_cotangent)


def _scalar(loss: NamedArray) -> Any:
    if loss.axes:
        raise errors.loss_with_axes(loss)
    return loss.array


def _scalar_check(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def check(loss: Any) -> Any:
        return original(_scalar(loss) if isinstance(loss, NamedArray) else loss)

    return check


def _unit_cotangent(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def one(loss: Any) -> Any:
        return unchecked(original(loss.array), ()) if isinstance(loss, NamedArray) else original(loss)

    return one
