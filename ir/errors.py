"""Every wording of every error of the text form, each once: what is wrong, where, the fix, and the line with a caret.

The functions build the exceptions; the caller raises them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

Rule = Literal[
    "graph", "input", "node", "output", "carried", "type", "dim", "operand", "attribute", "body", "phase", "source"
]

_SHAPES: dict[Rule, str] = {
    "graph": "`graph step { … }`",
    "input": "`%0: f32[batch=32, embed=64]  state.weight`",
    "node": "`%2: f32[batch=32] = map.add(%0, %1)  # model.py:12`",
    "output": "`%2  loss`",
    "carried": "`inputs 0..3 -> outputs 0..3`",
    "type": "`f32[batch=32, embed=64@model]`",
    "dim": "`batch=32`, `batch=32@data` on a mesh, or `_=32` without a name",
    "operand": "`%3`, or `1.0:f32[]` for a constant",
    "attribute": "`over=[mlp=256]`, `trips=4` or `mode=fill`",
    "body": "`= loop.scan(%0) trips=4 body { … }`",
    "phase": "`-- forward --`",
    "source": "`# model.py:12`",
}


class ParseError(ValueError):
    """A text that is not a graph. `line` and `column` count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


_LONGEST_LINE = 160
_LONG_WORD = re.compile(r"`([^`]{60})[^`]+`")


@dataclass(frozen=True, slots=True)
class Spot:
    """A stretch of a text, from `start` up to `end`."""

    text: str
    start: int
    end: int

    @property
    def line(self) -> int:
        return self.text.count("\n", 0, self.start) + 1

    @property
    def column(self) -> int:
        return self.start - self._line_start + 1

    @property
    def _line_start(self) -> int:
        return self.text.rfind("\n", 0, self.start) + 1

    def excerpt(self) -> str:
        """The line, or the part of a long one around the stretch, and carets under it."""
        line = self.text[self._line_start :].split("\n", 1)[0].rstrip("\r")
        start = self.column - 1
        first = max(0, start - _LONGEST_LINE // 2) if len(line) > _LONGEST_LINE else 0
        part = line[first : first + _LONGEST_LINE]
        line = "…" * (first > 0) + part + "…" * (first + len(part) < len(line))
        start += (first > 0) - first
        before = "".join("\t" if c == "\t" else " " for c in line[:start])
        carets = "^" * max(1, min(self.end - self.start, len(line) - len(before)))
        number = str(self.line)
        return f"  {number} | {line}\n  {' ' * len(number)} | {before}{carets}"


def _error(spot: Spot, what: str, fix: str) -> ParseError:
    what, fix = (re.sub(_LONG_WORD, r"`\1…`", text) for text in (what, fix))
    message = f"{what} (line {spot.line}, column {spot.column}): {fix}\n{spot.excerpt()}"
    return ParseError(message, spot.line, spot.column)


def unexpected(spot: Spot, expected: str, found: str, rule: Rule) -> ParseError:
    """`expected` is a phrase; `found` is the text of the token, empty at the end of the text."""
    shown = "the end of the text" if not found else "the end of the line" if found.isspace() else f"`{found}`"
    return _error(spot, f"expected {expected}, found {shown}", f"write {_SHAPES[rule]}")


def undefined_value(spot: Spot, value: str) -> ParseError:
    return _error(
        spot,
        f"{value} is not defined here",
        f"define it on a line above in the same body, make it an input of the body, or give its type, `{value}:f32[]`",
    )


def defined_twice(spot: Spot, value: str, first: Spot) -> ParseError:
    return _error(
        spot, f"{value} is defined twice, first in line {first.line}", "give one of the two a number that is not in use"
    )


def attribute_twice(spot: Spot, key: str) -> ParseError:
    return _error(spot, f"the attribute `{key}` is given twice", "keep one of the two")


def unknown_phase(spot: Spot, phase: str, known: Sequence[str]) -> ParseError:
    return _error(spot, f"`{phase}` is not a phase", _nearest(phase, known))


def misplaced_section(spot: Spot, section: str, known: Sequence[str]) -> ParseError:
    if section not in known:
        return _error(spot, f"`{section}` is not a section", _nearest(section, known))
    fix = "a graph is written in the order: inputs, nodes, outputs, carried"
    return _error(spot, f"`{section}` does not stand here", fix)


def _nearest(word: str, known: Sequence[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"


def path_after_gap(spot: Spot) -> ParseError:
    return _error(spot, "a path after a line without one", "give the lines above a path too, or leave this one out")


def unequal_ranges(spot: Spot, inputs: int, outputs: int) -> ParseError:
    return _error(spot, f"{inputs} inputs are paired with {outputs} outputs", "make the two ranges equally long")


def unknown_escape(spot: Spot, escape: str) -> ParseError:
    return _error(
        spot, f"`{escape}` means nothing in a string", r"write `\"`, `\\`, `\n`, `\t`, `\r` or a code point, `\u{e9}`"
    )


def open_string(spot: Spot) -> ParseError:
    return _error(spot, "a string that does not end", 'close it with `"` on its line; a line break inside is `\\n`')


def too_many_paths(graph: str, section: str, paths: int, values: int) -> ValueError:
    return ValueError(
        f"{paths} paths for {values} {section} (graph `{graph}`): give at most one path per value, in the same order"
    )


def no_count(op: str, key: str, value: object) -> ValueError:
    return ValueError(f"the attribute `{key}` of `{op}` is {value!r}: give a whole number, such as `{key}=4`")


def unprintable_attribute(op: str, key: str, value: object) -> TypeError:
    return TypeError(
        f"no text form for a {type(value).__name__} (attribute `{key}` of `{op}`): "
        "use str, int, float, bool, or a tuple of one of these or of Dim"
    )
