"""The program of one device: any program under any plan gives what one device gives, with the printed collectives."""

from __future__ import annotations

import pytest
import random_plans
from typeguard import suppress_type_checks

QUICK, ALL = 16, 320


@pytest.mark.parametrize(
    "seed", [*range(QUICK), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(QUICK, ALL))]
)
def test_a_random_program_under_a_random_plan(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with suppress_type_checks():
        step, arguments = random_plans.program(seed, random_plans.long_axes(monkeypatch))
        assert random_plans.differences(step, arguments, random_plans.plan(seed)) == []
