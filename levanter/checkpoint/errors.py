"""The wording of everything that can be wrong with a checkpoint."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from levanter.checkpoint.locations import Location
from levanter.errors import UserError, WorkFailed, first_of

_SHOWN = 5


class DamagedCheckpoint(UserError):
    """A checkpoint is torn or altered. `path` is the checkpoint, `what` the array or file that shows it."""

    def __init__(self, path: Location, what: str, fix: str) -> None:
        super().__init__(f"the checkpoint {path} is damaged ({what}): {fix}")
        self.path = path
        self.what = what


class CheckpointMismatch(UserError):
    """A checkpoint is whole, and holds other arrays than the ones asked for."""


def damaged(path: Location, what: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(path, what, "it is not used; remove it to resume from the one before it")


def incomplete(path: Location, name: str) -> DamagedCheckpoint:
    return damaged(path, f"array {name}: its blocks do not make it up")


def all_damaged(found: Sequence[DamagedCheckpoint]) -> DamagedCheckpoint:
    newest = found[0]
    older = "".join(f"; {problem.path.name}: {problem.what}" for problem in found[1:])
    return DamagedCheckpoint(
        newest.path,
        newest.what + older,
        "there is no whole one before it; put back a copy, or remove the folder "
        f"{newest.path.parent} to start from the first step",
    )


def left_out(problem: DamagedCheckpoint) -> str:
    return f"the checkpoint {problem.path} is damaged ({problem.what}): using the one before it"


def other_step(path: Location, step: int) -> UserError:
    """A checkpoint whose folder has the name of another step than the one that it holds."""
    return UserError(
        f"the checkpoint {path} holds the state after step {step}: it was copied or renamed; "
        f"name it step-{step}, or move it out of {path.parent}"
    )


def none_found(path: Location) -> UserError:
    return UserError(f"there is no checkpoint in {path}: name a step-N folder, or a run directory that has one")


def no_such_path(path: Location, beside: Sequence[str] = ()) -> UserError:
    """`beside` are the checkpoints that there are in the same folder."""
    fix = f"there are {', '.join(beside)}" if beside else "check the path"
    return UserError(f"there is no checkpoint {path}: no such folder; {fix}")


def cannot_open_url(path: Location, reason: str) -> UserError:
    return UserError(
        f"cannot open {path} ({reason}): check the URL and what gives access to it; s3:// and gs:// need the packages "
        's3fs and gcsfs (pip install "levanter-compiler[cloud]")'
    )


def other_format(path: Location, found: object, known: int) -> UserError:
    return UserError(
        f"the checkpoint {path} has format {found} and this version reads formats up to {known}: "
        "use the version that wrote it"
    )


def mismatch(path: Location, differences: Sequence[str]) -> CheckpointMismatch:
    return CheckpointMismatch(
        f"the checkpoint {path} does not fit this model and optimizer ({first_of(differences, _SHOWN)}): "
        "use the config it was written with, or another run directory"
    )


def needs_x64(path: Location, name: str, dtype: str) -> CheckpointMismatch:
    return CheckpointMismatch(
        f"the checkpoint {path} holds {dtype} values (array {name}), which JAX would round: set JAX_ENABLE_X64=1"
    )


def cannot_write(path: Location, error: OSError) -> WorkFailed:
    reason = error.strerror or str(error)
    return WorkFailed(
        f"cannot write the checkpoint {path} ({reason}): those before it are whole; "
        f"{_remedy(error)} and run the same command again"
    )


def cannot_write_elsewhere(path: Location, process: int, reason: str) -> WorkFailed:
    """What process `process` of a run says of its part, in the others."""
    return WorkFailed(f"cannot write the checkpoint {path}: process {process} of this run has stopped ({reason})")


def not_shared(path: Location, process: int) -> UserError:
    return UserError(
        f"process {process} wrote its part of {path} to a disk that the first process does not see: put the "
        "checkpoints on a file system that all processes share, or at a URL (--trainer.checkpoint.directory)"
    )


def cannot_delete(path: Location, error: OSError) -> str:
    return (
        f"cannot delete the old checkpoint {path} ({error.strerror or error}): training continues; "
        "delete it by hand to have its room back"
    )


def target_exists(path: Location) -> UserError:
    return UserError(f"{path} is there already: name a new one")


def cannot_export(path: Location, error: OSError) -> WorkFailed:
    return WorkFailed(
        f"cannot write {path} ({error.strerror or error}): {_remedy(error)} and run the same command again"
    )


def unknown_export(path: Location) -> UserError:
    return UserError(f"cannot tell the format of {path}: end its name in .safetensors or .npz")


def no_export_dtype(name: str, dtype: str, suffix: str) -> UserError:
    other = ".safetensors" if suffix == ".npz" else ".npz"
    return UserError(f"the array {name} is {dtype}, which {suffix} files cannot hold: export to {other}")


def no_arrays(path: Location, part: str) -> UserError:
    return UserError(f"the checkpoint {path} has no array whose name begins with {part}: leave --part out to see all")


def newest_already(path: Location, version: int) -> UserError:
    return UserError(f"the checkpoint {path} has format {version}, which is the newest: there is nothing to convert")


def _remedy(error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "make room"
        case errno.EROFS:
            return "mount the disk writable (or move the run directory to one that is)"
        case errno.EACCES | errno.EPERM:
            return "let this user write the folder"
        case _:
            return "check the disk (or move the run directory to another one)"
