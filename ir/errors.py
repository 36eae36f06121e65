"""Every wording of every error of the IR, each once: what is wrong, where, the fix, and the line with a caret.

The functions build the exceptions; the caller raises them.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from haliax.errors import nearest

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
    return nearest(word, known).removeprefix("; ") or f"known: {', '.join(known)}"


def path_after_gap(spot: Spot) -> ParseError:
    return _error(spot, "a path after a line without one", "give the lines above a path too, or leave this one out")


def unequal_ranges(spot: Spot, inputs: int, outputs: int) -> ParseError:
    return _error(spot, f"{inputs} inputs are paired with {outputs} outputs", "make the two ranges equally long")


def unknown_escape(spot: Spot, escape: str) -> ParseError:
    return _error(
        spot, f"`{escape}` means nothing in a string", r"write `\"`, `\\`, `\n`, `\t`, `\r` or a code point, `\u{e9}`"
    )


def nested_too_deep(spot: Spot, deepest: int) -> ParseError:
    return _error(spot, f"bodies are nested more than {deepest} deep", "give one loop or call what several do")


def too_many_dims(spot: Spot, most: int) -> ParseError:
    return _error(spot, f"more than {most} dims in one list", f"a value has at most {most} dims: merge some of them")


def number_too_large(spot: Spot) -> ParseError:
    return _error(
        spot, "a whole number that is too large", "sizes, positions and numbers of values lie below 2^63, about 9.2e18"
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


# --- names beside the arguments ---------------------------------------------------------------------------------------


class NamingError(ValueError):
    """Names beside the arguments that do not fit them."""


_MOST_LISTED = 8


def no_naming(names: object) -> NamingError:
    return NamingError(
        f"`names` is a {type(names).__name__}: give a mapping from path patterns to names, such as "
        '{"*.mlp.up.kernel": "embed mlp"}, or a function of path and shape that returns names or None'
    )


def nearest_of(wanted: str, tails: Mapping[str, str], most: int) -> list[str]:
    """The keys whose values are nearest to `wanted`, the nearest first."""
    close = difflib.get_close_matches(wanted, sorted(set(tails.values())), n=most, cutoff=0.6)
    return [path for tail in close for path, own in tails.items() if own == tail][:most]


def pattern_unmatched(pattern: str, near: Sequence[str], paths: Sequence[str]) -> str:
    what = f"no array matches `{pattern}`"
    if near:
        return f"{what}; did you mean {' or '.join(f'`{path}`' for path in near)}?"
    return f"{what}: the arrays are {_listed(paths)}" if paths else f"{what}: the step has no arrays"


def pattern_hidden(pattern: str, above: str) -> str:
    return (
        f"`{pattern}` names nothing: `{above}` above it matches first all that it matches, so write the more special "
        "pattern above the more general"
    )


def names_rank(path: str, shape: Sequence[int], names: str, pattern: str | None) -> str:
    count = len(names.split())
    general = pattern not in (None, path)
    source = f" (from `{pattern}`)" if general else ""
    fix = f'write one name a dim, `_` for none, `...` for any number of dims, or leave it unnamed: "{path}": None'
    return (
        f"`{path}` has {_counted(len(shape), 'dim')}, {_shape(shape)}, and {_counted(count, 'name')}, "
        f"`{names}`{source}: {fix + ' above that pattern' if general else fix}"
    )


def names_size(path: str, shape: Sequence[int], name: str, size: int, found: int) -> str:
    return (
        f"`{path}` of shape {_shape(shape)} has {found} at the place of `{name}={size}`: "
        "correct the size or leave it out"
    )


def names_unreadable(path: str, names: object) -> str:
    return (
        f'`{path}` gets {names!r}, which are not names: write text such as "embed mlp", or one name a dim such as '
        '("embed", None), with at most one `...`'
    )


def names_missing(types: Mapping[str, object]) -> str:
    what = "1 array has" if len(types) == 1 else f"{len(types)} arrays have"
    return f"{what} no names, or not for every dim: {_listed([f'{path}: {type_}' for path, type_ in types.items()])}"


def _listed(words: Sequence[str]) -> str:
    more = f", and {len(words) - _MOST_LISTED} more" if len(words) > _MOST_LISTED else ""
    return ", ".join(f"`{word}`" for word in words[:_MOST_LISTED]) + more


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


# --- what the verifier says of a graph --------------------------------------------------------------------------------


class MalformedGraph(Exception):
    """A graph that breaks the IR's own rules."""


class TooDeep(ValueError):
    """A step or a graph with more calls, loops or branches within each other than can be handled."""


def step_too_deep(deepest: int, source: object) -> TooDeep:
    where = "" if source is None else f" ({source})"
    return TooDeep(
        f"loops, branches and calls are nested more than {deepest} deep{where}: write what repeats as one loop "
        "(`jax.lax.scan`, `hax.scan`) instead of one inside the other"
    )


def calls_too_deep(step: str) -> TooDeep:
    return TooDeep(
        f"`{step}` could not be traced within Python's limit of calls within calls: it calls itself without end, or "
        "functions (`jit`, `checkpoint`, loops) are nested too deep; write what repeats as one loop (`jax.lax.scan`)"
    )


