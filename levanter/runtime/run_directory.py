"""A run directory: one run, one writer, one config.

    runs/NAME/config.yaml       the resolved config, and what the run keeps beside it (`levanter.runtime.record`)
              metrics.jsonl     one object a step
              checkpoints/      step-N/ …; step-0/ has the weights that a run starts from, where they were imported
              hugging_face/     the config and tokenizer of the checkpoint that the weights came from
              rewinds.json      which data are skipped, where the run was rewound (`trainer.on_nonfinite`)
              profile/          a trace of some steps, where one was wanted (`trainer.profile`)
              tensorboard/, trackio/, wandb/   files of the trackers, where they are on
              .lock             held by the process that is writing

The lock is the system's (`flock`), so it is gone the moment its holder dies, by `kill -9` too; the text in the file
only tells people who holds it. Starting again with the same command resumes. What a directory protects is its
checkpoints: with another config, one that has a checkpoint is refused, and one that has none is taken over. Some keys
may change at a resume; what has changed is shown and recorded in `config.yaml`.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import yaml

from levanter import durable
from levanter.checkpoint.directory import committed, followed, step_of
from levanter.config import dump, loads
from levanter.config.kept import split
from levanter.errors import UserError
from levanter.runtime import errors
from levanter.runtime.record import NOT_SET, Record, read, written
from levanter.user_code import without_folder

KEEPS_BITS = (
    "data.cache_dir",
    "trainer.callbacks",
    "trainer.checkpoint",
    "trainer.compile_cache",
    "trainer.eval_batches",
    "trainer.eval_every",
    "trainer.num_train_steps",
    "trainer.run_dir",
    "trainer.run_name",
    "trainer.profile",
    "trainer.sample_tokens",
    "trainer.watch",
    "trackers",
    *("trainer.log_every", "trainer.tracker"),  # as run directories made before `trackers` have them
)
"""Keys of the config, and all below them, which do not change what a step computes: where things are kept, how long,
how often."""

MAY_CHANGE = (
    *KEEPS_BITS,
    "model.gradient_checkpointing",  # what is computed twice is the same
    "optimizer.schedule_steps",  # a schedule may be stretched when a run is made longer, if someone says so
    "trainer.cpu_threads",
    "trainer.hardware",
    "trainer.initialize_from",  # read once, at the start
    "trainer.initialize_optimizer",
    "trainer.mesh",  # the values are the same wherever they lie; sums are taken in another order
    "trainer.microbatches",  # as with the mesh; what fits the memory of one machine need not fit that of the next
    "trainer.on_nonfinite",
    "trainer.plan",  # as with the mesh
)
"""Keys which a resume may change. Those that are not among `KEEPS_BITS` change bits, but not what is trained."""

ABSENT = NOT_SET
CONFIG, CHECKPOINTS, LOCK, METRICS = "config.yaml", "checkpoints", ".lock", "metrics.jsonl"
HUGGING_FACE = "hugging_face"
REWINDS = "rewinds.json"
WANDB_ID = "wandb_id"
_UNSAID = ("trainer.run_dir", "trainer.log_every", "trainer.tracker")
_PLAN, _ITS_FILE = "trainer.plan", "source"
_OURS = {
    CONFIG,
    CHECKPOINTS,
    LOCK,
    METRICS,
    WANDB_ID,
    HUGGING_FACE,
    REWINDS,
    "profile",
    "tensorboard",
    "trackio",
    "wandb",
}
_OURS |= {f".{name}.tmp" for name in (CONFIG, WANDB_ID, REWINDS)}


@dataclass(frozen=True)
class Difference:
    """A field, by its dotted name, that has one value in the config of a run directory and another one now."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        if self.name == _PLAN:
            return f"{self.name}: {_of_plan(self.before, self.now)} → {_of_plan(self.now, self.before)}"
        return f"{self.name}: {self.before} → {self.now}"


