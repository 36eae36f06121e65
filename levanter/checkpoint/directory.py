"""A folder of checkpoints: which are there, which is the newest whole one, and which may go.

`step-N` is a committed checkpoint of the state after N steps. A name that begins with a dot is being written or being
deleted, and `step-N.damaged` was refused at a resume and set aside.
"""

from __future__ import annotations

import itertools
import re
import shutil
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


def clean(directory: Path | str) -> None:
    """Remove what a killed process left half written or half deleted. For the one writer of the folder only."""
    directory = Path(directory)
    for path in sorted(directory.glob(".step-*")):
        shutil.rmtree(path)


def prune(directory: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints. One that is going loses its name first, so none is ever torn."""
    for path in committed(directory)[:-keep]:
        doomed = directory / f".{path.name}.deleted"
        path.rename(doomed)
        durable.sync(directory)
        shutil.rmtree(doomed)


def set_aside(directory: Path, after_step: int) -> None:
    """Rename the checkpoints past `after_step`, from where a run resumes because they are damaged, to *.damaged."""
    for path in committed(directory):
        if _step(path) > after_step:
            names = (f"{path.name}.damaged{suffix}" for suffix in itertools.chain([""], itertools.count(2)))
            path.rename(next(directory / name for name in names if not (directory / name).exists()))
            durable.sync(directory)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
