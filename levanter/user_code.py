"""Code of the user's own, by the place that names it: `package.module:Name` or `path/to/file.py:Name`.

A step, a model, an optimizer or a source of text can be named so. A module is found as `python -m` in the working
directory finds it. A file is imported under its own name, and the folder it lies in is on the path, so that it can
import what lies beside it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from levanter import errors
from levanter.errors import UserError

_files: dict[str, Path] = {}
"""The file of every module that was imported by its file, by the module's name."""


def is_place(text: object) -> bool:
    """Whether `text` has the form of a place: a module or a `.py` file, a colon, and a name."""
    if not isinstance(text, str):
        return False
    place, _, name = text.rpartition(":")
    in_file = place.endswith(".py") and place != ".py"
    return _is_dotted(name) and (in_file or _is_dotted(place))


def is_file_place(text: object) -> bool:
    """Whether `text` names something in a file."""
    return is_place(text) and str(text).rpartition(":")[0].endswith(".py")


def anchored(place: str, folder: Path) -> str:
    """The place with the absolute path of its file, one that is relative being below `folder`; a module stays."""
    if not is_file_place(place):
        return place
    file, _, name = place.rpartition(":")
    return f"{os.path.abspath(folder / Path(file).expanduser())}:{name}"


def without_folder(value: Any) -> Any:
    """A place in a file without the folder, which is all that changes when the file is moved; else the value."""
    return Path(value).name if is_file_place(value) else value


def load(place: str) -> Any:
    """What stands at the place.

    Raises:
        UserError: there is no such file, module or name, or importing it fails.
    """
    module, _, name = place.rpartition(":")
    return found(imported(module, place), name, place)


def imported(place: str, target: str) -> ModuleType:
    """The module called `place`, or in the file `place`; `target` is what the user wrote.

    Raises:
        UserError: there is no such file, or importing it fails.
    """
    try:
        return _module(place, target)
    except UserError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise errors.import_failed(target, error) from error


def found(module: ModuleType, name: str, target: str) -> Any:
    """What the module calls `name`, which may be dotted. Raises `UserError` where there is nothing."""
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [key for key in vars(value) if not key.startswith("_")] if hasattr(value, "__dict__") else []
            raise errors.no_such_name(target, part, known)
        value = getattr(value, part)
    return value


def is_own(cls: type) -> bool:
    """Whether a class is the user's own and does not come with this package."""
    return cls.__module__.partition(".")[0] != __name__.partition(".")[0]


def line_of(error: BaseException) -> str | None:
    """Where the user's code was when something in it, or below it, failed: `my_model.py:34`."""
    ours = Path(__file__).resolve().parents[1]
    packages = {*(ours / name for name in ("haliax", "ir", "passes", "levanter")), Path(os.__file__).parent}
    where = None
    for frame in traceback.extract_tb(error.__traceback__):
        file = Path(frame.filename)
        if file.suffix == ".py" and not packages & set(file.parents) and "site-packages" not in file.parts:
            where = f"{file.name}:{frame.lineno}"
    return where


def place_of(cls: type) -> str | None:
    """A place that gives the class again in another process; None for one that stands in a function."""
    if "<locals>" in cls.__qualname__:
        return None
    if cls.__module__ in _files:
        return f"{_files[cls.__module__]}:{cls.__qualname__}"
    if cls.__module__ == "__main__":
        script = getattr(sys.modules["__main__"], "__file__", None)
        return f"{os.path.abspath(script)}:{cls.__qualname__}" if script else None
    return f"{cls.__module__}:{cls.__qualname__}"


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
    name = path.stem
    known = next((module for module in (name, "__main__", *_files) if _is_of(sys.modules.get(module), path)), None)
    if known is not None:
        return sys.modules[known]
    while name in sys.modules:  # another file of that name, or a package: both stay what they are
        name += "_"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name], _files[name] = module, path
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name], _files[name]
        raise
    return module


def _is_of(module: ModuleType | None, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))
