"""Which axis mapping is in force: from the names of axes to those of the device mesh.

A mapping is in force within `axis_mapping(...)`, for the thread or asyncio task that entered it and for nobody else. A
thread starts without one, also one that is started within a mapping. What is run in a copy of the context, as tasks and
`asyncio.to_thread` are, has the mapping that was in force there, with its mesh; for other threads
`contextvars.copy_context().run` does the same.

What JAX compiles under one mapping must not be used under another, so the mapping is part of its cache key. JAX keeps
that key for each thread, not for each task: `named_jit` sets it for each call where it is not that of its task, and a
function of `jax.jit` that is traced where another task has left its key gives a warning.

A misspelt name in a mapping would lay nothing out and say nothing. So each entry remembers which axes were looked up
in it, and at its end warns of a name that no array had, where an array had one that is spelt almost the same. A
mapping may well hold names that a program never uses: that alone says nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax

from haliax import errors
from haliax._compat import current_mesh
from haliax.core import explicit
from haliax.jax_utils import is_in_jit

PhysicalAxisSpec = str | Sequence[str]
"""The mesh axis, or the mesh axes in order, that an axis is spread over."""
ResourceMapping = Mapping[str, PhysicalAxisSpec]
"""From the names of axes to mesh axes: `{"batch": "data", "mlp": "model"}`."""


class InForce:
    """One `with axis_mapping(...)`: what it says, and the names of the axes that were laid out by it."""

    __slots__ = ("key", "mapping", "mesh", "names", "thread")

    def __init__(self, mapping: dict[str, Any]):
        self.mapping = mapping
        self.key = _hashable(mapping)
        self.mesh = current_mesh()
        self.names: set[str] = set()
        self.thread = threading.get_ident()


_own: ContextVar[InForce | None] = ContextVar("haliax_axis_mapping", default=None)

# Part of the key of every cache of JAX, so that nothing that was traced under one mapping is used under another.
_jit_cache_key = jax.make_user_context(default_value=None)


def in_force() -> InForce | None:
    """The mapping of this thread or asyncio task."""
    entry = _own.get()
    if _jit_cache_key.value != _key_of(entry) and is_in_jit():
        errors.warn_of_foreign_mapping(None if entry is None else entry.mapping)
    return entry


def is_cached_under_own_key() -> bool:
    """Whether what JAX compiles now is remembered for the mapping in force, and for the mesh that comes with it."""
    return _jit_cache_key.value == _key_of(_own.get())


def own_cache_key() -> Any:
    """The context within which it is."""
    return _jit_cache_key(_key_of(_own.get()))


def _key_of(entry: InForce | None) -> Any:
    if entry is None:
        return None
    return entry.key if entry.thread == threading.get_ident() else (entry.key, entry.mesh)


def mesh_in_force() -> Any:
    """The mesh of this thread, else the one that came with the mapping from another thread; None if there is none."""
    mesh = current_mesh()
    if mesh is None and (entry := in_force()) is not None and entry.thread != threading.get_ident():
        return entry.mesh
    return mesh


def current_thread_local_mapping() -> ResourceMapping | None:
    """The mapping in force: the innermost that this thread or asyncio task has entered; None without."""
    entry = in_force()
    return None if entry is None else entry.mapping


explicit.MAPPINGS[:] = [current_thread_local_mapping]


@contextmanager
def axis_mapping(mapping: ResourceMapping, *, merge: bool = False, **names: PhysicalAxisSpec) -> Iterator[None]:
    """Within this context the mapping is in force, for this thread or asyncio task.

    Args:
        mapping: from the names of axes to those of mesh axes.
        merge: whether the entries of the mapping in force outside stay in force; they win over new ones.
        names: further entries.

    Warns:
        AxisWarning: at the end, for a name that no array had, where one had almost the same.

    >>> with hax.axis_mapping({"batch": "data"}):
    ...     hax.partitioning.pspec_for_axis(hax.make_axes(batch=4, embed=8))
    P('data', None)
    """
    outer = in_force() if merge else None
    entry = InForce({**mapping, **names, **({} if outer is None else outer.mapping)})
    token = _own.set(entry)
    _set_jit_cache_key(entry)
    try:
        yield
    finally:
        _own.reset(token)
        _set_jit_cache_key(_own.get())
    if outer is not None:
        outer.names |= entry.names
    warn_of_misspelt(entry.mapping, entry.names)


def _set_jit_cache_key(entry: InForce | None) -> None:
    # Never left: leaving would bring back the key of whichever asyncio task entered a mapping before this one.
    _jit_cache_key(_key_of(entry)).__enter__()


def _hashable(mapping: ResourceMapping) -> Any:
    return tuple(
        sorted((name, axis if axis is None or isinstance(axis, str) else tuple(axis)) for name, axis in mapping.items())
    )


def note_names(names: Iterable[str]) -> None:
    """Says that arrays with these axes are laid out by the mapping in force."""
    entry = in_force()
    if entry is not None:
        entry.names.update(names)


def warn_of_misspelt(mapping: ResourceMapping, names: set[str]) -> None:
    """Warns of each name of the mapping that is none of `names`, if one of these, itself not mapped, is nearly it."""
    unmapped = sorted(names - mapping.keys())
    for name in mapping.keys() - names if unmapped else ():
        for candidate in unmapped:
            if is_misspelt(name, candidate):
                errors.warn_of_misspelt_axis(name, mapping[name], candidate)
                break


def is_misspelt(name: str, other: str) -> bool:
    """Whether the two differ by one slip of the keyboard in one word, and not in a way that tells axes apart.

    `embd` and `embed`, `bacth` and `batch`, `Heads` and `head` are; `mlp` and `mlp2`, `key_position` and `position`,
    `pos` and `kpos` are not.
    """
    words, others = name.lower().split("_"), other.lower().split("_")
    if len(words) != len(others):
        return "".join(words) == "".join(others)
    differing = [(word, other) for word, other in zip(words, others, strict=True) if word != other]
    return not differing or (len(differing) == 1 and _one_slip(*differing[0]))


def _one_slip(word: str, other: str) -> bool:
    """Whether one letter is left out, put in or replaced, or two neighbours swapped; short words are told apart."""
    if min(len(word), len(other)) < 4 or word[0] != other[0] or word.rstrip("0123456789") == other.rstrip("0123456789"):
        return False
    same = next((at for at, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    rest, other_rest = word[same:], other[same:]
    return (
        rest[1:] == other_rest[1:]
        or rest[1:] == other_rest
        or rest == other_rest[1:]
        or (rest[1::-1] == other_rest[:2] and rest[2:] == other_rest[2:])
    )
