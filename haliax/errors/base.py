"""The kinds of errors, and what their wordings are made of: named shapes, the nearest name, the user's own line."""

from __future__ import annotations

import contextlib
import difflib
import linecache
import os
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

from haliax.core import printing

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_CONTEXTLIB = contextlib.__file__
_LIBRARIES = tuple(f"{os.sep}site-packages{os.sep}{name}{os.sep}" for name in ("jax", "jaxlib", "equinox", "typeguard"))


class AxisError(ValueError):
    """Axes that do not fit: absent, twice there, of two sizes, or not broadcastable."""


class AxisSizeError(AxisError, RuntimeError):
    """An axis that is there with another size than it was asked for; published code catches a RuntimeError."""


class AxisTypeError(AxisError, TypeError):
    """An array with axes where a scalar is needed, or a bare name where an axis with a size is.

    A TypeError too, as in `float(jax_array)`.
    """


class ContradictionError(ValueError, AssertionError):
    """Values that cannot be meant: out of their range, or at odds with each other."""


class NamedTypeError(TypeError, ValueError):
    """A value of the wrong kind where a NamedArray, a selector or an index is expected.

    Published code catches some of these as a ValueError, so it is one too.
    """


class NamedIndexError(AxisError, IndexError):
    """An index that an axis does not have, or that cannot be one."""


class UnknownMeshAxisError(AxisError, KeyError):
    """A mesh axis that the mesh does not have."""

    __str__ = ValueError.__str__


class AxisKeyError(AxisError, KeyError):
    """A name, or a number, that a shape does not have."""

    __str__ = ValueError.__str__


class CarryError(AxisError, TypeError):
    """A loop whose step returns another kind of carry than it was given; `jax.lax.scan` raises a TypeError."""


class AxisWarning(UserWarning):
    """Something about axes that is allowed, and is most likely a mistake."""


# Tracebacks and pickles name them by where they are imported from.
for _kind in (
    AxisError,
    AxisKeyError,
    AxisSizeError,
    AxisTypeError,
    CarryError,
    ContradictionError,
    NamedTypeError,
    NamedIndexError,
    UnknownMeshAxisError,
    AxisWarning,
):
    _kind.__module__ = "haliax.errors"


def user_line() -> str | None:
    """`model.py:12: y = x + z` for the innermost line of the call stack that is not in a library."""
    frame = user_frame()
    if frame is None:
        return None
    filename = frame.f_code.co_filename
    return f"{os.path.basename(filename)}:{frame.f_lineno}: {linecache.getline(filename, frame.f_lineno).strip()}"


def user_frame() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_library(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def _is_library(filename: str) -> bool:
    return filename.startswith((_PACKAGE, _CONTEXTLIB, "<")) or any(part in filename for part in _LIBRARIES)


def placed(error: Any) -> Any:
    line = user_line()
    if line is not None:
        error.add_note(line)
    return error


def axis_error(message: str) -> AxisError:
    return placed(AxisError(message))


def type_error(message: str) -> NamedTypeError:
    return placed(NamedTypeError(message))


def shown(value: Any) -> str:
    """The named shape of a value, or `[batch=4]` for a bare sequence of axes."""
    if isinstance(value, tuple | list):
        return f"[{printing.axes_text(value)}]"
    return printing.shape_text(value)


def all_shown(values: Iterable[Any]) -> str:
    return " and ".join(shown(value) for value in values)


def names_in(value: Any) -> list[str]:
    axes = value if isinstance(value, tuple | list) else getattr(value, "axes", ())
    return [axis if isinstance(axis, str) else axis.name for axis in axes]


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`; did you mean `embed`?` where a candidate is near, else the empty string."""
    close = difflib.get_close_matches(name, list(candidates), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def described(value: Any) -> str:
    return repr(value) if isinstance(value, tuple | list) else shown(value)
