"""The configuration with its meaning: YAML that `--config` reads, every field under a comment that explains it.

The words are the docstrings of the fields, so they stand once, beside the field.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

import draccus
import yaml

from levanter.config import kinds
from levanter.fields import may_be_null, range_of, words_of

_WIDTH = 116


def explain(config: Any) -> str:
    """The config as YAML with comments: of each section and field its meaning, what it can be, and its default."""
    return "\n".join(_section(config, type(config), 0)) + "\n"


@cache
def field_docs(cls: type) -> dict[str, str]:
    """The docstring of each field of a dataclass, those of its bases included, as one line.

    A field's docstring is the string that stands below it in the source.
    """
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        body = _body(base)
        for field, below in zip(body, body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                docs[field.target.id] = " ".join(below.value.value.split())
    return docs


def _body(cls: type) -> list[ast.stmt]:
    """The statements of a class; none where a call made it (`make_dataclass`) and it stands nowhere."""
    try:
        written = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except OSError:
        return []
    return written.body if isinstance(written, ast.ClassDef) else []


def _section(config: Any, kind: type, depth: int) -> Iterator[str]:
    """The lines of a config; `kind` is what its field is declared as, which may be a choice of kinds."""
    cls = type(config)
    if kinds.is_choice(kind):
        known = ", ".join(sorted(kinds.choices(kind)))
        yield from _comment(f"Which kind: one of {known}, or MODULE:CLASS or FILE.py:CLASS of one's own.", depth)
        yield _indented(_leaf("type", draccus.encode(config, kind)["type"]), depth)
    members, defaults = kinds.members(cls), kinds.defaults(cls)
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        value, inner = getattr(config, field.name), kinds.section(members[field.name])
        yield ""
        if inner is None or value is None:
            yield from _comment(field_docs(cls).get(field.name, ""), depth)
            default = f" Default: {_scalar(defaults[field.name])}." if field.name in defaults else ""
            yield from _comment(_allowed(field, members[field.name]) + default, depth)
            yield _indented(_leaf(field.name, draccus.encode(value)), depth)
            name = inner.default_choice_name() if inner is not None and kinds.is_choice(inner) else None  # type: ignore[attr-defined]
            if inner is not None and name is not None:
                # What it could be, as a comment: a section that is left out has fields all the same.
                section = [f"{field.name}:", *_section(kinds.choices(inner)[name](), inner, 1)]
                lines = "\n".join(section).splitlines()
                yield from (_indented(f"# {line}".rstrip(), depth) for line in lines)
        else:
            yield from _comment(field_docs(cls).get(field.name) or inspect.getdoc(type(value)) or "", depth)
            yield _indented(f"{field.name}:", depth)
            yield from _section(value, inner, depth + 1)


def _allowed(field: dataclasses.Field[Any], kind: Any) -> str:
    """What a field can be, as a sentence."""
    null = ", or null" if may_be_null(field) else ""
    if known := words_of(field):
        return f"One of {', '.join(known)}{null}."
    if allowed := range_of(field):
        return f"{'A whole number' if int in kinds.alternatives(kind) else 'A number'}, {allowed}{null}."
    words = kinds.in_words(kind)
    return f"{words[0].upper()}{words[1:]}."


def _comment(text: str, depth: int) -> Iterator[str]:
    margin = "  " * depth + "# "
    paragraph = " ".join(text.split())
    yield from textwrap.wrap(paragraph, _WIDTH, initial_indent=margin, subsequent_indent=margin, break_long_words=False)


def _leaf(name: str, value: Any) -> str:
    return yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True).rstrip("\n")


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(draccus.encode(value), allow_unicode=True, default_flow_style=True)
    return text.removesuffix("...\n").strip()


def _indented(text: str, depth: int) -> str:
    return textwrap.indent(text, "  " * depth)
