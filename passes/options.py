"""The options of a pass, which are the fields of its dataclass, as text: what they are, and from text to values."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from inspect import getdoc
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from passes import errors
from passes.stage import Pass

_P = TypeVar("_P", bound=Pass)

_WORDS = {"true": True, "false": False}


@dataclass(frozen=True)
class Option:
    """An option of a pass: its name, what may be given, what it is otherwise, what it means."""

    name: str
    values: str
    default: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.name}={self.default or '(none)'} ({self.values}): {self.meaning}"


def options_of(pass_: type[Pass]) -> tuple[Option, ...]:
    """The options of a pass, in order."""
    meanings, hints = _meanings(pass_), get_type_hints(pass_)
    return tuple(
        Option(each.name, _values(hints[each.name]), _default(each), meanings.get(each.name, ""))
        for each in _fields(pass_)
    )


def configured(pass_: type[_P], options: Mapping[str, str]) -> _P:
    """The pass with some of its options set. Raises `BadOption` for an unknown one, or a value that it cannot have."""
    hints = get_type_hints(pass_)
    known = [each.name for each in _fields(pass_)]
    for name in options:
        if name not in known:
            raise errors.unknown_option(name, pass_.stem(), known)
    return pass_(**{name: _value(pass_, name, hints[name], text) for name, text in options.items()})


def _fields(pass_: type[Pass]) -> tuple[Field[Any], ...]:
    return fields(pass_) if is_dataclass(pass_) else ()


def _value(pass_: type[Pass], name: str, wanted: Any, text: str) -> Any:
    try:
        if get_origin(wanted) is tuple:
            return tuple(get_args(wanted)[0](part.strip()) for part in text.split(",") if part.strip())
        return _WORDS[text.lower()] if wanted is bool else wanted(text)
    except (KeyError, ValueError):
        raise errors.bad_option(name, text, pass_.stem(), _values(wanted)) from None


def _values(wanted: Any) -> str:
    """What may be given for a field of a type."""
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    plural = {int: "whole numbers", float: "numbers", str: "words"}
    if get_origin(wanted) is tuple:
        return f"{plural[get_args(wanted)[0]]} with commas between"
    return names[wanted]


def _default(field: Field[Any]) -> str:
    if field.default is MISSING:
        return ""
    default: Any = field.default
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default).lower()  # pyright: ignore


def _meanings(pass_: type[Pass]) -> dict[str, str]:
    """What the docstring of a class says of its fields, under `Attributes:`."""
    listed = (getdoc(pass_) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
