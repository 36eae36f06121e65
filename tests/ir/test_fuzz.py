"""Random programs: their text is stable, their graphs are well formed, no axis error is seen where there is none, and
lowering gives back the bits that JAX computes.

A few examples run each time, always the same ones; `pytest -m slow tests/ir/test_fuzz.py` runs many.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext

import jax
import numpy as np
import pytest
import random_programs as programs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from random_programs import arguments, step_of, training_step_of

import ir
import passes
from haliax.core.staging import staging
from passes import pipeline

MANY = int(os.environ.get("FUZZ_EXAMPLES", "200"))
NUMBERS = st.integers(0, 23)
PROGRAMS = st.lists(
    st.tuples(st.integers(0, len(programs.OPERATIONS) - 1), NUMBERS, NUMBERS, NUMBERS), min_size=2, max_size=9
)
ONE_DEVICE = passes.Plan.by_hand({"data": 1}, {})


def examples(count: int, shrinks: bool = False) -> Callable:
    """Always the same examples. A failure among the few is not made smaller, which takes longer than all of them."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink) if shrinks else (Phase.generate,),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    )


def check_text(graph: ir.Graph) -> None:
    """trace → print → parse → print is stable; what is read back is the same graph, and well formed."""
    text = str(graph)
    again = ir.parse(ir.verify(graph) and text)
    assert again == graph
    assert str(ir.verify(again)) == text
    assert not ir.changes(graph, again)


def check_findings(graph: ir.Graph) -> None:
    """Every program here means what it says; so does what is read back from its text."""
    errors = [str(each) for each in passes.axis_findings(graph) if each.severity == "error"]
    assert not errors, errors[0]


def check_lowering(step: Callable, graph: ir.Graph, *given: object) -> None:
    """Where something is renamed, JAX sums the cotangents of what is used under both names in the order in which the
    staged step uses them, so that is the step to compare with; marks compute nothing."""
    renames = any(node.kind == "rename" for node in graph.walk())
    with staging() if renames else nullcontext():
        expected = jax.jit(step)(*given)
    found = passes.lower(pipeline.prepare(graph), ONE_DEVICE)(*given)
    assert jax.tree.structure(expected) == jax.tree.structure(found)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32))


def check(program: list[programs.Instruction], lowers: bool) -> None:
    for step, values in ((step_of(program), arguments()), (training_step_of(program), (arguments(),))):
        graph = ir.trace(step, *values)
        check_text(graph)
        check_findings(graph)
        if lowers:
            check_lowering(step, graph, *values)


@pytest.mark.filterwarnings("ignore::passes.AxisWarning")
@given(PROGRAMS)
@examples(12)
def test_text_and_axes_of_random_programs(program):
    check(program, lowers=False)


@pytest.mark.filterwarnings("ignore::passes.AxisWarning")
@given(PROGRAMS)
@examples(4)
def test_lowering_of_random_programs(program):
    check(program, lowers=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::passes.AxisWarning")
@given(PROGRAMS)
@examples(MANY, shrinks=True)
def test_many_random_programs(program):
    check(program, lowers=True)


def test_each_operation_does_something():
    """On some of the arguments at least: a program of one instruction makes more than what it was given."""
    for number, operation in enumerate(programs.OPERATIONS):
        numbers = [(number, value, other, 1) for value in range(5) for other in range(3)]
        assert any(ir.trace(step_of([each]), *arguments()).nodes for each in numbers), operation.__name__
