"""Imports go one way, `haliax <- ir <- passes <- levanter`, those inside functions included.

Within `levanter`, only `compile.py`, `report` and `verify` know that there is a compiler. And no module imports, while
it is being imported itself, a module that is waiting for it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("haliax", "ir", "passes", "levanter")
FILES = [path.relative_to(ROOT) for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
COMPILER_USERS = {file for file in FILES if file.parts[1] in ("compile.py", "report", "verify")}


def module_name(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path, nodes: Iterator[ast.AST]) -> Iterator[tuple[int, str]]:
    """The line and the full name of everything that the nodes import, relative imports resolved."""
    package = module_name(file).split(".")[: None if file.name == "__init__.py" else -1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def parse(file: Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), str(file))


def allowed(file: Path) -> set[str]:
    layer = file.parts[0]
    below = set(LAYERS[: LAYERS.index(layer) + 1])
    return below - {"ir", "passes"} if layer == "levanter" and file not in COMPILER_USERS else below


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_one_way(layer: str) -> None:
    wrong = [
        f"{file}:{line} imports {name}"
        for file in FILES
        if file.parts[0] == layer
        for line, name in imports(file, ast.walk(parse(file)))
        if name.split(".")[0] in set(LAYERS) - allowed(file)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_layer_is_there() -> None:
    assert {file.parts[0] for file in FILES} == set(LAYERS)


def top_level(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """The statements that run on import: not those in functions, nor those for the type checker alone."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from top_level([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            yield from top_level([*node.body, *node.orelse, *node.finalbody])


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    modules = {module_name(file) for file in FILES}
    graph = nx.DiGraph()
    for file in FILES:
        for _, name in imports(file, top_level(parse(file).body)):
            target = name if name in modules else name.rpartition(".")[0]
            if target in modules and target != module_name(file):
                graph.add_edge(module_name(file), target)
    circles = [sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1]
    assert not circles, circles
