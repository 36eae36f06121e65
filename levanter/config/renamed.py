"""Fields that have moved: a file or a command line that still has the old name means the new one.

Where both are given, the new one counts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from levanter.config import errors
from levanter.config.document import Document, Key, Mark

LOG_EVERY: Key = ("trackers", "console", "log_every")
WANDB: Key = ("trackers", "wandb", "enabled")
_HUB, _TEXT_COLUMN = "hf", "text_column"


def renamed(document: Document) -> Document:
    """The document with every old name replaced.

    Raises:
        UserError: an old field has a value that has no counterpart.
    """
    values, marks = copy.deepcopy(document.values), dict(document.marks)
    for old, (new, convert) in _RENAMED.items():
        section = values.get(old[0])
        if not isinstance(section, MutableMapping) or old[1] not in section:
            continue
        value, mark = section.pop(old[1]), document.mark(old)
        converted = convert(value, mark.where)
        marks.pop(old, None)
        if _put(values, new, converted):
            marks[new] = mark
    for path, section in _sources(values):
        _rename(section, path, _TEXT_COLUMN, "column", marks)
    return Document(values, marks)


def _sources(values: Mapping[str, Any]) -> Iterator[tuple[Key, MutableMapping[str, Any]]]:
    """The sections that may be of a data set of the hub, by their type or for want of one: `data`, and the sources of a
    mixture."""
    data = values.get("data")
    if not isinstance(data, MutableMapping):
        return
    mixed = data.get("sources")
    of_a_mixture = mixed.items() if isinstance(mixed, MutableMapping) else ()
    for path, section in (
        (("data",), data),
        *((("data", "sources", str(name)), each) for name, each in of_a_mixture),
    ):
        if isinstance(section, MutableMapping) and section.get("type", _HUB) == _HUB:
            yield path, section


def _rename(section: MutableMapping[str, Any], path: Key, old: str, new: str, marks: dict[Key, Mark]) -> None:
    """Give the value of `old` to `new`, where that has none."""
    if old not in section:
        return
    value, mark = section.pop(old), marks.pop((*path, old), None)
    if new in section:
        return
    section[new] = value
    if mark is not None:
        marks[*path, new] = mark


def _wandb_enabled(value: Any, where: str) -> bool:
    if value not in ("none", "wandb"):
        raise errors.moved_value("trainer.tracker", where, value, ".".join(WANDB))
    return value == "wandb"


def _same(value: Any, where: str) -> Any:
    return value


_RENAMED: dict[Key, tuple[Key, Callable[[Any, str], Any]]] = {
    ("trainer", "tracker"): (WANDB, _wandb_enabled),
    ("trainer", "log_every"): (LOG_EVERY, _same),
}


def _put(values: MutableMapping[str, Any], path: Key, value: Any) -> bool:
    """Set the value at `path` where there is none; whether it was set."""
    *sections, last = path
    for name in sections:
        inner = values.setdefault(name, {})
        if not isinstance(inner, MutableMapping):
            return False
        values = inner
    return last not in values and values.setdefault(last, value) is value
