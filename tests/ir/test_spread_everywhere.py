"""Rules of ops for layouts on everything that JAX has: a function of the coverage tables and its gradient, placed under
plans of any two of its axes, proves; and what proves computes on simulated devices what one device computes."""

import itertools
import random

import pytest
import random_programs
import simulated_devices
from coverage_rows import FAMILIES, rows
from typeguard import suppress_type_checks

import ir
import passes
from passes import Plan, pipeline
from passes.runner import must_be_whole

MESH = {"data": 2, "model": 2}


def plans(graph):
    """Each axis on both mesh axes, and each two on one each."""
    names = list(graph.axis_sizes())
    yield from ({name: ("data", "model")} for name in names)
    yield from ({a: ("data",), b: ("model",)} for a, b in itertools.permutations(names[:4], 2))


def graphs(family):
    """(what, graph) of the functions of a family and their gradients, as far as JAX can trace them alone."""
    for row in rows(family):
        for what, function in ((row.expression, row), (f"the gradient of {row.expression}", row.gradient)):
            if function is not row and not row.differentiable:
                continue
            try:
                yield what, pipeline.prepare(ir.trace(function, *row.types))
            except (TypeError, ValueError, NotImplementedError):
                continue  # what only a whole table can trace


def proved(graph, rules):
    """The graph on the mesh. The proof is the last pass: `NotProved` fails the test."""
    placed = pipeline.place(graph, Plan.by_hand(MESH, rules))
    passes.prove(ir.parse(str(placed)), ir.parse(str(graph)), MESH)  # and so does its text
    return placed


@pytest.mark.filterwarnings("ignore::passes.PlanWarning", "ignore::passes.AxisWarning")
@pytest.mark.parametrize(
    ("family", "most"),
    [("indexing", 1), *(pytest.param(family, None, marks=pytest.mark.slow) for family in FAMILIES)],
)
def test_every_function_proves_under_every_plan(family, most):
    count = 0
    with suppress_type_checks():
        for _, graph in graphs(family):
            for rules in itertools.islice(plans(graph), most):
                proved(graph, rules)
                count += 1
    assert count > 40


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::passes.PlanWarning", "ignore::passes.AxisWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_what_proves_computes_the_same(family):
    choice, count = random.Random(0), 0
    with suppress_type_checks():
        for what, graph in graphs(family):
            candidates = [rules for rules in plans(graph) if len(rules) == 2]
            if must_be_whole(graph) is not None or not candidates:
                continue
            rules = choice.choice(candidates)
            arrays = simulated_devices.inputs(graph)
            program = proved(graph, rules)
            try:
                alone = simulated_devices.run(graph, {}, arrays)
                spread = simulated_devices.run(program, MESH, arrays)
            except (NotImplementedError, TypeError, ValueError, AssertionError):
                continue  # what `jax.vmap` has no rule for; for permutes over two mesh axes it asserts one
            assert simulated_devices.same(alone, spread), (what, rules)
            count += 1
    assert count > 0


def _random_step(seed):
    choice = random.Random(seed)
    program = [tuple(choice.randrange(1 << 16) for _ in range(4)) for _ in range(choice.randrange(3, 12))]
    return random_programs.training_step_of(program)


@pytest.mark.filterwarnings("ignore::passes.PlanWarning", "ignore::passes.AxisWarning")
@pytest.mark.parametrize(
    "seeds", [range(5), *(pytest.param(range(i, i + 20), marks=pytest.mark.slow) for i in range(5, 305, 20))]
)
def test_random_programs_prove_and_what_they_compute_is_the_same(seeds):
    with suppress_type_checks():
        for seed in seeds:
            graph = pipeline.prepare(ir.trace(_random_step(seed), random_programs.arguments()))
            candidates = list(plans(graph))
            placed = proved(graph, random.Random(seed).choice(candidates))
            if seed % 10 == 0:
                arrays = simulated_devices.inputs(graph)
                alone = simulated_devices.run(graph, {}, arrays)
                try:
                    spread = simulated_devices.run(placed, MESH, arrays)
                except AssertionError:
                    continue  # `jax.vmap` asserts a rule for gathers over two mesh axes, which it has not
                assert simulated_devices.same(alone, spread), seed
