"""What `config.yaml` tells of a run beside its configuration: what was fixed at the start, what its bits depend on, and
what each resume has changed.

    fixed: {optimizer.schedule_steps: 20, trainer.cpu_threads: 2}
    environment: {jax: 0.10.2, …}
    history:
    - step: 20
      time: '2026-11-27 19:40:00'
      changed:
        trainer.num_train_steps: {from: 20, to: 40}

The configuration in the file is that of the last start; undoing the history from its end gives that of any step before.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from levanter.config.kept import ENVIRONMENT, FIXED, HISTORY, split
from levanter.config.schema import TrainConfig

SCHEDULE_STEPS, CPU_THREADS = "optimizer.schedule_steps", "trainer.cpu_threads"
INITIALIZED, MICROBATCHES = "trainer.initialize_from", "trainer.microbatches"
MOMENTS, GRADIENTS = "optimizer.moments_dtype", "trainer.gradients_dtype"

NOT_SET = "(not set)"
"""In the place of a value that there is not."""

_HEADING = """
# Kept by the run. A configuration that is read from this file has nothing of what follows.
"""


@dataclass(frozen=True)
class Entry:
    """A resume that changed something: the step it resumed from, and what changed, before and after, by name."""

    step: int
    time: str
    changed: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Record:
    """What a run keeps in `config.yaml` beside its configuration."""

    fixed: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Entry, ...] = ()

    def resumed(self, step: int, changed: Mapping[str, tuple[Any, Any]], **fields: Any) -> Record:
        """The record after a resume from `step` with other `fields`; without a change the history stays as it is."""
        entry = Entry(step, time.strftime("%Y-%m-%d %H:%M:%S"), dict(changed))
        return dataclasses.replace(self, history=(*self.history, entry) if changed else self.history, **fields)

    def rewound(self, step: int) -> Record:
        """The record of a run that has gone back to `step`: from there on it is made as it is configured now."""
        entries = tuple(dataclasses.replace(each, step=min(each.step, step)) for each in self.history)
        return dataclasses.replace(self, history=entries)


def read(text: str) -> Record:
    """The record in the text of a `config.yaml`; an empty one where there is none, as in files of older versions."""
    kept = split(yaml.safe_load(text) or {})[1]
    entries = [
        Entry(each["step"], str(each["time"]), {name: (v["from"], v["to"]) for name, v in each["changed"].items()})
        for each in kept.get(HISTORY, ())
    ]
    return Record(kept.get(FIXED, {}), kept.get(ENVIRONMENT, {}), tuple(entries))


def written(config_text: str, record: Record) -> str:
    """The text of `config.yaml`: the configuration and, below it, the record."""
    kept: dict[str, Any] = {}
    if record.fixed:
        kept[FIXED] = dict(record.fixed)
    if record.environment:
        kept[ENVIRONMENT] = dict(record.environment)
    if record.history:
        kept[HISTORY] = [
            {
                "step": entry.step,
                "time": entry.time,
                "changed": {name: {"from": before, "to": after} for name, (before, after) in entry.changed.items()},
            }
            for entry in record.history
        ]
    if not kept:
        return config_text
    return config_text + _HEADING + yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def fixed_at_start(config: TrainConfig, before: Record, steps_before: int, threads: int) -> dict[str, Any]:
    """What null means in this configuration.

    Args:
        before: of the run that is resumed; an empty one at a start.
        steps_before: the `num_train_steps` of the run until now, which a run of an older version had as its schedule.
        threads: of the CPU, where the run has no number yet. An elastic run has as many as devices can share out its
            virtual shards: a CPU that stands in for so many has no fewer.
    """
    if config.trainer.elastic:
        threads = config.trainer.virtual_shards // 2
    return {
        SCHEDULE_STEPS: config.optimizer.schedule_steps or before.fixed.get(SCHEDULE_STEPS) or steps_before,
        CPU_THREADS: config.trainer.cpu_threads or before.fixed.get(CPU_THREADS) or threads,
    }


def open_choices(config: TrainConfig) -> tuple[str, ...]:
    """The fields that are null for the plan to choose, by their dotted names."""
    moments = getattr(config.optimizer, "moments_dtype", "none")
    trainer = config.trainer
    fields = {MICROBATCHES: trainer.microbatches, MOMENTS: moments, GRADIENTS: trainer.gradients_dtype}
    return tuple(name for name, value in fields.items() if value is None)


def with_fixed(config: TrainConfig, fixed: Mapping[str, Any]) -> TrainConfig:
    """The configuration with what was fixed in the place of null."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in fixed.items():
        section, _, last = name.partition(".")
        sections.setdefault(section, {})[last] = value
    changed = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in sections.items()}
    return dataclasses.replace(config, **changed)


def as_of(config_text: str, record: Record, step: int) -> tuple[str, Record]:
    """The configuration, and what was fixed, as they were when `step` was made.

    Args:
        config_text: of the last start, as `config.yaml` has it.
    """
    values = split(yaml.safe_load(config_text))[0]
    found: dict[str, Any] = {**values, FIXED: dict(record.fixed), ENVIRONMENT: dict(record.environment)}
    for entry in since(record.history, step):
        for name, (before, _) in entry.changed.items():
            first, _, rest = name.partition(".")
            path = (first, rest) if first in (FIXED, ENVIRONMENT) else tuple(name.split("."))
            _put(found, path, before)
    config = {name: section for name, section in found.items() if name not in (FIXED, ENVIRONMENT)}
    then = Record(found[FIXED], found[ENVIRONMENT])
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True), then


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        values = values.setdefault(name, {})
    if value == NOT_SET:
        values.pop(path[-1], None)
    else:
        values[path[-1]] = value


def since(history: Sequence[Entry], step: int) -> Iterator[Entry]:
    """The entries that came after `step` was made, newest first: undone, they give what held then. A resume from before
    it made it again."""
    return itertools.takewhile(lambda entry: entry.step >= step, reversed(history))
