"""Axis mistakes planted into training steps of other libraries' modules are found.

`NOT_FOUND` lists what is known to be missed: it may only get shorter.
"""

import pytest

pytest.importorskip("diffrax")
pytest.importorskip("flax")
pytest.importorskip("haiku")
pytest.importorskip("numpyro")

from corpus.case import Step
from corpus.mutations import MUTATIONS
from typeguard import suppress_type_checks

import ir
import passes
from passes.checks.finding import Finding

NOT_FOUND = frozenset(("nnx softmax over the heads", "nnx mixer that does not swap back"))
"""Mutations that the checker does not find, by name."""

ENOUGH = 0.8

pytestmark = pytest.mark.foreign


def findings_of(step: Step) -> list[Finding]:
    with suppress_type_checks():
        return passes.axis_findings(ir.trace(step.function, *step.arguments, names=step.names))


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_found(name):
    with MUTATIONS[name].planted() as step:
        assert bool(findings_of(step)) == (name not in NOT_FOUND)


def test_nearly_all_are_found():
    assert set(MUTATIONS) >= NOT_FOUND
    assert len(MUTATIONS) >= 16
    assert len(NOT_FOUND) <= (1 - ENOUGH) * len(MUTATIONS)