def argument_too_large(path: str, most: int) -> ValueError:
    return ValueError(f"the argument `{path}` is too large: an array has at most {most} dims, each smaller than 2^63")


def graph_too_deep(graph: str, deepest: int) -> MalformedGraph:
    return MalformedGraph(f"graph {graph}: bodies are nested more than {deepest} deep")


def paths_for(graph: str, paths: int, values: int, side: str) -> MalformedGraph:
    return MalformedGraph(f"graph {graph}: {paths} paths for {values} {side}")


def carried_out_of_range(graph: str, before: int, after: int) -> MalformedGraph:
    return MalformedGraph(f"graph {graph}: carried pair ({before}, {after}) is out of range")


def carried_changes(graph: str, before: int, after: int, old: str, new: str) -> MalformedGraph:
    return MalformedGraph(
        f"graph {graph}: carried pair ({before}, {after}) is {old} before the step and {new} after it: "
        "state keeps its dtype and its sizes"
    )


def value_defined_twice(graph: str, value: str) -> MalformedGraph:
    return MalformedGraph(f"graph {graph}: {value} is defined twice")


def impossible_dim(graph: str, value: str, dim: str) -> MalformedGraph:
    return MalformedGraph(f"graph {graph}: {value} has the dim {dim}: sizes are at least 0 and below 2^63")


def undefined_operand(graph: str, kind: str, value: str) -> MalformedGraph:
    return MalformedGraph(f"graph {graph}: {kind} uses {value}, which is not defined before it")


def undefined_result(graph: str, value: str) -> MalformedGraph:
    return MalformedGraph(f"graph {graph}: returns {value}, which is not defined")


def other_use(graph: str, user: str, value: str, used: str, defined: str) -> MalformedGraph:
    return MalformedGraph(f"graph {graph}: {user} uses {value} as {used}, but it is {defined}")


def unknown_kind(graph: str, kind: str, known: Sequence[str]) -> MalformedGraph:
    return MalformedGraph(
        f"graph {graph}: unknown kind {kind!r}{nearest(kind, known)} (a kind is a file in ir/ops and a line in its "
        "registry)"
    )


def malformed_node(graph: str, node: str, faults: Sequence[str], excerpt: str) -> MalformedGraph:
    """`node` is the operation with its line; `excerpt` shows it between its neighbours, carets under what is wrong."""
    return MalformedGraph(f"graph {graph}: {node}: {'; '.join(faults)}\n{excerpt}")


def other_type(found: str, rule: str) -> str:
    return f"the result is {found}, but the rule gives {rule}"


def other_type_with(found: str, attribute: str, rule: str) -> str:
    return f"the result is {found}, but with `{attribute}` the rule gives {rule}"


def result_count(rule: int, found: int) -> str:
    return f"the rule gives {_counted(rule, 'result')}, not {found}"


def operand_count(least: int, most: int | None, found: int) -> str:
    if most is None:
        wanted = f"at least {_counted(least, 'operand')}"
    else:
        wanted = _counted(least, "operand") if least == most else f"{least} to {most} operands"
    return f"it takes {wanted}, not {found}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def no_attribute(kind: str, key: str, known: Sequence[str]) -> str:
    if not known:
        return f"`{kind}` has no attribute `{key}`; it has none at all"
    return f"`{kind}` has no attribute `{key}`{nearest(key, known)}; it may have {', '.join(known)}"


def attribute_missing(key: str) -> str:
    return f"the attribute `{key}` is missing"


def no_dims(key: str) -> str:
    return f"`{key}` must list dims, such as `{key}=[embed=64]`"


def no_such_dim(key: str, dim: str, owner: str) -> str:
    return f"`{key}` lists {dim}, which is not a dim of {owner}"


def listed_twice(key: str, owner: str) -> str:
    return f"`{key}` lists a dim more often than {owner} has it"


def no_number(key: str) -> str:
    return f"`{key}` must be a whole number that is not negative, such as `{key}=4`"


def no_words(key: str) -> str:
    return f"`{key}` must list different names, such as `{key}=[data]`"


def wrong_list(key: str, rule: str) -> str:
    return f"the rule gives `{key}=[{rule}]`"


def operand_dtype(found: str, wanted: str) -> str:
    return f"an operand of {found} where {wanted} is needed"


def operand_shape(found: str, wanted: str) -> str:
    return f"the operand is {found}: its sizes must be those of {wanted}"


def operand_rank(found: str, rule: str) -> str:
    return f"the operand is {found}, but the rule needs {rule}"


def rule_needs(what: str) -> str:
    return f"the rule needs {what}"


def body_type(body: str, inside: str, outside: str) -> str:
    return f"{body} takes {inside}, but is fed {outside}"


def body_gives(body: str, inside: str, outside: str) -> str:
    return f"{body} gives {inside} where {outside} is made"


def bodies_do_not_fit(problem: str) -> str:
    return f"its bodies do not fit its operands and results ({problem})"
