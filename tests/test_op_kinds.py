"""What the library knows of an op kind stands in `ir/ops`, and nowhere else is a kind told by its name.

Forbidden outside `ir/ops`, the rules of staging and the text form, in `ir`, `passes` and the file of `levanter` that
uses them:

- to compare anything with a string that is the name of a kind, or with a list of such;
- to compare a `.kind` with anything but another `.kind` or the registry, to look it up in a table other than the
  registry, to call a method of it, or to match on it;
- a tuple, list or set with two names of kinds, and a dict with one among its keys;
- to ask of what class an op is.

To make a node of a kind, one has to say its name: a call with the name among its arguments is free.
"""

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ir.ops import OPS

ROOT = Path(__file__).resolve().parents[1]
FREE = ("ir/ops/", "ir/staging/primitives/", "ir/staging/control.py", "ir/text/")
FILES = [
    path
    for folder in ("ir", "passes")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not str(path.relative_to(ROOT)).startswith(FREE)
]
FILES.append(ROOT / "levanter" / "compiler" / "compile.py")
OTHER_KINDS = {
    "event.kind": "of memory",
    "p.kind": "of a parameter of a function",
    "parameter.kind": "of a parameter of a function",
}
"""Attributes that are called `kind` too, and are of something else than a node."""
_SUBCLASSES = {type(op).__name__ for op in OPS.values()} | {"Op"}


def is_kind(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "kind" and ast.unparse(node) not in OTHER_KINDS


def is_registry(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "OPS"


def names(node: ast.AST) -> int:
    """How many names of kinds an expression or a pattern spells out."""
    return sum(
        isinstance(each, ast.Constant) and each.value in OPS for each in ast.walk(node) if hasattr(each, "value")
    )


def found(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, code) of everything that is forbidden."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            others = [side for side in sides if not is_kind(side) and not is_registry(side)]
            if any(map(names, sides)) or (any(is_kind(part) for s in sides for part in ast.walk(s)) and others):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Match):
            cases = [case for case in node.cases if names(case.pattern)]
            if cases or any(map(is_kind, ast.walk(node.subject))):
                yield node.lineno, f"match {ast.unparse(node.subject)}"
        elif isinstance(node, ast.Subscript):
            if is_kind(node.slice) and not is_registry(node.value):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Dict):
            if any(names(key) for key in node.keys if key is not None):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            if sum(isinstance(each, ast.Constant) and each.value in OPS for each in node.elts) > 1:
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call):
            function = node.func
            on_kind = isinstance(function, ast.Attribute) and is_kind(function.value)
            looked_up = (
                isinstance(function, ast.Attribute)
                and function.attr in ("get", "pop", "setdefault", "__contains__")
                and any(map(is_kind, node.args))
                and not is_registry(function.value)
            )
            classes = ast.unparse(function) in ("isinstance", "issubclass") and any(
                isinstance(each, ast.Name) and each.id in _SUBCLASSES and each.id != "Constant"
                for each in ast.walk(node.args[1])
            )
            if on_kind or looked_up or classes:
                yield node.lineno, ast.unparse(node)


def test_no_kind_is_told_by_its_name():
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {code}"
        for path in FILES
        for line, code in found(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not wrong, "\n".join(wrong)


PLANTED = {
    "equal": 'if node.kind == "map": pass',
    "unequal, the other way round": 'if "map" != node.kind: pass',
    "one of several": 'if node.kind in ("map", "reduce"): pass',
    "of a variable": 'if kind == "all_reduce": pass',
    "with a name": "if node.kind == wanted: pass",
    "with a table": "if node.kind in _KINDS: pass",
    "of a pair": 'if (node.kind, node.fn) == ("sort", "sort"): pass',
    "a table": '_KINDS = {"map", "reduce"}',
    "a table to look up": "name = _NAMES[node.kind]",
    "a table to get from": "name = _NAMES.get(node.kind, 0)",
    "a table by kinds": '_NAMES = {"map": 1}',
    "a match": """
        match node.kind:
            case _: pass
        """,
    "a match of a variable": """
        match kind:
            case "map": pass
        """,
    "a method": 'if node.kind.startswith("all_"): pass',
    "a class": "if isinstance(op, Map): pass",
}


@pytest.mark.parametrize("code", PLANTED.values(), ids=PLANTED)
def test_a_planted_comparison_is_found(code):
    assert list(found(ast.parse(textwrap.dedent(code))))


@pytest.mark.parametrize(
    "code",
    [
        'Node("all_reduce", "", (), ())',
        "OPS[node.kind].fusible",
        "node.kind in OPS",
        "old.kind == new.kind",
        "key = (node.kind, node.fn)",
        'node.fn == "add"',
    ],
)
def test_what_is_allowed(code):
    assert not list(found(ast.parse(code)))


def test_a_kind_is_a_file_of_its_name():
    for kind, op in OPS.items():
        assert type(op).__module__ == f"ir.ops.{kind}"
        assert op.kind == kind
