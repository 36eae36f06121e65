"""Fields that have moved: a file or a command line that still has the old name means the new one.

Where both are given, the new one counts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, MutableMapping
from typing import Any

from levanter.config import errors
from levanter.config.document import Document, Key

LOG_EVERY: Key = ("trackers", "console", "log_every")
WANDB: Key = ("trackers", "wandb", "enabled")


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
    return Document(values, marks)


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
