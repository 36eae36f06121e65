"""The two ways a command can end badly.

Every problem that a person can fix is a `UserError`: its message says what is wrong, where, and the fix, and the
command exits with 2. When the input was right but the work itself failed (training diverged, verification found a
surprise), it is a `WorkFailed` and the command exits with 1. Any other exception is a bug of this library.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import prod

EXIT_USER_ERROR = 2
EXIT_WORK_FAILED = 1
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """The user's input is wrong: the message is shown alone, without a traceback; exit code 2."""


class WorkFailed(Exception):
    """The input was right and the work failed: the message is shown alone, without a traceback; exit code 1."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C has stopped a run, in all of its processes, and everything is saved; exit code 130."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` most likely meant, or None when nothing is close."""
    from haliax.errors import nearest_name  # brings JAX along, which a command that goes well need not wait for

    return nearest_name(name, sorted(known))


def suggestion(name: str, known: Iterable[str]) -> str:
    """The fix for a wrong name: the nearest right one, or the list of right ones."""
    names = sorted(known)
    match = nearest(name, names)
    return f"did you mean `{match}`?" if match else f"known: {', '.join(names)}"


def part_meant(pattern: str, names: Collection[str]) -> str | None:
    """The fix for a pattern of dotted names: the first name with the piece that it most likely spells; None if none."""
    core = pattern.replace("*", "").strip(".")
    pieces = {piece: name for name in reversed(list(names)) for piece in _pieces(name)}
    meant = nearest(core, pieces) if "*" in pattern or "." in pattern else None
    return f"did you mean a part of `{pieces[meant]}`?" if meant else None


def _pieces(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[start:end]) for start in range(len(parts)) for end in range(start + 1, len(parts) + 1)]


def first_of(differences: Sequence[str], shown: int) -> str:
    """So many of them, and how many more there are."""
    more = f"; and {len(differences) - shown} more" if len(differences) > shown else ""
    return f"{'; '.join(differences[:shown])}{more}"


def out_of_range(name: str, value: object, allowed: str) -> UserError:
    """A field, by its dotted name, whose number makes no sense."""
    return UserError(f"{name} is {value}: it must be {allowed}")


def not_a_choice(name: str, value: str, known: Iterable[str], null: bool = False) -> UserError:
    """A field, by its dotted name, whose word is none of the few it can be."""
    return UserError(f"{name} is '{value}': use one of {', '.join(known)}{', or null' if null else ''}")


def package_missing(package: str, what: str, extra: str) -> UserError:
    """A package of an extra that is not installed; `what` needs it or is in it."""
    return UserError(
        f"{what} needs the Python package `{package}`, which is not installed: "
        f'run pip install "levanter-compiler[{extra}]", or pip install -e ".[{extra}]" in the checkout'
    )


def component_exists(kind: str, name: str, place: str, other: str) -> UserError:
    return UserError(f"two components of the kind {kind} are called `{name}`, {place} and {other}: rename one of them")


def component_incomplete(kind: str, place: str, missing: Iterable[str]) -> UserError:
    return UserError(f"the {kind} {place} is incomplete: define {', '.join(f'`{name}`' for name in missing)} in it")


def no_component(kind: str, place: str, base: type) -> UserError:
    name = place.rpartition(":")[2].rpartition(".")[2]
    return UserError(
        f"`{place}` is not a config of the kind {kind}. Write\n\nfrom {base.__module__} import {base.__name__}\n\n"
        f"@dataclass(frozen=True)\nclass {name}({base.__name__}):"
    )


def no_dataclass(kind: str, place: str, name: str) -> UserError:
    return UserError(
        f"the {kind} `{place}` has no fields of its own. Write\n\n@dataclass(frozen=True)\nclass {name}(…):"
    )


def batch_does_not_divide(batch: int, axes: dict[str, int], shards: int) -> UserError:
    """A batch that the batch axes of a mesh cannot share out evenly."""
    mesh = ", ".join(f"{axis}={size}" for axis, size in axes.items())
    lower = batch // shards * shards
    fix = f"{lower} or {lower + shards}" if lower else f"{shards}"
    other = _dividing(batch, axes)
    meshes = f"a mesh with {other}" if other else "another mesh"
    return UserError(f"trainer.train_batch_size={batch} does not divide over {mesh}: use {fix}, or {meshes}")


def _dividing(batch: int, axes: dict[str, int]) -> str:
    """The largest last axis that, with those before it, divides a batch; empty where none does."""
    *before, (axis, size) = axes.items()
    rest = prod(count for _, count in before)
    if axis == "microbatches" or batch % rest:
        return ""
    found = next(count for count in range(size, 0, -1) if (batch // rest) % count == 0)
    return f"{axis}={found}" if found > 1 else ""


def cannot_trace(name: str, error: Exception) -> UserError:
    """A step that JAX, or a named operation in it, refuses."""
    return UserError(f"cannot trace `{name}`: {type(error).__name__}: {error} (--debug shows where)")


def no_graph(file: str, error: Exception) -> UserError:
    """A file that is not the text of a graph."""
    return UserError(f"`{file}` is not a graph: {error}")


def no_such_file(target: str, path: str) -> UserError:
    return UserError(f"no file `{path}` (in `{target}`): check the path")


def import_failed(target: str, error: BaseException) -> UserError:
    return UserError(f"cannot import the module of `{target}`: {type(error).__name__}: {error} (--debug shows where)")


def no_such_name(target: str, name: str, known: Iterable[str]) -> UserError:
    return UserError(f"no `{name}` in the module of `{target}`: {suggestion(name, known)}")
