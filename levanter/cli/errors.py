"""The wording of every error of the command line itself: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Iterable

from levanter.errors import UserError, WorkFailed, suggestion


def usage(message: str, command: str) -> str:
    return f"{message.rstrip('.').replace(chr(10), ' ')}: see `{command} --help`"


def unknown_command(name: str, known: Iterable[str], command: str) -> UserError:
    return UserError(f"unknown command `{command} {name}`: {suggestion(name, known)}")


def unexpected(error: BaseException, where: str | None) -> str:
    """`where` is the line of the user's own code in which it was raised, if it was."""
    reason = str(error).strip().partition("\n")[0] or "no message"
    at = f" at {where}" if where else ""
    return f"unexpected {type(error).__name__}{at}: {reason} (run again with --debug to see where)"


def output_lost(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return f"standard output cannot be written any more ({reason}): the run goes on without it"


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


def platform_without_verify(platform: str) -> UserError:
    return UserError(f"--platform {platform} says what --verify compiles for: add --verify")


def values_differ(count: int, outputs: int) -> WorkFailed:
    return WorkFailed(
        f"{count} of {outputs} outputs have other values on the mesh than on one device: a collective, or what the "
        "compiler made of the layout, is wrong"
    )


def nothing_to_verify(word: str, known: Iterable[str]) -> UserError:
    return UserError(f"--verify={word}: write one or several of {', '.join(known)}")


def no_step_to_verify() -> UserError:
    return UserError("nothing to verify: name a step as MODULE:FUNCTION, such as my_model.py:step")


def nothing_to_check() -> UserError:
    return UserError("nothing to check: name a step as MODULE:FUNCTION, or a configuration with --model or --config")


def nothing_to_name() -> UserError:
    return UserError("nothing to name: name a step as MODULE:FUNCTION, such as my_model.py:step")


def nothing_to_show() -> UserError:
    return UserError("nothing to show: name a step as MODULE:FUNCTION, such as my_model.py:step")


def step_and_config(verb: str) -> UserError:
    return UserError(f"a step and a configuration are given: each is a step to {verb}, so keep one of them")


def needs_a_step(option: str) -> UserError:
    return UserError(f"{option} without a step: name the step too, as MODULE:FUNCTION")


def needs_a_config(option: str) -> UserError:
    return UserError(f"{option} is of configurations and not of a step: the step's arguments say its sizes")


def unexpected_arguments(arguments: Iterable[str], command: str) -> UserError:
    return UserError(f"unexpected argument `{' '.join(arguments)}`: see `{command} --help`")


def findings(wrong: int, count: int) -> WorkFailed:
    counts = [(wrong, "axis error"), (count - wrong, "warning")]
    return WorkFailed(" and ".join(f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in counts if n))


def rule_findings(count: int) -> WorkFailed:
    return WorkFailed(f"{count} {'finding' if count == 1 else 'findings'} about sharding rules")


def lint_without_mesh() -> UserError:
    return UserError("sharding rules are for a mesh: name it as they do, such as --mesh data=4,fsdp=8,tensor=4")


def no_dumps(folder: str, count: int) -> UserError:
    found = "one graph" if count else "no graphs"
    return UserError(f"{found} in `{folder}`: give the folder of a --dump-ir, or two files")


def no_folder(path: str) -> UserError:
    return UserError(f"`{path}` is not a folder: give the folder of a --dump-ir, or two files")


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


def pinned_to_nothing(name: str) -> UserError:
    return UserError(
        f"--pin {name}=: write what it is to be, such as --pin {name}=data; a name is replicated where every mesh axis "
        f"is forbidden to it: --forbid {name}=data,model"
    )


def not_a_size(text: str) -> UserError:
    return UserError(f"--max-shard-size {text}: write a number of bytes, such as 5GB or 500MB")


def pinned_twice(name: str, first: str, second: str) -> UserError:
    return UserError(
        f"--pin {name} is given twice, {first} and {second}: give all its mesh axes at once, --pin "
        f"{name}={first},{second}, or keep one"
    )


def plan_of_another_mesh(source: str, planned: str, mesh: str) -> UserError:
    return UserError(
        f"{source} is a plan for the mesh {planned}, and --mesh is {mesh}: leave out --mesh, or plan for this one with "
        "--save-plan FILE in place of --plan"
    )


def no_step_of_a_plan(source: str, model: str | None) -> UserError:
    made = f"{source} was made for `{model}`" if model else f"{source} does not say what it was made for"
    return UserError(f"{made}: name the step to price both plans for, with --model or --config, or as MODULE:FUNCTION")


_ASSIGNED = {
    "--name": "--name q_heads=heads",
    "--compute": "--compute mlp=model",
    "--storage": "--storage embed=data",
    "--pin": "--pin embed=data",
    "--forbid": "--forbid vocab=model",
    "--option": "--option merge_equal=false",
}


def no_positions(text: str) -> UserError:
    return UserError(f"--at-rest {text}: give positions of inputs, counted from 0, such as --at-rest 0,1")


def no_prompt() -> UserError:
    return UserError("no prompt: give --prompt TEXT, as often as you like, or --prompts FILE with one in each line")


def devices_beside(devices: int, option: str, given: str) -> UserError:
    return UserError(
        f"--devices {devices} and {option} {given}: --devices lets the planner choose the mesh; leave out one of them"
    )
