"""The classic axis mistakes are found, where they are and with the names; their twins are clean.

`NOT_FOUND` lists what is known to be missed: it may only get shorter.
"""

from functools import cache

import jax
import pytest
from mistakes import FAMILIES  # noqa: F401  (fills PAIRS)
from mistakes.pair import PAIRS, Pair

import ir
import passes
from passes.checks.finding import Finding

NOT_FOUND = frozenset(("negatives of other queries",))
"""Mistakes that the checker does not find, by name."""

ENOUGH = 0.9
BY_NAME = {pair.name: pair for pair in PAIRS}

every_pair = pytest.mark.parametrize("name", BY_NAME)
in_both_forms = pytest.mark.parametrize("form", ["forward", "trained"])


@cache
def findings_of(name: str, wrong: bool, form: str = "forward") -> list[Finding]:
    pair = BY_NAME[name]
    step = pair.trained(wrong) if form == "trained" else pair.step(wrong)
    jax.eval_shape(step, *pair.shapes)  # JAX itself has nothing against it
    return passes.axis_findings(ir.trace(step, *pair.shapes, names=pair.names))


def is_found(pair: Pair, findings: list[Finding]) -> bool:
    """Whether a finding stands where the mistake is and mentions its names."""
    return any(
        each.source is not None
        and each.source.line in pair.lines
        and all(f"`{name}" in each.text or f"{name}=" in each.text for name in pair.mentions)
        for each in findings
    )


@in_both_forms
@every_pair
def test_a_mistake_is_found(name, form):
    assert is_found(BY_NAME[name], findings_of(name, True, form)) == (name not in NOT_FOUND)


@in_both_forms
@every_pair
def test_the_right_twin_is_clean(name, form):
    assert [str(each) for each in findings_of(name, False, form)] == []


def test_nearly_all_are_found():
    assert set(BY_NAME) >= NOT_FOUND
    assert len(BY_NAME) >= 45
    assert len(NOT_FOUND) <= (1 - ENOUGH) * len(BY_NAME)
