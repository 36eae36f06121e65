"""Dropout: elements set to zero at random, in training."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from haliax import errors, random
from haliax.axis import AxisSelection, ensure_tuple
from haliax.core.array import NamedArray, held, hold, unchecked, wrap
from haliax.core.explicit import on_any_mesh
from haliax.ops.align import aligned


@on_any_mesh
def dropout(
    x: NamedArray,
    pdrop: float | jax.Array,
    broadcast_axes: AxisSelection | None = None,
    *,
    inference: bool,
    key: jax.Array | None = None,
) -> NamedArray:
    """`x` with each element zero with probability `pdrop`, the others divided by `1 - pdrop`.

    Args:
        x: a NamedArray.
        pdrop: the probability.
        broadcast_axes: axes along which the elements fall or stay together.
        inference: whether to leave `x` as it is.
        key: a random key; not needed for inference or a `pdrop` of 0.

    Raises:
        RuntimeError: if the key is missing.
        NamedTypeError: for an array of integers.
    """
    if inference or (isinstance(pdrop, int | float) and pdrop == 0):
        return x
    if isinstance(pdrop, int | float) and pdrop == 1:
        return wrap(jnp.zeros_like(x.array), x.axes)
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise errors.not_floating("dropout", x)
    if key is None:
        raise errors.dropout_without_key()
    together = () if broadcast_axes is None else x.resolve_axis(ensure_tuple(broadcast_axes))
    kept = random.bernoulli(key, tuple(axis for axis in x.axes if axis not in together), 1 - pdrop)
    own = held(x)
    scaled = own.array / jnp.asarray(1 - pdrop, x.dtype)
    return hold(unchecked(jnp.where(aligned(kept, own.axes), scaled, jnp.zeros((), x.dtype)), own.axes), x.axes)


class Dropout(eqx.Module):
    """Dropout as a layer.

    `inference` may be set in a whole model with `eqx.nn.inference_mode(model)`. Where nobody says anything it is None,
    which means False, so that a model has no leaf that is not an array.

    >>> dropout = hax.nn.Dropout(0.5)
    >>> dropout(hax.ones({"embed": 2}), inference=True)
    f32[embed=2] [1. 1.]
    """

    pdrop: float | jax.Array = eqx.field(static=True, default=0.5)
    """The probability that an element is dropped."""
    broadcast_axes: AxisSelection | None = eqx.field(static=True, default=None)
    """Axes along which elements fall or stay together."""
    inference: bool | None = None
    """Whether nothing is dropped."""

    def __call__(self, x: NamedArray, *, inference: bool | None = None, key: jax.Array | None = None) -> NamedArray:
        """`x` with elements dropped; see `dropout`. `inference` here goes before that of the layer.

        Raises:
            RuntimeError: if something may be dropped and the key is missing.
        """
        given = self.inference if inference is None else inference
        return dropout(x, self.pdrop, self.broadcast_axes, inference=bool(given), key=key)

    @property
    def is_active(self) -> bool:
        """Whether anything may be dropped, so that a key is needed."""
        return not self.inference and bool(self.pdrop != 0)