@dataclass(frozen=True)
class RunDirectory:
    """Where the parts of a run are kept."""

    path: Path
    config_text: str = ""
    """The resolved config of this start."""
    record: Record = field(default_factory=Record)
    """What the run kept until now; an empty one where there is nothing to resume."""
    changes: tuple[Difference, ...] = ()
    """What this start changes in the config of the run that it resumes."""

    @property
    def config_path(self) -> Path:
        return self.path / CONFIG

    @property
    def metrics_path(self) -> Path:
        return self.path / METRICS

    @property
    def checkpoints_path(self) -> Path:
        return self.path / CHECKPOINTS

    def before(self, name: str, now: Any) -> Any:
        """The value that a field, by its dotted name, had until now; `now` is the one that it has."""
        return next((each.before for each in self.changes if each.name == name), now)

    def started(self) -> RunDirectory:
        """The directory as this start has left it: what it changed is recorded."""
        return RunDirectory(self.path, self.config_text, read(self.config_path.read_text(encoding="utf-8")))

    def write_config(self, record: Record) -> None:
        """Write `config.yaml`: the config of this start, and what the run keeps beside it."""
        text = written(self.config_text, record)
        if not self.config_path.exists() or self.config_path.read_text(encoding="utf-8") != text:
            durable.write_file(self.config_path, text.encode())


@contextlib.contextmanager
def open_run(
    path: Path | str,
    config_text: str,
    *,
    may_change: Iterable[str] = MAY_CHANGE,
    another: Callable[[list[Difference]], str] | None = None,
) -> Iterator[RunDirectory]:
    """Make or take up the run directory at `path`, and be its only writer until the block ends.

    Args:
        config_text: the resolved config as YAML; written to `config.yaml` where there is nothing to resume. Where there
            is, whoever has loaded it writes it (`RunDirectory.write_config`).
        may_change: dotted keys that may differ from the config the run was started with.
        another: gives the command that starts this run in a directory of its own, for the refusal to print.

    A block that ends with a `UserError` before the run has made anything leaves no new directory behind.

    Raises:
        UserError: another process is writing it, it has checkpoints of another config, it holds files that are not a
            run's, or it cannot be made.
    """
    run = RunDirectory(Path(path))
    if foreign := foreign_files(run.path):
        raise errors.foreign_files(run.path, foreign)
    made = _missing(run.path)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        lock = open(run.path / LOCK, "a+", encoding="utf-8")  # noqa: SIM115 (closed by the `with` below)
    except OSError as error:
        raise errors.cannot_make_run(run.path, error.strerror or str(error)) from error
    with lock:
        take(lock, lambda holder: errors.run_in_use(run.path, holder))
        run = _taken_up(run.path, config_text, may_change, another)
        try:
            if not has_checkpoint(run.path):
                run.write_config(Record())
            run.checkpoints_path.mkdir(exist_ok=True)
            durable.sync(run.path)
            durable.sync(run.path.absolute().parent)
        except OSError as error:
            raise errors.cannot_make_run(run.path, error.strerror or str(error)) from error
        try:
            yield run
        except UserError:
            _undo(run, made)
            raise


def _missing(path: Path) -> list[Path]:
    """The folder `path` and those above it that are not there, the innermost first."""
    return list(itertools.takewhile(lambda each: not each.exists(), (path, *path.parents)))


def _undo(run: RunDirectory, made: Sequence[Path]) -> None:
    """Remove the folders of a run that was refused before it had made anything; `made` are those that were not there.

    What somebody else has put there is left alone, and where it cannot be removed it does no harm.
    """
    if not made or {entry.name for entry in run.path.iterdir()} - {CONFIG, CHECKPOINTS, LOCK}:
        return
    with contextlib.suppress(OSError):
        run.checkpoints_path.rmdir()
        for path in (run.config_path, run.path / LOCK):
            path.unlink(missing_ok=True)
        for folder in made:
            folder.rmdir()


def _taken_up(
    path: Path, config_text: str, may_change: Iterable[str], another: Callable[[list[Difference]], str] | None
) -> RunDirectory:
    """The directory with what it says of the run to resume, if there is one."""
    run, protected = RunDirectory(path, config_text), has_checkpoint(path)
    if not run.config_path.exists():
        return run
    changed = differences(path, config_text, may_change)
    if changed and protected:
        raise errors.other_config(path, list(map(str, changed)), another(changed) if another else None)
    if changed:
        _forget(run)
    if not protected:
        return run
    kept = read(run.config_path.read_text(encoding="utf-8"))
    return RunDirectory(path, config_text, kept, tuple(differences(path, config_text, _UNSAID)))


def has_checkpoint(path: Path) -> bool:
    """Whether there is anything at `path` that a run directory protects: a checkpoint, a damaged one included.

    Imported weights are not: nothing is trained yet, so that data, optimizer and the rest are free.
    """
    folder = path / CHECKPOINTS
    if (elsewhere := followed(folder)) != folder:
        return any(step_of(checkpoint) for checkpoint in committed(elsewhere))
    return any(not entry.name.startswith("step-0") for entry in folder.glob("step-*"))


