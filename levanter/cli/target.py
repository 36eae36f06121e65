"""What `MODULE:FUNCTION` names: a training step and the arguments to look at it with.

Arguments are only looked at, never computed with, so shapes do: `jax.ShapeDtypeStruct`, also inside a `NamedArray`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from levanter.cli import errors

ARGUMENTS_SUFFIX = "_arguments"


def load_step(target: str, arguments: str | None) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The step that `target` names, and its arguments.

    Args:
        target: `package.module:function` or `path/to/file.py:function`. A function without parameters is called for
            `(step, arguments)`; any other is the step itself.
        arguments: the same for the arguments, a tuple or a function that returns one; `:name` looks in the module of
            the step. Left out: `FUNCTION_arguments` in that module.

    Raises:
        UserError: there is no such module or function, or it gives no step or no arguments.
    """
    module, name = _split(target)
    function = _found(module, name, target)
    if not callable(function):
        raise errors.not_a_step(target, type(function).__name__)
    if arguments is None and _takes_nothing(function) and not hasattr(module, name + ARGUMENTS_SUFFIX):
        pair = _called(function, target)
        if not (isinstance(pair, tuple) and len(pair) == 2 and callable(pair[0])):
            raise errors.no_step_and_arguments(target, type(pair).__name__)
        return pair[0], _as_tuple(pair[1], target)
    source = arguments or f"{target.rpartition(':')[0]}:{name}{ARGUMENTS_SUFFIX}"
    if arguments is None and not hasattr(module, name + ARGUMENTS_SUFFIX):
        raise errors.no_arguments(target, name + ARGUMENTS_SUFFIX)
    where, wanted = (module, source[1:]) if source.startswith(":") else (_split(source))
    value = _found(where, wanted, source)
    return function, _as_tuple(_called(value, source) if callable(value) else value, source)


def _split(target: str) -> tuple[ModuleType, str]:
    """The module and the name in it."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise errors.bad_target(target)
    try:
        return _module(place, target), name
    except errors.UserError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise errors.import_failed(target, error) from error


def _module(place: str, target: str) -> ModuleType:
    """A module by its dotted name, as `python -m` in this folder finds it, or by the path of its file."""
    if not place.endswith(".py"):
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(place)
    path = Path(place).resolve()
    if not path.is_file():
        raise errors.no_such_file(target, place)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    if path.stem in sys.modules and getattr(sys.modules[path.stem], "__file__", None) == str(path):
        return sys.modules[path.stem]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _found(module: ModuleType, name: str, target: str) -> Any:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [key for key in vars(value) if not key.startswith("_")] if hasattr(value, "__dict__") else []
            raise errors.no_such_name(target, part, known)
        value = getattr(value, part)
    return value


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
