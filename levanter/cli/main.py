"""`levanter`: its commands, and how every one of them ends.

Exit codes: 0 fine; 1 the work failed; 2 the user's input is wrong; 130 interrupted with Ctrl-C; 141 the reader of
our output went away. Whatever happened is said in one short message on stderr; `--debug` shows the traceback.
"""

from __future__ import annotations

import os
import sys

from levanter.cli import held_signals
from levanter.runtime.garbage import collect_seldom
from levanter.runtime.huge_pages import restart_with_them

if __name__ == "__main__" or os.path.basename(sys.argv[0]) == "levanter":
    # Before the imports below, which then are made once and cost less.
    held_signals.hold()
    if "train" in sys.argv[1:2]:
        restart_with_them()
    collect_seldom()

import traceback
from collections.abc import Sequence

import click

from levanter.cli import errors
from levanter.cli.check import check_command
from levanter.cli.checkpoint import checkpoint
from levanter.cli.compile import compile_command
from levanter.cli.config import config_command
from levanter.cli.data import data
from levanter.cli.eval import eval_command
from levanter.cli.export import export_command
from levanter.cli.generate import generate_command
from levanter.cli.group import Group
from levanter.cli.import_ import import_command
from levanter.cli.ir import ir
from levanter.cli.launch import launch_command
from levanter.cli.lint import lint_command
from levanter.cli.names import names_command
from levanter.cli.plan import plan
from levanter.cli.plot import plot_command
from levanter.cli.reproduce import reproduce_command
from levanter.cli.status import status_command
from levanter.cli.train import train
from levanter.cli.verify import verify_command
from levanter.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, EXIT_WORK_FAILED, UserError, WorkFailed
from levanter.user_code import line_of

EXIT_BROKEN_PIPE = 141


def _version(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if asked:
        from levanter.version import DISTRIBUTION, installed_version

        click.echo(f"{DISTRIBUTION} {installed_version()}")
        ctx.exit()


@click.group(
    cls=Group,
    commands=[
        *(
            train,
            launch_command,
            status_command,
            plot_command,
            reproduce_command,
            import_command,
            export_command,
            generate_command,
            eval_command,
        ),
        *(
            compile_command,
            plan,
            lint_command,
            check_command,
            verify_command,
            names_command,
            config_command,
            data,
            checkpoint,
            ir,
        ),
    ],
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def levanter() -> None:
    """Train language models written with named axes, on a layout that is planned and explained.

    \b
    levanter train                                    GPT-2 nano on a real corpus, in minutes on a CPU
    levanter compile --model gpt2_small --mesh 8x4    how its training step is sharded over 32 chips, and why
    levanter check my_model.py:step                   which axes meet in it that should not
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (of this process, where no arguments are given) and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python flushes stdout once more when it ends; give it somewhere to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in arguments:
            traceback.print_exc()
        message, code = ending(error)
        print(message, file=sys.stderr)
        return code


def run(arguments: list[str]) -> int:
    """Run one command; every problem is raised."""
    try:
        with levanter.make_context("levanter", list(arguments), obj=tuple(arguments)) as context:
            levanter.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as bare:
        print(bare.format_message())
    return 0


def ending(error: BaseException) -> tuple[str, int]:
    """What to print and the exit code that an exception ends the process with."""
    match error:
        case UserError():
            return f"error: {error}", EXIT_USER_ERROR
        case WorkFailed():
            return f"error: {error}", EXIT_WORK_FAILED
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "levanter"
            return f"error: {errors.usage(error.format_message(), command)}", EXIT_USER_ERROR
        case click.ClickException():
            return f"error: {error.format_message()}", EXIT_USER_ERROR
        case KeyboardInterrupt() | click.Abort():
            return "interrupted", EXIT_INTERRUPTED
        case _:
            return f"error: {errors.unexpected(error, line_of(error))}", EXIT_WORK_FAILED


def command() -> int:
    """The `levanter` command: `main` for a process of its own."""
    if sys.argv[1:2] not in (["train"], ["launch"]):
        return _listening()
    from levanter.processes.starting import leave_if_failed
    from levanter.runtime.stop import signals_of_a_command

    with signals_of_a_command():
        code = EXIT_WORK_FAILED
        try:
            code = _listening()
        finally:
            leave_if_failed(code)
    return code


def _listening() -> int:
    """`main` of this process, with the signals that came while it was imported."""
    try:
        held_signals.release()
    except KeyboardInterrupt as error:
        message, code = ending(error)
        print(message, file=sys.stderr)
        return code
    return main()


if __name__ == "__main__":
    sys.exit(command())