def foreign_files(path: Path) -> list[str]:
    """The names in the folder `path` that are no run's, sorted; empty where it is a run directory, new or not."""
    if not path.is_dir() or ((path / CONFIG).is_file() and (path / CHECKPOINTS).is_dir()):
        return []
    return sorted({entry.name for entry in path.iterdir()} - _OURS)


def differences(path: Path, config_text: str, may_change: Iterable[str] = MAY_CHANGE) -> list[Difference]:
    """Where `config_text` differs from the config of the run at `path`, by name, the keys in `may_change` left out.

    A file with code of the user's own may have moved: whether it is the same code is told apart from where it lies. A
    field that has come since then has its default in the old config.

    Raises:
        UserError: the file there is not a config of a run.
    """
    before = _read_config(path / CONFIG)
    if not before.keys() & yaml.safe_load(config_text).keys() and not has_checkpoint(path):
        raise errors.unreadable_config(path / CONFIG)
    return differences_from(split(before)[0], config_text, may_change)


def differences_from(
    before: Mapping[str, Any], config_text: str, may_change: Iterable[str] = MAY_CHANGE
) -> list[Difference]:
    """Where `config_text` differs from a config, by name, the keys in `may_change` left out."""
    before, now = _completed(before, yaml.safe_load(config_text))
    old, new = dict(_flat(before)), dict(_flat(now))
    free = tuple(may_change)
    return [
        Difference(key, old.get(key, ABSENT), new.get(key, ABSENT))
        for key in sorted(old.keys() | new.keys())
        if without_folder(old.get(key, ABSENT)) != without_folder(new.get(key, ABSENT))
        and not any(f"{key}.".startswith(f"{each}.") for each in free)
    ]


def _of_plan(plan: Any, other: Any) -> str:
    """What a plan says otherwise than another one, in short."""
    if not isinstance(plan, Mapping):
        return "chosen by the planner"
    mine, its = dict(_flat(plan)), dict(_flat(other)) if isinstance(other, Mapping) else {}
    told = {key: mine.get(key, ABSENT) for key in sorted(mine.keys() | its.keys()) if mine.get(key) != its.get(key)}
    choices = ("regather", "defer_sums", "hoist_gathers") if its else ()
    roles = ("compute.", "storage.", *choices)
    shown = [f"{key}={_listed(value)}" for key, value in told.items() if key.startswith(roles)]
    return " ".join(shown) or "the same layout"


def _listed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def is_locked(path: Path) -> bool:
    """Whether a process is writing the run directory at `path` just now."""
    try:
        with open(path / LOCK, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def refuse_a_second_writer(path: Path) -> None:
    """Look whether somebody writes the run directory at `path`, without taking it.

    Raises:
        UserError: another process does.
    """
    if is_locked(path):
        raise errors.run_in_use(path, (path / LOCK).read_text(encoding="utf-8").strip())


def _forget(run: RunDirectory) -> None:
    """Drop what is left of a run that never came to a checkpoint: its numbers, and its name at the tracker."""
    for name in (METRICS, WANDB_ID, REWINDS):
        (run.path / name).unlink(missing_ok=True)


def take(lock: TextIO, in_use: Callable[[str], UserError]) -> None:
    """Take the lock of an open file until it is closed, and write into it who has it.

    Args:
        in_use: the error where another process has it, for what that process has written.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        raise in_use(lock.read().strip()) from error
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    lock.flush()


def _read_config(path: Path) -> Any:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise errors.unreadable_config(path) from error
    if not isinstance(config, dict):
        raise errors.unreadable_config(path)
    return config


def _completed(*configs: Any) -> tuple[Any, ...]:
    """Configs with every field that there is today; as they are where one of them cannot be read today."""
    try:
        return tuple(yaml.safe_load(dump(loads(yaml.safe_dump(config)))) for config in configs)
    except UserError:
        return configs


def _flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every leaf; a list is a leaf, and a plan, whose file may be called otherwise. What lies
    in a run directory may have moved with it."""
    for key, value in config.items():
        if f"{prefix}{key}" == _PLAN and isinstance(value, Mapping):
            yield _PLAN, {name: each for name, each in value.items() if name != _ITS_FILE}
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            inside = isinstance(value, str) and Path(value).name == HUGGING_FACE
            yield f"{prefix}{key}", HUGGING_FACE if inside else value
