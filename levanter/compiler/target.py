"""What `MODULE:FUNCTION` names: a training step, the arguments to look at it with, and the names of their dims.

Arguments are only looked at, never computed with, so shapes do: `jax.ShapeDtypeStruct`, also inside a `NamedArray`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from levanter.compiler import errors
from levanter.user_code import found, imported

ARGUMENTS, NAMES = "_arguments", "_names"
"""What the companions of a step end in: `train_arguments` is beside `train`. `step_arguments` goes with any step."""
_ANY_STEP = "step"


@dataclass(frozen=True)
class Target:
    """How a command line names a step.

    Attributes:
        step: `package.module:function` or `path/to/file.py:function`. A function without parameters is called for
            `(step, arguments)` or `(step, arguments, names)`; any other is the step itself.
        arguments: the same for the arguments, a tuple or a function that returns one; `:name` looks in the module of
            the step. Left out: `FUNCTION_arguments` in that module, or `step_arguments`.
        names: the same for the names of dims, a mapping or a function of path and shape; the path of a file alone
            looks for `FUNCTION_names`, or `step_names`, in it. Left out: those beside the step, if any.
    """

    step: str
    arguments: str | None = None
    names: str | None = None


@dataclass(frozen=True)
class UserStep:
    """A step of the user's, ready to be traced: `ir.trace(function, *arguments, names=names)`."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    names: Any = None


def load_step(target: Target) -> UserStep:
    """The step that a command line names.

    Raises:
        UserError: there is no such module or function, or it gives no step, no arguments, or what are no names.
    """
    module, name = _split(target.step)
    function = found(module, name, target.step)
    if not callable(function):
        raise errors.not_a_step(target.step, type(function).__name__)
    beside = _companion(module, name, ARGUMENTS)
    if target.arguments is None and not hasattr(module, name + ARGUMENTS) and _takes_nothing(function):
        given = _called(function, target.step)
        if not (isinstance(given, tuple) and len(given) in (2, 3) and callable(given[0])):
            raise errors.no_step_and_arguments(target.step, type(given).__name__)
        function, arguments = given[0], _as_tuple(given[1], target.step)
        names = _naming(given[2], target.step) if len(given) == 3 and target.names is None else None
        return UserStep(target.step, function, arguments, names or _names(module, name, target))
    if target.arguments is None and beside is None:
        raise errors.no_arguments(target.step, name + ARGUMENTS)
    source = target.arguments or f"{target.step.rpartition(':')[0]}:{beside}"
    where, wanted = (module, source[1:]) if source.startswith(":") else _split(source)
    value = found(where, wanted, source)
    arguments = _as_tuple(_called(value, source) if callable(value) else value, source)
    return UserStep(target.step, function, arguments, _names(module, name, target))


def _companion(module: ModuleType, name: str, suffix: str) -> str | None:
    """What is defined beside a step for it, or for any step."""
    return next((each for each in (name + suffix, _ANY_STEP + suffix) if hasattr(module, each)), None)


def _names(module: ModuleType, name: str, target: Target) -> Any:
    """The names of the arguments' dims; None where there are none."""
    place, source = module, target.names
    if source is None:
        wanted = _companion(module, name, NAMES)
        if wanted is None:
            return None
        source = f"{target.step.rpartition(':')[0]}:{wanted}"
    elif source.startswith(":"):
        wanted = source[1:]
    elif ":" in source:
        place, wanted = _split(source)
    else:
        place = imported(source, source)
        wanted = _companion(place, name, NAMES)
        if wanted is None:
            raise errors.no_names(target.step, source, dict.fromkeys((name + NAMES, _ANY_STEP + NAMES)))
    value = found(place, wanted, source)
    return _naming(_called(value, source) if callable(value) and _takes_nothing(value) else value, source)


def _naming(value: Any, source: str) -> Any:
    if not (isinstance(value, Mapping) or callable(value)):
        raise errors.no_naming(source, type(value).__name__)
    return value


def _split(target: str) -> tuple[ModuleType, str]:
    """The module and the name in it."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise errors.bad_target(target)
    return imported(place, target), name


def _takes_nothing(function: Callable[..., Any]) -> bool:
    """Whether a function can be called with no arguments at all."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def _called(function: Callable[..., Any], target: str) -> Any:
    try:
        return function()
    except Exception as error:
        raise errors.call_failed(target, error) from error


def _as_tuple(value: Any, target: str) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise errors.arguments_no_tuple(target, type(value).__name__)
    return tuple(value)
