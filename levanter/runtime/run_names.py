"""Where a run is kept when nobody says: `runs/NAME`, or a directory beside it named after what differs.

    levanter train                                   runs/gpt2_nano
    levanter train --optimizer.learning_rate 1e-3    runs/gpt2_nano-learning_rate=1e-3

The same command finds the same directory again, so it resumes. Another mesh is another run here; with the directory
named by --run-dir it is the same one, resumed on other devices.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from levanter.checkpoint.directory import committed
from levanter.runtime import errors
from levanter.runtime.run_directory import (
    ABSENT,
    CHECKPOINTS,
    CONFIG,
    KEEPS_BITS,
    Difference,
    differences,
    has_checkpoint,
    is_locked,
)
from levanter.user_code import is_place

_STEPS = "trainer.num_train_steps"
_NAMED = 3
_LONGEST = 60


def default_directory(root: Path, name: str, config_text: str) -> tuple[Path, str | None]:
    """The directory below `root` for the run called `name` with this config, and a line for people where it is not
    `root/name`.

    Raises:
        UserError: a `config.yaml` there is not a config of a run.
    """
    first = root / name
    changed = _changed(first, config_text)
    if not changed:
        return first, None
    if not _protected(first):
        own = beside(first, changed)
        resumed = has_checkpoint(own) and not _changed(own, config_text)
        return (own, None) if resumed else (first, None)
    for path in _numbered(beside(first, changed)):
        if not _protected(path) or not _changed(path, config_text):
            resumable = not differences(first, config_text)
            return path, errors.kept_elsewhere(first, list(map(str, changed)), path, resumable)
    raise AssertionError("there is no end of names")


def beside(path: Path, changed: Sequence[Difference]) -> Path:
    """A sibling of `path` named after what differs from it: `gpt2_nano-learning_rate=1e-3`."""
    sections = {each.name.rpartition(".")[0] for each in changed if each.name.endswith(".type")}
    # The fields of another type are all new: the type says it.
    told = [each for each in changed if each.name.rpartition(".")[0] not in sections or each.name.endswith(".type")]
    parts = [f"{_short(each.name)}={_value(each.now)}" for each in told[:_NAMED]]
    suffix = "-".join(parts)
    if len(told) > _NAMED or len(suffix) > _LONGEST:
        digest = hashlib.sha256(repr([(each.name, each.now) for each in changed]).encode()).hexdigest()[:8]
        suffix = f"{parts[0][:_LONGEST]}-{digest}"
    return path.with_name(f"{path.name}-{suffix}")


def _changed(path: Path, config_text: str) -> list[Difference]:
    """What keeps the run from being the one at `path`: its config, or a checkpoint past the run's end."""
    if not (path / CONFIG).is_file():
        return []
    found = differences(path, config_text, KEEPS_BITS)
    saved = committed(path / CHECKPOINTS)
    steps = (yaml.safe_load(config_text).get("trainer") or {}).get("num_train_steps")
    if saved and steps is not None and (done := int(saved[-1].name.removeprefix("step-"))) > steps:
        found.append(Difference(_STEPS, done, steps))
    return found


def _protected(path: Path) -> bool:
    return has_checkpoint(path) or is_locked(path)


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))


def _short(name: str) -> str:
    """The last part of a dotted name; of a type, the section that it is the type of."""
    *sections, last = name.split(".")
    return sections[-1] if last == "type" and sections else last


def _value(value: Any) -> str:
    """A value as part of a file name, floats in their shortest form."""
    if value is None or value == ABSENT:
        return "none"
    if isinstance(value, float):
        return min(
            repr(value).removesuffix(".0"), format(Decimal(repr(value)).normalize(), "e").replace("+", ""), key=len
        )
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    text = text.rpartition(":")[2] if is_place(value) else text
    return re.sub(r"[^\w.,=+-]+", "_", text)
