"""A finding: one mistake, or one suspicious place, worded for people."""

import linecache
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ir.graph import Node, Operand, Source, Value
from ir.names import same_axis
from ir.ops import op_of
from passes._compat import columns
from passes.checks import errors
from passes.checks.program import Program
from passes.checks.provenance import chain

Severity = Literal["error", "warning"]
SILENCEABLE_ERRORS = ("order",)
"""Errors that may be meant: a shuffle of channels merges in another order than it split."""


@dataclass(frozen=True)
class Finding:
    """What `passes.check_axes` reports. Its text is what a person reads.

    Attributes:
        code: the name of the check, by which a warning is silenced.
        severity: an error stops the compiler; a warning does not.
        what: what is wrong, in one line.
        source: the user's line; None where the step keeps none.
        text: everything: what, the line with a caret, every operand, where the names come from, the fix.
    """

    code: str
    severity: Severity
    what: str
    source: Source | None
    text: str

    def __str__(self) -> str:
        return self.text


def finding(
    program: Program,
    code: str,
    node: Node | None,
    what: str,
    fix: str,
    operands: Sequence[Operand],
    names: Sequence[tuple[str, Operand]] = (),
    severity: Severity = "error",
) -> Finding:
    """A finding at a node.

    Args:
        operands: what takes part, each shown with its type.
        names: names to explain, each with a value that has it.
    """
    shown = [described(program, operand) for operand in operands]
    origins = [
        errors.name_origin(name, chain(program, value, name)) for name, value in names if isinstance(value, Value)
    ]
    silenceable = severity == "warning" or code in SILENCEABLE_ERRORS
    text = errors.finding(severity, code, what, _where(node), shown, list(dict.fromkeys(origins)), fix, silenceable)
    return Finding(code, severity, what, node.source if node is not None else None, text)


def described(program: Program, operand: Operand) -> str:
    """`x: f32[batch=4]` for an argument, `f32[batch=4]  (model.py:12)` for what a line makes."""
    operand = _before_rename(program, operand)
    if not isinstance(operand, Value):
        return f"{operand.text}: {operand.type}"
    path, source = program.paths.get(operand.id), program.source_of(operand)
    if path:
        return f"{path}: {operand.type}"
    return str(operand.type) + (f"  ({source})" if source is not None else "")


def _before_rename(program: Program, operand: Operand) -> Operand:
    """What the user knows: the operand as it was before another occurrence of its axis was put in its place."""
    while isinstance(operand, Value):
        node = program.producer.get(operand.id)
        if node is None or not op_of(node).renames:
            break
        before = node.inputs[0]
        pairs = zip(before.type.dims, operand.type.dims, strict=True)
        if not all(a.name == b.name or (a.name and b.name and same_axis(a.name, b.name)) for a, b in pairs):
            break
        operand = before
    return operand


def _where(node: Node | None) -> tuple[str, ...]:
    """The user's line, its code where the file can be read, and carets under the expression."""
    if node is None or node.source is None:
        return ("(no source line)",)
    shown = _line(node, node.source)
    if node.source.within is not None:
        shown += (errors.within(node.source.within), *_line(node, node.source.within)[1:])
    return shown


def _line(node: Node, source: Source) -> tuple[str, ...]:
    line = linecache.getline(source.path, source.line).rstrip() if source.path else ""
    code = line.strip()
    if not code:
        return (str(source),)
    indent = len(line) - len(line.lstrip())
    origin = node.origin.source_info if node.origin is not None else None
    # Columns count bytes, as Python's own tracebacks do; text before the expression may have characters of several.
    found = columns(origin, source.path, source.line)
    encoded = line.encode()
    start, end = (len(encoded[:at].decode(errors="replace")) for at in found) if found else (indent, len(line))
    return str(source), f"  {code}", " " * (start - indent + 2) + "^" * max(1, end - start)
