"""The API pages are what the docstrings say; every public name has a place; the examples in them run."""

from __future__ import annotations

import doctest
import importlib
from functools import cache
from types import ModuleType, UnionType
from typing import TypeVar

import build_api
import jax
import jax.numpy as jnp
import numpy as np
import public_names
import pytest

import haliax as hax


@cache
def items() -> list[public_names.Item]:
    """All public names; found when first asked for, so that collecting the tests does not read all sources."""
    return public_names.every_item()


def members(item: public_names.Item) -> dict[str, str]:
    """The docstrings of a function or type, and of its methods and properties, each with its name."""
    docs = {}
    if callable(item.value) or isinstance(item.value, UnionType):
        docs[str(item.path)] = item.doc
    if not getattr(item.value, "_is_protocol", False):
        docs |= {f"{item.path}.{member.name}": member.doc for member in item.members()}
    return docs


@cache
def docstrings(module: str) -> dict[str, str]:
    """The docstrings of a module, and of all public functions, types, methods and properties in it."""
    found = {module: importlib.import_module(module).__doc__ or ""}
    for item in items():
        if item.module.__name__ == module:
            found |= members(item)
    return found


def test_the_pages_are_up_to_date(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        build_api.main([])
    assert build_api.main(["--check"]) == 0


def test_every_export_is_on_a_page() -> None:
    values = {id(item.value) for item in items()}
    missing = [
        f"{module.__name__}.{name}"
        for module in (hax, hax.nn, hax.partitioning)
        for name, value in public_names.exports(module).items()
        if not isinstance(value, ModuleType | TypeVar) and id(value) not in values
    ]
    assert missing == []


def test_every_module_has_its_place() -> None:
    """A new module goes to `SECTIONS` of public_names.py and, if nobody imports from it, to `HOMES` or `INTERNAL`."""
    placed = {f"haliax.{name}" for names in public_names.SECTIONS.values() for name in names}
    assert [item.path for item in items() if item.module.__name__ not in placed] == []


@pytest.mark.parametrize("module", public_names.module_names())
def test_every_docstring_opens_with_a_sentence(module: str) -> None:
    first = {name: doc.partition("\n\n")[0] for name, doc in docstrings(module).items()}
    assert {name: text for name, text in first.items() if len(text) < 10 or not text.endswith((".", "`", ":"))} == {}


@pytest.mark.parametrize("module", public_names.module_names())
def test_examples(module: str) -> None:
    report: list[str] = []
    for name, doc in docstrings(module).items():
        names = {"hax": hax, "jax": jax, "jnp": jnp, "np": np}
        test = doctest.DocTestParser().get_doctest(doc, names, name, None, 0)
        doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not report, "".join(report)


def test_the_examples_are_found() -> None:
    """Most sections show how their functions are used."""
    parser = doctest.DocTestParser()
    docs = [doc for module in public_names.module_names() for doc in docstrings(module).values()]
    assert sum(bool(parser.get_examples(doc)) for doc in docs) > 100
