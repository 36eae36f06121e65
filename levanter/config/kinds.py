"""What the annotation of a config field means to the person who fills it in."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import draccus
from draccus.utils import is_choice_type

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the kind alone."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def is_choice(kind: Any) -> bool:
    """Whether a section of this kind says by `type` which dataclass it is."""
    return is_choice_type(kind)


def section(kind: Any) -> type | None:
    """The dataclass (or choice of dataclasses) that a field of this kind holds, if it holds one."""
    for member in alternatives(kind):
        if isinstance(member, type) and (dataclasses.is_dataclass(member) or is_choice(member)):
            return member
    return None


def choices(kind: type) -> Mapping[str, type]:
    """The dataclasses of a section by the `type` that names them; a plain section has one, named ''."""
    return kind.get_known_choices() if is_choice(kind) else {"": kind}  # type: ignore[attr-defined]


def members(cls: type) -> dict[str, Any]:
    """The kind of every field that a user may set, by name."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def defaults(cls: type) -> dict[str, Any]:
    """The default of every field that has one."""
    found = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    return found


def sections(cls: type, path: str = "") -> Iterator[tuple[str, str, type]]:
    """Every dataclass of a configuration: the dotted name of its section, its `type` (or ''), and the class."""
    for name, choice in choices(cls).items():
        yield path, name, choice
        for field, kind in members(choice).items():
            if (inner := section(kind)) is not None:
                yield from sections(inner, f"{path}.{field}".lstrip("."))


def dotted_names(cls: type) -> list[str]:
    """Every field below `cls` by its dotted name, over all choices, sorted."""
    names: set[str] = set()
    for choice in choices(cls).values():
        for name, kind in members(choice).items():
            inner = section(kind)
            names.update([name] if inner is None else [f"{name}.{rest}" for rest in dotted_names(inner)])
        if is_choice(cls):
            names.add("type")
    return sorted(names)


def in_words(kind: Any, default: Any = None) -> str:
    """What to write for a field of this kind: `a whole number, such as 128`."""
    if section(kind) is not None:
        return "a section of keys and values"
    words = " or ".join(_word(member) for member in alternatives(kind))
    example = draccus.encode(default) if isinstance(default, int | float | str) else None
    return words if example in (None, "") or isinstance(default, bool) else f"{words}, such as {example}"


def _word(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(value) for value in typing.get_args(kind))
    if (origin or kind) in (list, tuple, set, frozenset):
        return "a list such as [first, second]"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))
