"""A folder of checkpoints: which are there, which is the newest whole one, and which may go.

`step-N` is a committed checkpoint of the state after N steps. A name that begins with a dot is being written or being
deleted, and `step-N.damaged` was refused at a resume and set aside. Behind a URL, `step-N` is committed once its
manifest is there. A run directory whose checkpoints are elsewhere says in `checkpoints/location` where.
"""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

from levanter import durable
from levanter.checkpoint import errors
from levanter.checkpoint.locations import Location, location
from levanter.checkpoint.opening import place_of
from levanter.checkpoint.places import MARKER, Place
from levanter.errors import UserError

_PREFIX = "step-"
_STEP = re.compile(rf"{_PREFIX}(\d+)")
_ELSEWHERE = "location"


def step_name(step: int) -> str:
    """The name of the checkpoint of `step` in its folder."""
    return f"{_PREFIX}{step}"


def step_of(path: Location) -> int | None:
    """The step that a checkpoint has by its name; None where that is not a step's."""
    found = _STEP.fullmatch(path.name)
    return int(found[1]) if found else None


def committed(directory: Location | str) -> list[Location]:
    """Every committed checkpoint of a folder, oldest first. A folder that is not there has none."""
    place = place_of(followed(directory))
    steps = sorted(int(found[1]) for name in place.names() if (found := _STEP.fullmatch(name)))
    return [place.child(step_name(step)).path for step in steps if place.is_complete(step_name(step))]


def missing(path: Location) -> UserError:
    """The error for a checkpoint that is not there, with those that are beside it."""
    beside = committed(path.parent) if _STEP.fullmatch(path.name) else []
    return errors.no_such_path(path, [other.name for other in beside])


def followed(directory: Location | str) -> Location:
    """Where the checkpoints of the folder `directory` really are."""
    directory = location(directory)
    if isinstance(directory, Path) and (directory / _ELSEWHERE).is_file():
        return location((directory / _ELSEWHERE).read_text(encoding="utf-8").strip())
    return directory


def keep_elsewhere(directory: Path, target: Location | str | None, write: bool = True) -> Location:
    """Say in the folder `directory` of a run that its checkpoints are in `target` (None: in itself); returns where.

    Args:
        write: whether this process says it.
    """
    said = directory / _ELSEWHERE
    if not write:
        return directory if target is None else location(target)
    if target is None:
        said.unlink(missing_ok=True)
        return directory
    durable.write_file(said, f"{target}\n".encode())
    return location(target)


def resolve(path: Location | str) -> Location:
    """The checkpoint that `path` means: itself, or the newest of a run directory or of a folder of checkpoints.

    Raises:
        UserError: there is none.
    """
    path = location(path)
    place = place_of(path)
    if not place.exists():
        raise missing(path)
    if _STEP.fullmatch(path.name) or {"manifest.json", MARKER} & set(place.names()):
        return path
    for folder in (path / "checkpoints", path):
        if found := committed(folder):
            return found[-1]
    raise errors.none_found(path)


def check_name(path: Location, step: int) -> None:
    """Hold the name of a checkpoint's folder against the step that its manifest says.

    Raises:
        UserError: it is the name of another step.
    """
    if step_of(path) not in (None, step):
        raise errors.other_step(path, step)


def clean(directory: Location | str) -> None:
    """Remove what a killed process left half written or half deleted. For the one writer of the folder only."""
    place = place_of(location(directory))
    for name in place.leftovers(_PREFIX):
        _remove(place.child(name))


def prune(directory: Location, keep: int, keep_every: int | None = None) -> None:
    """Delete all but the newest `keep` checkpoints and those of multiples of `keep_every` steps."""
    try:
        old = committed(directory)[:-keep]
    except OSError as error:
        print(errors.cannot_delete(directory, error), file=sys.stderr, flush=True)
        return
    for path in old:
        step = step_of(path)
        if keep_every is None or step is None or step % keep_every:
            remove(path)


def remove(path: Location) -> None:
    """Delete one checkpoint. It loses its name first, so that none is ever torn; where that fails, stderr says so."""
    try:
        doomed = place_of(path.parent).retire(path.name)
    except OSError as error:
        print(errors.cannot_delete(path, error), file=sys.stderr, flush=True)
        return
    _remove(doomed)


def _remove(place: Place) -> None:
    try:
        place.remove()
    except OSError as error:
        print(errors.cannot_delete(place.path, error), file=sys.stderr, flush=True)


def set_aside(directory: Location, after_step: int) -> None:
    """Rename the checkpoints past `after_step`, from where a run resumes because they are damaged, to *.damaged."""
    place = place_of(directory)
    there = set(place.names())
    for path in committed(directory):
        step = step_of(path)
        if step is not None and step > after_step:
            names = (f"{path.name}.damaged{suffix}" for suffix in itertools.chain([""], itertools.count(2)))
            new = next(name for name in names if name not in there)
            place.rename(path.name, new)
            there.add(new)


def make(directory: Location) -> None:
    """Make the folder, where it is not there."""
    place_of(directory).make()
    if isinstance(directory, Path):
        durable.sync(directory.absolute().parent)
