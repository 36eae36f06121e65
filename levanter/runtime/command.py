"""The command that started a run, with other options: what refusals and the end of a run give to copy and paste."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

_SPELLINGS = {"--run-dir": ("--trainer.run_dir",), "--mesh": ("--trainer.mesh",), "--plan": ("--trainer.plan",)}


@dataclass(frozen=True)
class Command:
    """`arguments` are those of `levanter`, as the user gave them: `("train", "--model", "gpt2_nano")`."""

    arguments: tuple[str, ...]

    @property
    def is_bare(self) -> bool:
        """Whether it is `levanter train` and nothing else."""
        return len(self.arguments) == 1

    def text(self, subcommand: str | None = None, leave_out: Sequence[str] = (), **options: object) -> str:
        """The command for a shell.

        Args:
            subcommand: another one than the user's.
            leave_out: options that are dropped, in any spelling.
            options: options that are set, in place of the user's: `run_dir` for --run-dir, `trainer__seed` for
                --trainer.seed.
        """
        given = {f"--{_spelled(name)}": str(value) for name, value in options.items()}
        kept = list(self.arguments[1:])
        for name in (*given, *leave_out):
            for spelling in (name, *_SPELLINGS.get(name, ())):
                kept = _without(kept, spelling)
        added = [part for name, value in given.items() for part in (name, value)]
        return shlex.join(["levanter", subcommand or self.arguments[0], *kept, *added])


def _spelled(name: str) -> str:
    return name.replace("__", ".") if "__" in name else name.replace("_", "-")


def _without(arguments: list[str], option: str) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == option:
            skip = True
        elif not argument.startswith(f"{option}="):
            kept.append(argument)
    return kept
