"""Training steps of other libraries' modules, with names on their arguments only.

Each is traced, named, printed, checked, lowered and laid out. A few small ones run by default; all the rest is
`pytest -m foreign`. A library that is not installed has no steps here: `pip install -e ".[foreign]"`.
"""

from functools import cache
from typing import Any

import jax
import numpy as np
import pytest
from corpus.case import DISTINCT, EQUAL, Step, leaves
from corpus.registry import CASES
from program_text import program_text
from typeguard import suppress_type_checks

import ir
import passes
from ir.graph import Graph
from ir.names import is_made
from passes import Plan

ONE_DEVICE = Plan.by_hand({"data": 1}, {})
SIZES = {"distinct": DISTINCT, "equal": EQUAL}
STEPS = [pytest.param(name, marks=() if case.small else pytest.mark.foreign) for name, case in CASES.items()]

COMPILED_BY_DEFAULT = "equinox GRU"
"""The small step that is compiled in the default suite too, which for most takes longer than all else."""

every_step = pytest.mark.parametrize("name", STEPS)
every_compiled_step = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == COMPILED_BY_DEFAULT else pytest.mark.foreign) for name in CASES]
)


@cache
def step_of(name: str, sizes: str = "distinct") -> Step:
    return CASES[name].build(SIZES[sizes])


@cache
def graph_of(name: str, sizes: str = "distinct") -> Graph:
    step = step_of(name, sizes)
    with suppress_type_checks():
        return ir.verify(passes.canonicalize(ir.trace(step.function, *step.arguments, names=step.names)))


@cache
def arguments_of(name: str) -> Any:
    return jax.jit(step_of(name).initial)()


@cache
def results_of(name: str) -> list[np.ndarray]:
    """Every array that a step of `jax.jit` leaves."""
    return leaves(jax.jit(step_of(name).function)(*arguments_of(name)))


def lowered_results(name: str, plan: Plan) -> list[np.ndarray]:
    with suppress_type_checks():
        return leaves(passes.lower(graph_of(name), plan)(*arguments_of(name)))


@every_step
def test_nearly_every_dim_has_a_name(name):
    dims = [dim for value in graph_of(name).values() for dim in value.type.dims if dim.size > 1]
    assert sum(dim.name is not None for dim in dims) >= CASES[name].named * len(dims)


@every_step
def test_few_names_are_made_up(name):
    """A dim of an argument, or one made of it, that loses its name does not come back as an axis of the step's own."""
    dims = [dim for value in graph_of(name).values() for dim in value.type.dims if dim.size > 1]
    assert sum(dim.name is not None and is_made(dim.name) for dim in dims) <= CASES[name].made * len(dims)


@every_step
@pytest.mark.parametrize("sizes", SIZES)
def test_there_is_no_false_alarm(name, sizes):
    with suppress_type_checks():
        assert [str(each) for each in passes.axis_findings(graph_of(name, sizes))] == []


@every_step
def test_the_text_comes_back(name):
    with suppress_type_checks():
        assert ir.parse(str(graph_of(name))) == graph_of(name)


@every_step
def test_on_one_device_it_is_the_program_that_jit_compiles(name):
    step = step_of(name)
    with suppress_type_checks():
        lowered = passes.lower(graph_of(name), ONE_DEVICE)
    assert program_text(lowered, *step.arguments) == program_text(jax.jit(step.function), *step.arguments)


@every_compiled_step
def test_on_one_device_it_is_the_step_bit_for_bit(name):
    ours = lowered_results(name, ONE_DEVICE)
    different = [
        (i, mine.shape, float(np.abs(mine - plain).max()))
        for i, (mine, plain) in enumerate(zip(ours, results_of(name), strict=True))
        if (mine.dtype, mine.tobytes()) != (plain.dtype, plain.tobytes())
    ]
    assert different == []
    assert all(np.isfinite(plain).all() for plain in results_of(name))


@every_compiled_step
def test_on_eight_devices_it_computes_the_same(name):
    with suppress_type_checks():
        plan = passes.plan(graph_of(name), {"data": 4, "model": 2})
    assert plan.search.optimal
    for mine, plain in zip(lowered_results(name, plan), results_of(name), strict=True):
        scale = max(1e-3, float(np.abs(plain).max(initial=0)))
        np.testing.assert_allclose(mine, plain, rtol=0, atol=CASES[name].tolerance * scale)
