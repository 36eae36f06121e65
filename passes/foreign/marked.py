"""A text as plain data in which every part knows its line: YAML, JSON, or the literals of a Python file."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from passes.foreign import errors
from passes.yaml_text import composed


@dataclass(frozen=True)
class Marked:
    """A part of a text: a dictionary of such parts, a list of them, or a word; null is an empty tuple of words."""

    value: dict[str, Marked] | list[Marked] | str | None
    line: int

    def entries(self) -> Mapping[str, Marked]:
        """The parts of a dictionary; none of anything else."""
        return self.value if isinstance(self.value, dict) else {}

    def items(self) -> list[Marked]:
        """The parts of a list; none of anything else."""
        return self.value if isinstance(self.value, list) else []

    def words(self) -> tuple[str, ...] | None:
        """A word, a list of words, or null as words; None where it is something else."""
        if self.value is None:
            return ()
        if isinstance(self.value, str):
            return tuple(part.strip() for part in self.value.split(",") if part.strip())
        if isinstance(self.value, list) and all(isinstance(each.value, str) for each in self.value):
            return tuple(str(each.value) for each in self.value)
        return None


def read(text: str, source: str) -> Marked:
    """The text of a file whose name tells what it is: Python where it ends in .py, otherwise YAML or JSON.

    Raises:
        PlanError: it cannot be parsed. The message has the file and the line.
    """
    return _python(text, source) if source.endswith(".py") else _of_yaml(text, source)


def _of_yaml(text: str, source: str) -> Marked:
    root = composed(text, partial(errors.unparsable, source))
    if root is None:
        raise errors.no_rules(source)
    return _node(root)


def _node(node: Any) -> Marked:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return Marked({str(key.value): _node(value) for key, value in node.value}, line)
    if isinstance(node, yaml.SequenceNode):
        return Marked([_node(each) for each in node.value], line)
    return Marked(None if node.tag == "tag:yaml.org,2002:null" else str(node.value), line)


def _python(text: str, source: str) -> Marked:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise errors.unparsable(source, error.lineno or 1, error.msg) from None
    found: dict[str, Marked] = {}
    for name, value in _assigned(tree):
        literal = _literal(value)
        if literal is not None:
            found[name] = literal
    if found:
        return Marked(found, 1)
    bare = [node.value for node in tree.body if isinstance(node, ast.Expr)]
    literal = _literal(bare[0]) if len(bare) == 1 else None
    if literal is None:
        raise errors.no_rules(source)
    return literal


def _assigned(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """(name, value) of all assignments, those in classes and functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


_SPECS = ("P", "PS", "PartitionSpec", "PSpec")


def _literal(node: ast.expr) -> Marked | None:
    """A literal as data; None where it is more than that."""
    if isinstance(node, ast.Constant):
        return Marked(None if node.value is None else str(node.value), node.lineno)
    if isinstance(node, ast.Dict):
        pairs = [
            (_literal(key) if key else None, _literal(value)) for key, value in zip(node.keys, node.values, strict=True)
        ]
        if any(key is None or value is None for key, value in pairs):
            return None
        return Marked({str(key.value): value for key, value in pairs if key and value}, node.lineno)
    if isinstance(node, ast.List | ast.Tuple):
        return _listed(node.elts, node.lineno)
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in _SPECS and not node.keywords:
            return _listed(node.args, node.lineno)
        if called == "dict" and not node.args:
            values = {each.arg: _literal(each.value) for each in node.keywords}
            if all(name and value for name, value in values.items()):
                return Marked({str(name): value for name, value in values.items() if value}, node.lineno)
    return None


def _listed(nodes: list[ast.expr], line: int) -> Marked | None:
    parts = [_literal(each) for each in nodes]
    return None if any(each is None for each in parts) else Marked([each for each in parts if each], line)
