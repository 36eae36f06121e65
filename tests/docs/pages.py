"""Documentation pages as programs: their fenced blocks, run from top to bottom, and what each one shows.

The `python` blocks of a page are one program, as if they stood one after the other in a file named like the page: they
share a namespace, and an error points at the line of that file. As in a notebook, a block shows what it prints, then
its last line if that is an expression with a value, then the error that ends it, then haliax's warnings. A `text` block
right below a `python` block says what that is.
"""

from __future__ import annotations

import ast
import contextlib
import io
import linecache
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import pytest

from haliax import errors

as_traced = pytest.mark.skipif(
    jax.__version_info__ >= (0, 11), reason="the page shows what JAX 0.10 traces: 0.12 has another gradient of tanh"
)
"""For a page that shows the operations of a step, or what they cost."""

_FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block, and where its text starts and ends in the page."""

    language: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Shown:
    """What a `python` block shows, and the `text` block below it that says so; None if there is none."""

    code: Block
    output: str
    stated: Block | None


def fenced(page: str, language: str) -> list[Block]:
    """The blocks of one language."""
    return [block for block in _blocks(page) if block.language == language]


def _blocks(page: str) -> list[Block]:
    return [Block(match[1], match[2], match.start(2), match.end(2)) for match in _FENCED.finditer(page)]


def run(path: Path) -> Iterator[Shown]:
    """Runs the page; each block is given back as soon as it has run."""
    page = path.read_text(encoding="utf-8")
    blocks = _blocks(page)
    name = f"{path.stem}.py"
    lines = "".join(block.text for block in blocks if block.language == "python").splitlines(keepends=True)
    linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
    program = sys.modules[path.stem] = ModuleType(path.stem)  # dataclasses look their module up
    first = 1
    for position, block in enumerate(blocks):
        if block.language != "python":
            continue
        below = blocks[position + 1] if position + 1 < len(blocks) else None
        is_stated = below is not None and below.language == "text" and not page[block.end + 3 : below.start - 8].strip()
        yield Shown(block, _output(block.text, first, name, vars(program)), below if is_stated else None)
        first += block.text.count("\n")


def _output(code: str, first: int, name: str, namespace: dict[str, Any]) -> str:
    tree = ast.increment_lineno(ast.parse(code), first - 1)
    last = tree.body[-1]
    value = None
    with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", errors.AxisWarning)
        try:
            if isinstance(last, ast.Expr):
                exec(compile(ast.Module(tree.body[:-1], []), name, "exec"), namespace)
                value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
            else:
                exec(compile(tree, name, "exec"), namespace)
        except Exception as error:
            print(_ending(error), end="")
        for one in warned:
            if issubclass(one.category, errors.AxisWarning):
                print(f"{one.filename}:{one.lineno}: {one.category.__name__}: {one.message}")
    text = printed.getvalue() + ("" if value is None else f"{value!r}\n")
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def _ending(error: Exception) -> str:
    """The last lines of a traceback, without the note of JAX about frames that it has left out."""
    error.__notes__ = [note for note in getattr(error, "__notes__", []) if "JAX" not in note]
    return "".join(traceback.format_exception_only(error))


def with_outputs(page: str, shown: list[Shown]) -> str:
    """The page, with what each block shows in the `text` block below it."""
    for one in reversed(shown):
        if one.stated is not None:
            page = page[: one.stated.start] + one.output + page[one.stated.end :]
        elif one.output:
            page = page[: one.code.end + 3] + f"\n\n```text\n{one.output}```" + page[one.code.end + 3 :]
    return page


def held(path: Path, update: bool) -> list[Shown]:
    """What the page shows, held against what it says; or written there, to `update` it."""
    shown: list[Shown] = []
    for one in run(path):
        if not update:
            assert one.output == ("" if one.stated is None else one.stated.text), f"the block:\n{one.code.text}"
        shown.append(one)
    if update:
        path.write_text(with_outputs(path.read_text(encoding="utf-8"), shown), encoding="utf-8")
    return shown
