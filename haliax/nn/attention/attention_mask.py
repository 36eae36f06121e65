"""`AttentionMask`: which keys a query sees, said in a few numbers instead of an array of all pairs.

Such a mask costs nothing where no pair is visible that another part hides, and a backend that works block by block, or
a kernel, computes from it what it needs.
"""

from __future__ import annotations

import equinox as eqx
import jax

from haliax.core.array import NamedArray


class AttentionMask(eqx.Module):
    """Which keys a query sees: those that every part given here allows.

    Positions count from 0: of keys along their axis, of queries from `starts`. All but `causal` may be traced.

    Args:
        causal: a key must not be after the query.
        window: a key must be one of the last `window` up to the query: `0 <= query - key < window`. 0 or less: any.
        prefix: how many of the first keys are seen by every query, whatever `causal` and `window` say; an integer, or
            one for each batch.
        segments: integers for the queries `[..., position]` and for the keys `[..., key_position]`: a query sees the
            keys of its own segment only, those of the prefix included.
        starts: the position of the first query, as in decoding with a cache; an integer, or one for each batch.

    >>> hax.nn.attention.AttentionMask(causal=True, window=1024)
    AttentionMask(causal=True, window=1024)
    """

    causal: bool = eqx.field(static=True, default=False)
    window: int | jax.Array | None = None
    prefix: int | jax.Array | NamedArray | None = None
    segments: tuple[NamedArray, NamedArray] | None = None
    starts: int | jax.Array | NamedArray | None = None
