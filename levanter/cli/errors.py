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


def nothing_to_check() -> UserError:
    return UserError("nothing to check: name a step as MODULE:FUNCTION, or a configuration with --model or --config")


def step_and_config() -> UserError:
    return UserError("a step and a configuration are given: each is a step to check, so keep one of them")


def arguments_without_step() -> UserError:
    return UserError("--arguments without a step: name the step too, as MODULE:FUNCTION")


def unexpected_arguments(arguments: Iterable[str]) -> UserError:
    return UserError(f"unexpected argument `{' '.join(arguments)}`: see `levanter check --help`")


def bad_target(target: str) -> UserError:
    return UserError(f"bad step `{target}`: write MODULE:FUNCTION, such as my_model.train:step or my_model.py:step")


def no_such_file(target: str, path: str) -> UserError:
    return UserError(f"no file `{path}` (in `{target}`): check the path")


def import_failed(target: str, error: BaseException) -> UserError:
    return UserError(f"cannot import the module of `{target}`: {type(error).__name__}: {error} (--debug shows where)")


def no_such_name(target: str, name: str, known: Iterable[str]) -> UserError:
    return UserError(f"no `{name}` in the module of `{target}`: {suggestion(name, known)}")


def not_a_step(target: str, kind: str) -> UserError:
    return UserError(f"`{target}` is a {kind}: name the function that is the step, or one that returns it")


def no_step_and_arguments(target: str, kind: str) -> UserError:
    return UserError(f"`{target}` takes no arguments and returned a {kind}: return (step, arguments)")


def no_arguments(target: str, wanted: str) -> UserError:
    return UserError(
        f"no arguments for `{target}`: define `{wanted}` beside it, a tuple of shapes or a function that returns one, "
        "or name them with --arguments MODULE:NAME"
    )


def call_failed(target: str, error: Exception) -> UserError:
    return UserError(f"calling `{target}` failed: {type(error).__name__}: {error} (--debug shows where)")


def arguments_no_tuple(target: str, kind: str) -> UserError:
    return UserError(f"the arguments of `{target}` are a {kind}: give a tuple, one element for each argument")


def findings(wrong: int, count: int) -> WorkFailed:
    counts = [(wrong, "axis error"), (count - wrong, "warning")]
    return WorkFailed(" and ".join(f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in counts if n))


def no_dumps(folder: str, count: int) -> UserError:
    found = "one graph" if count else "no graphs"
    return UserError(f"{found} in `{folder}`: give the folder of a --dump-ir, or two files")


def no_folder(path: str) -> UserError:
    return UserError(f"`{path}` is no folder: give the folder of a --dump-ir, or two files")


def file_and_folder(first: str, second: str) -> UserError:
    return UserError(f"`{first}` and `{second}`: give two files or two folders")


def nothing_in_common(first: str, second: str) -> UserError:
    return UserError(f"no graph is in both `{first}` and `{second}`: give two files")


def cannot_read(path: str, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UserError(f"cannot read `{path}`: {reason.lower()}: check the path")


def cannot_write(path: str, error: OSError) -> UserError:
    return UserError(f"cannot write `{path}`: {(error.strerror or str(error)).lower()}: name another file")


def not_assigned(option: str, text: str) -> UserError:
    return UserError(f"{option} {text}: write NAME=VALUE, such as {_ASSIGNED[option]}")


_ASSIGNED = {
    "--compute": "--compute mlp=model",
    "--storage": "--storage embed=data",
    "--option": "--option merge_equal=false",
}


def no_positions(text: str) -> UserError:
    return UserError(f"--at-rest {text}: give positions of inputs, counted from 0, such as --at-rest 0,1")
