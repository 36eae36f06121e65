"""Axis mistakes in calls of the modules of Flax, Equinox, Haiku and Optax are found, and their twins are clean."""

from functools import cache

import pytest

pytest.importorskip("equinox")
pytest.importorskip("flax")
pytest.importorskip("haiku")

from corpus.library_pairs import PAIRS
from typeguard import suppress_type_checks

import ir
import passes
from passes.checks.finding import Finding

pytestmark = pytest.mark.foreign

every_pair = pytest.mark.parametrize("name", PAIRS)


@cache
def findings_of(name: str, wrong: bool) -> list[Finding]:
    built = PAIRS[name].build(wrong)
    with suppress_type_checks():
        return passes.axis_findings(ir.trace(built.function, *built.arguments, names=built.names))


@every_pair
def test_a_mistake_is_found(name):
    texts = [each.text for each in findings_of(name, True)]
    assert any(f"`{axis}" in text for text in texts for axis in PAIRS[name].mentions)


@every_pair
def test_the_right_twin_is_clean(name):
    assert [str(each) for each in findings_of(name, False)] == []
