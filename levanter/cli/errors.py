"""The wording of every error of the command line itself: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Iterable

from levanter.errors import UserError, WorkFailed, suggestion


def usage(message: str, command: str) -> str:
    return f"{message.rstrip('.').replace(chr(10), ' ')}: see `{command} --help`"


def unknown_command(name: str, known: Iterable[str], command: str) -> UserError:
    return UserError(f"unknown command `{command} {name}`: {suggestion(name, known)}")


def unexpected(error: BaseException) -> str:
    reason = str(error).strip().partition("\n")[0]
    return f"unexpected {type(error).__name__}: {reason or 'no message'} (run again with --debug to see where)"


def too_few_devices(mesh: str, needed: int, found: int, platform: str) -> UserError:
    return UserError(
        f"mesh {mesh} needs {needed} devices and JAX found {found} ({platform}): "
        "give a smaller --mesh, or set JAX_PLATFORMS=cpu to run on as many CPU devices as it needs"
    )


def too_many_cpu_devices(mesh: str, needed: int, most: int) -> UserError:
    return UserError(
        f"mesh {mesh} needs {needed} devices and one machine stands in for at most {most} with its CPU: "
        "give a smaller --mesh (`levanter compile` plans for any)"
    )


def cannot_make_folder(path: str, error: OSError) -> UserError:
    reason = (error.strerror or str(error)).lower()
    return UserError(f"cannot make the folder `{path}` for --dump-ir: {reason}: name another one")


def surprises(count: int) -> WorkFailed:
    noun = "surprise" if count == 1 else "surprises"
    return WorkFailed(f"verification found {count} {noun}: the compiled step does what the plan did not say")
