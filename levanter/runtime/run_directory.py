"""A run directory: one run, one writer, one config.

    runs/NAME/config.yaml       the resolved config
              metrics.jsonl     one object a step
              checkpoints/      step-N/ …
              wandb/            files of the tracker, where one is on
              .lock             held by the process that is writing

The lock is the system's (`flock`), so it is gone the moment its holder dies, by `kill -9` too; the text in the file
only tells people who holds it. Starting again with the same command goes on; starting with another config is refused
where that would make another run of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import yaml

from levanter import durable
from levanter.errors import UserError

MAY_CHANGE = (
    "data.cache_dir",
    "trainer.checkpoint",
    "trainer.eval_batches",
    "trainer.eval_every",
    "trainer.log_every",
    "trainer.num_train_steps",
    "trainer.run_dir",
    "trainer.run_name",
    "trainer.sample_tokens",
    "trainer.tracker",
)
"""Keys of the config, with all below them, that a resumed run may change: where things lie, how long and how often."""

_ABSENT = "(not set)"
_SHOWN = 8


@dataclass(frozen=True)
class RunDirectory:
    """Where the parts of a run lie."""

    path: Path

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"


@contextlib.contextmanager
def open_run(path: Path | str, config_text: str, *, may_change: Iterable[str] = MAY_CHANGE) -> Iterator[RunDirectory]:
    """Make or take up the run directory at `path`, and be its only writer until the block ends.

    Args:
        config_text: the resolved config as YAML; written to `config.yaml`.
        may_change: dotted keys that may differ from the config the run was started with.

    Raises:
        UserError: another process is writing it, it was started with another config, or it cannot be made.
    """
    run = RunDirectory(Path(path))
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        lock = open(run.path / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 (closed by the `with` below)
    except OSError as error:
        raise cannot_make(run.path, error.strerror or str(error)) from error
    with lock:
        _take(lock, run.path)
        if run.config_path.exists():
            differences = _differences(_read_config(run.config_path), yaml.safe_load(config_text), tuple(may_change))
            if differences:
                raise other_config(run.path, differences)
        if not run.config_path.exists() or run.config_path.read_text(encoding="utf-8") != config_text:
            durable.write_file(run.config_path, config_text.encode())
        run.checkpoints_path.mkdir(exist_ok=True)
        durable.sync(run.path)
        durable.sync(run.path.absolute().parent)
        yield run


def _take(lock: TextIO, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        raise in_use(path, lock.read().strip()) from error
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    lock.flush()


def _read_config(path: Path) -> Any:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise unreadable_config(path) from error
    if not isinstance(config, dict):
        raise unreadable_config(path)
    return config


def _differences(before: Any, now: Any, may_change: tuple[str, ...]) -> list[str]:
    old, new = dict(_flat(before)), dict(_flat(now))
    return [
        f"{key}: {old.get(key, _ABSENT)} → {new.get(key, _ABSENT)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, _ABSENT) != new.get(key, _ABSENT)
        and not any(f"{key}.".startswith(f"{free}.") for free in may_change)
    ]


def _flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every leaf; a list is a leaf."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def in_use(path: Path, holder: str) -> UserError:
    return UserError(
        f"another process is writing the run directory {path} ({holder or 'unknown'}): "
        "wait for it or stop it, or choose another one with --run-dir"
    )


def other_config(path: Path, differences: list[str]) -> UserError:
    shown = "; ".join(differences[:_SHOWN])
    more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    return UserError(
        f"the run directory {path} belongs to a run with another config ({shown}{more}): "
        "set these back to go on with it, or choose another directory with --run-dir"
    )


def unreadable_config(path: Path) -> UserError:
    return UserError(
        f"{path} is not a config: put back the one of this run, or choose another directory with --run-dir"
    )


def cannot_make(path: Path, reason: str) -> UserError:
    return UserError(f"cannot use {path} as a run directory: {reason}; choose another one with --run-dir")
