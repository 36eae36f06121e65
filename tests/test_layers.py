"""Imports go one way, `haliax <- ir <- passes <- levanter`, those inside functions included.

Within `levanter`, only `levanter/compiler/` knows that there is a compiler. And no two modules need each other, not
even inside a function: an import that is put off until a call hides a circle, it does not remove it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("haliax", "ir", "passes", "levanter")
FILES = [path.relative_to(ROOT) for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
COMPILER_USER = Path("levanter/compiler")


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
    return below - {"ir", "passes"} if layer == "levanter" and COMPILER_USER not in file.parents else below


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


def run_time(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """All statements, those in functions included, without those for the type checker alone."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from run_time(node.orelse)
            continue
        yield node
        for part in ("body", "orelse", "finalbody"):
            yield from run_time(getattr(node, part, []))
        for part in (*getattr(node, "handlers", []), *getattr(node, "cases", [])):
            yield from run_time(part.body)


def circles(sources: dict[str, tuple[Path, ast.Module]]) -> list[list[str]]:
    """The modules that need each other, through any number of others, a list for each circle."""
    graph = nx.DiGraph()
    for module, (file, tree) in sources.items():
        for _, name in imports(file, run_time(tree.body)):
            target = name if name in sources else name.rpartition(".")[0]
            if target in sources and target != module:
                graph.add_edge(module, target)
    return [sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1]


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    found = circles({module_name(file): (file, parse(file)) for file in FILES})
    assert not found, found


def test_a_circle_through_functions_is_found() -> None:
    texts = {
        "p.a": "def f():\n    with x:\n        from p.b import g",
        "p.b": "try:\n    pass\nexcept E:\n    import p.c",
        "p.c": "match x:\n    case 1:\n        from p import a",
        "p.d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p import e\nelse:\n    import p.a",
        "p.e": "import p.d",
    }
    sources = {name: (Path(*name.split(".")).with_suffix(".py"), ast.parse(text)) for name, text in texts.items()}
    assert circles(sources) == [["p.a", "p.b", "p.c"]]


def test_what_a_scan_is_called_by_a_release_of_jax_is_read_in_one_place() -> None:
    """Its parameters have other names since JAX 0.12; what reads the old ones elsewhere takes no loop for one there."""
    names = re.compile(r'"(num_consts|num_carry|ft_in|ft_out)"')
    found = [file for file in FILES if names.search((ROOT / file).read_text(encoding="utf-8"))]
    assert found == [Path("ir/_compat.py")]


def test_modules_that_tests_share_have_names_of_their_own() -> None:
    """Each `conftest.py` puts its folder on the path, so of two modules of one name the first that is there is read."""
    shared = [path for path in sorted((ROOT / "tests").rglob("*.py")) if not path.name.startswith("test_")]
    names = Counter(path.name for path in shared if path.name not in ("conftest.py", "__init__.py"))
    assert [name for name, count in names.items() if count > 1] == []
