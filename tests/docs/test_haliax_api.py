"""The API page is what the docstrings say; every public name has one; the examples in them run."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator
from types import ModuleType, UnionType
from typing import Any, TypeVar

import build_api
import jax
import jax.numpy as jnp
import numpy as np
import public_names
import pytest

import haliax as hax

ITEMS = public_names.every_item()


def docstrings() -> Iterator[tuple[str, str]]:
    """The docstrings of all public functions, types, methods and properties, each with its name."""
    for item in ITEMS:
        if callable(item.value) or isinstance(item.value, UnionType):
            yield item.path, item.doc
        yield from (
            (f"{item.path}.{member.name}", member.doc) for member in item.members() if not is_protocol(item.value)
        )


def is_protocol(value: Any) -> bool:
    return getattr(value, "_is_protocol", False)


DOCS = dict(docstrings())
MODULES = {name: importlib.import_module(name).__doc__ or "" for name in public_names.module_names()}
EXAMPLES = {name: doc for name, doc in (DOCS | MODULES).items() if ">>>" in doc}


def test_the_page_is_up_to_date(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        build_api.main([])
    assert build_api.main(["--check"]) == 0


def test_every_export_is_on_the_page() -> None:
    values = {id(item.value) for item in ITEMS}
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
    assert [item.path for item in ITEMS if item.module.__name__ not in placed] == []


def test_every_docstring_opens_with_a_sentence() -> None:
    first = {name: doc.partition("\n\n")[0] for name, doc in (DOCS | MODULES).items()}
    assert {name: text for name, text in first.items() if len(text) < 10 or not text.endswith((".", "`", ":"))} == {}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str) -> None:
    names = {"hax": hax, "jax": jax, "jnp": jnp, "np": np}
    test = doctest.DocTestParser().get_doctest(EXAMPLES[name], names, name, None, 0)
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not report, "".join(report)
