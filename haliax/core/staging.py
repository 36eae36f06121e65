"""Marks that carry axis names into a JAX trace.

A named array is a plain array plus names, and JAX sees only the plain array. While a step is *staged* (traced by `ir`),
every named result passes through the no-op primitive `named`, whose parameter is its axis names; a rename passes
through `renamed`, the one deliberate cut between two names of the same dimension. Both are identities under
differentiation, transposition and batching, and lower to nothing.

Outside `staging()` neither exists: no equation is added and compiled programs are unchanged. The staging flag is part
of JAX's jit cache key, so a function traced inside never leaks marks to a call outside, and the other way round.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import jax
from jax.core import Tracer
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Names = tuple[str | None, ...]

WRAPPERS = frozenset({"array", "stacked"})
"""Parts of the path of an argument's leaf that only say how modules are nested inside haliax."""

named_p = Primitive("named")
renamed_p = Primitive("renamed")
MARKS = frozenset({named_p, renamed_p})

_staging: ContextVar[bool] = ContextVar("haliax_staging", default=False)
_jit_cache_key = jax.make_user_context(default_value=False)


@contextmanager
def staging() -> Iterator[None]:
    """Within this context, named arrays leave marks in the traces that contain them."""
    token = _staging.set(True)
    try:
        with _jit_cache_key(True):
            yield
    finally:
        _staging.reset(token)


def is_staging() -> bool:
    """Whether a step is being staged in this thread."""
    return _staging.get()


def mark(array: Any, names: Sequence[str | None]) -> Any:
    """`array`, with the names of its dimensions recorded in the trace (one name, or None, per dimension).

    A name like `__batch__` is a helper's own, for a moment: it is not recorded, and the dimension is what it was.
    """
    if not _staging.get() or not isinstance(array, Tracer):
        return array
    return named_p.bind(array, names=_recorded(tuple(names)))


@cache
def _recorded(names: Names) -> Names:
    return tuple([None if _is_helpers(name) else name for name in names])


def _is_helpers(name: str | None) -> bool:
    return name is not None and name.startswith("__")


def mark_rename(array: Any, old: Sequence[str | None], new: Sequence[str | None]) -> Any:
    """`array`, whose dimensions are called `old` before this point of the trace and `new` after it.

    A dimension that gets a helper's own name keeps the one it has.
    """
    if not _staging.get() or not isinstance(array, Tracer):
        return array
    before = _recorded(tuple(old))
    after = tuple([was if _is_helpers(now) else now for was, now in zip(before, new, strict=True)])
    return array if after == before else renamed_p.bind(array, old=before, new=after)


def _with_batch_dim(names: Names, position: int) -> Names:
    return (*names[:position], None, *names[position:])


def _jvp_named(primals: tuple[Any], tangents: tuple[Any], *, names: Names) -> tuple[Any, Any]:
    # A tangent, or cotangent, meets its primal sooner or later and gets the names from there: a mark of its own would
    # be one more equation to differentiate and transpose.
    return named_p.bind(*primals, names=names), *tangents


def _batch_named(args: tuple[Any], dims: tuple[int], *, names: Names) -> tuple[Any, int]:
    (array,), (position,) = args, dims
    return named_p.bind(array, names=_with_batch_dim(names, position)), position


def _batch_renamed(args: tuple[Any], dims: tuple[int], *, old: Names, new: Names) -> tuple[Any, int]:
    (array,), (position,) = args, dims
    # The batched dimension keeps its identity across the rename; None on both sides says so.
    return (
        renamed_p.bind(array, old=_with_batch_dim(old, position), new=_with_batch_dim(new, position)),
        position,
    )


named_p.def_impl(lambda array, *, names: array)
renamed_p.def_impl(lambda array, *, old, new: array)
for _primitive in (named_p, renamed_p):
    _primitive.def_abstract_eval(lambda aval, **_: aval)
    mlir.register_lowering(_primitive, lambda context, operand, **_: [operand])
ad.deflinear2(named_p, lambda cotangent, array, *, names: [named_p.bind(cotangent, names=names)])
ad.primitive_jvps[named_p] = _jvp_named
ad.deflinear2(renamed_p, lambda cotangent, array, *, old, new: [renamed_p.bind(cotangent, old=new, new=old)])
batching.primitive_batchers[named_p] = _batch_named
batching.primitive_batchers[renamed_p] = _batch_renamed
