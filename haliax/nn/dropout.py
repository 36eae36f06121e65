"""Dropout."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from haliax import errors, random
from haliax.align import aligned
from haliax.array import NamedArray, wrap
from haliax.axis import AxisSelection, ensure_tuple


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
        ValueError: if the key is missing.
    """
    if inference or (isinstance(pdrop, int | float) and pdrop == 0):
        return x
    if isinstance(pdrop, int | float) and pdrop == 1:
        return wrap(jnp.zeros_like(x.array), x.axes)
    if key is None:
        raise errors.dropout_without_key()
    together = () if broadcast_axes is None else x.resolve_axis(ensure_tuple(broadcast_axes))
    kept = random.bernoulli(key, tuple(axis for axis in x.axes if axis not in together), 1 - pdrop)
    scaled = x.array / jnp.asarray(1 - pdrop, x.dtype)
    return wrap(jnp.where(aligned(kept, x.axes), scaled, jnp.zeros((), x.dtype)), x.axes)


class Dropout(eqx.Module):
    """Dropout as a layer."""

    pdrop: float | jax.Array = eqx.field(static=True)
    broadcast_axes: AxisSelection | None = eqx.field(static=True, default=None)
    inference: bool = eqx.field(static=True, default=False)

    def __call__(self, x: NamedArray, *, inference: bool | None = None, key: jax.Array | None = None) -> NamedArray:
        """`x` with elements dropped; see `dropout`. `inference` here goes before that of the layer.

        Raises:
            ValueError: if something may be dropped and the key is missing.
        """
        inference = self.inference if inference is None else inference
        return dropout(x, self.pdrop, self.broadcast_axes, inference=inference, key=key)

    @property
    def is_active(self) -> bool:
        """Whether anything may be dropped."""
        return bool(self.pdrop != 0)
