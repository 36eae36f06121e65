"""A folder of checkpoints: which are there, which is the newest whole one, and which may go.

`step-N` is a committed checkpoint of the state after N steps. A name that begins with a dot is being written or being
deleted, and `step-N.damaged` was refused at a resume and set aside.
"""

from __future__ import annotations

import itertools
import re
import shutil
import sys
from pathlib import Path

from levanter import durable
from levanter.checkpoint import errors

_STEP = re.compile(r"step-(\d+)")


def step_path(directory: Path, step: int) -> Path:
    """Where the checkpoint of `step` is kept."""
    return directory / f"step-{step}"


def staged_path(directory: Path, step: int) -> Path:
    """Where the checkpoint of `step` is made."""
    return directory / f".step-{step}.tmp"


def committed(directory: Path | str) -> list[Path]:
    """Every committed checkpoint of a folder, oldest first. A folder that is not there has none."""
    directory = Path(directory)
    if not directory.is_dir():
        return []
    found = [path for path in directory.iterdir() if _STEP.fullmatch(path.name)]
    return sorted(found, key=_step)


def resolve(path: Path | str) -> Path:
    """The checkpoint that `path` means: itself, or the newest of a run directory or of a folder of checkpoints.

    Raises:
        UserError: there is none.
    """
    path = Path(path)
    if not path.is_dir():
        raise errors.no_such_path(path)
    if _STEP.fullmatch(path.name) or (path / "manifest.json").exists():
        return path
    for folder in (path / "checkpoints", path):
        if found := committed(folder):
            return found[-1]
    raise errors.none_found(path)


def check_name(path: Path, step: int) -> None:
    """Hold the name of a checkpoint's folder against the step that its manifest says.

    Raises:
        UserError: it is the name of another step.
    """
    if _STEP.fullmatch(path.name) and _step(path) != step:
        raise errors.other_step(path, step)


def clean(directory: Path | str) -> None:
    """Remove what a killed process left half written or half deleted. For the one writer of the folder only."""
    directory = Path(directory)
    for path in sorted(directory.glob(".step-*")):
        _remove(path)


def prune(directory: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints. One that cannot be deleted is said on stderr and stays."""
    for path in committed(directory)[:-keep]:
        remove(path)


def remove(path: Path) -> None:
    """Delete one checkpoint. It loses its name first, so that none is ever torn."""
    doomed = path.with_name(f".{path.name}.deleted")
    try:
        path.rename(doomed)
        durable.sync(path.parent)
    except OSError as error:
        print(errors.cannot_delete(path, error), file=sys.stderr, flush=True)
        return
    _remove(doomed)


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        print(errors.cannot_delete(path, error), file=sys.stderr, flush=True)


def set_aside(directory: Path, after_step: int) -> None:
    """Rename the checkpoints past `after_step`, from where a run resumes because they are damaged, to *.damaged."""
    for path in committed(directory):
        if _step(path) > after_step:
            names = (f"{path.name}.damaged{suffix}" for suffix in itertools.chain([""], itertools.count(2)))
            path.rename(next(directory / name for name in names if not (directory / name).exists()))
            durable.sync(directory)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
