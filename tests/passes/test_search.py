"""The search against every plan: random programs, in several orders, with names held back, and with little memory."""

from __future__ import annotations

import importlib
import itertools
import random
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from random_plans import prepared_program
from typeguard import suppress_type_checks

from passes.hardware.chip import CHIPS, Chip
from passes.planner import branch, branch_and_bound
from passes.planner.candidate import DISTINCT
from passes.planner.cost import step_seconds
from passes.planner.leanest import TOLD
from passes.planner.orders import in_each_order, orders
from passes.planner.problem import Problem
from passes.planner.search import search
from passes.sharding.mesh import DeviceMesh
from passes.sharding.rules import ShardingRules

MESHES = (
    {"data": 4},
    {"data": 2, "model": 2},
    {"data": 4, "model": 2},
    {"a": 2, "b": 4, "c": 1},
    {"a": 2, "b": 2, "c": 2},
)
MOST = 20_000
"""Plans that are tried."""
FEW = 1_000
"""Those of a space that has more."""


def every_price(problem, space):
    """Seconds and peaks of every plan of a space, all at once and through no table."""
    every = product(*space.options.values())
    own = [masks for masks in every if space.has(dict(zip(space.options, map(int, masks), strict=True)))]
    choices = list(product(space.storage_choices, own))
    compute = {name: np.array([masks[i] for _, masks in choices]) for i, name in enumerate(space.options)}
    stored = dict.fromkeys(name for each in space.storage_choices for name in each.names)
    extra = {name: np.array([each.extra.get(name, 0) for each, _ in choices]) for name in stored}
    rules = ShardingRules(space.mesh, space.order, compute, extra, space.order_where)
    total = [0.0, 0.0, 0.0]
    for term in problem.terms:
        cost = term.price(rules)
        total = [a + term.times * b for a, b in zip(total, (cost.compute, cost.activations, cost.hidden), strict=True)]
    chip = problem.network.chip
    seconds = step_seconds(*total, chip.overlap)
    peak, _ = problem.memory.peak(rules, chip.memory)
    return np.broadcast_to(seconds, len(choices)), np.broadcast_to(peak, len(choices))


def held_back(options, rng):
    """All of the mesh axes of a name, those without some, those with one, or only one choice: what pins, forbidden axes
    and other orders leave."""
    bit = 1 << rng.randrange(3)
    left = [options, options[(options & bit) == 0], options[(options & bit) != 0], rng.sample(list(options), 1)]
    chosen = np.array(rng.choice([options, *left]), np.int64)
    return chosen if len(chosen) else options


def few_enough(space, others, rng):
    """A space in each order; of one that is too large, one name after another has two choices left, and then one."""
    most = MOST
    for left, name in product((2, 1), rng.sample(list(space.options), len(space.options))):
        if sum(each.plans for each in in_each_order([space], others)) <= most:
            break
        most = FEW
        kept = rng.sample(list(space.options[name]), min(left, len(space.options[name])))
        space = replace(space, options={**space.options, name: np.array(kept, np.int64)})
    return in_each_order([space], others)


def check(problem: Problem, spaces, chip: Chip) -> None:
    """The best, the next price, the leanest where nothing fits, and nothing where a better plan is known."""
    both = [every_price(problem, space) for space in spaces]
    seconds, peaks = (np.concatenate([each[i] for each in both]) for i in (0, 1))
    at_best = int(peaks[np.argmin(seconds)])
    for capacity in (chip.capacity, at_best - 1, int(np.median(peaks)), int(peaks.min()), int(peaks.min()) - 1):
        small = replace(chip, capacity=capacity)
        found = search(spaces, problem.terms, problem.memory, small)
        fitting = np.sort(seconds[peaks <= capacity])
        if not len(fitting):
            assert not found.best and found.leanest is not None
            assert peaks.min() <= found.leanest.peak <= peaks.min() * (1 + TOLD) + chip.memory.most_spared + 1
            continue
        best, rest = fitting[0], fitting[fitting > fitting[0] * (1 + DISTINCT)]
        assert found.best[0].seconds == pytest.approx(best, rel=1.01 * DISTINCT)
        assert [each.seconds for each in found.best[1:]] == pytest.approx(list(rest[:1]), rel=1e-9)
        assert all(each.peak <= capacity for each in found.best)
        assert found.bound == found.best[0].seconds
        given = (spaces, problem.terms, problem.memory, small, None)
        assert search(*given, best * (1 - 1e-9)).best == []
        if len(found.best) == 2:
            assert search(*given, found.best[1].seconds).best == found.best[:1]


def seeds(fast, slow):
    return pytest.mark.parametrize(
        "seed", [pytest.param(seed, marks=[pytest.mark.slow] * (seed >= fast)) for seed in range(slow)]
    )


@seeds(6, 80)
def test_random_programs(seed, monkeypatch):
    check_a_program(seed, monkeypatch)


@seeds(2, 40)
def test_tables_that_wait_until_more_is_decided(seed, monkeypatch):
    """As on many mesh axes: most tables are too large to be taken in at first."""
    monkeypatch.setattr(branch, "MOST_ENTRIES", 8)
    monkeypatch.setattr(branch, "_MOST_SETS", 4)
    monkeypatch.setattr(branch_and_bound, "_DENSE", 16)
    monkeypatch.setattr(branch_and_bound, "_MORE", 1 << 20)
    check_a_program(seed, monkeypatch)


def check_a_program(seed, monkeypatch):
    rng = random.Random(seed)
    graph = prepared_program(seed, monkeypatch)
    chip = CHIPS[rng.choice(["v5e", "v5p", "h100"])]
    with suppress_type_checks():
        problem = Problem.of(graph, DeviceMesh.of(rng.choice(MESHES)), chip, regather=rng.random() < 0.3)
        options = {name: held_back(each, rng) for name, each in problem.space.options.items()}
        space = problem.space if rng.random() < 0.5 else replace(problem.space, options=options)
        check(problem, few_enough(space, orders(graph, problem.roles, problem.space)[1:], rng), chip)


@pytest.mark.parametrize("seed", [2, 15, 40])
def test_a_search_that_ends_at_any_moment_is_right_about_what_it_left(seed, monkeypatch):
    """A second passes whenever the clock is read."""
    graph = prepared_program(seed, monkeypatch)
    problem = Problem.of(graph, DeviceMesh.of({"a": 2, "b": 2, "c": 2}), CHIPS["v5e"])
    spaces = in_each_order([problem.space], orders(graph, problem.roles, problem.space)[1:])
    given = (spaces, problem.terms, problem.memory, CHIPS["v5e"])
    with suppress_type_checks():
        best = search(*given).best[0].seconds
        monkeypatch.setattr(importlib.import_module("passes.planner.search"), "process_time", lambda: 0.0)
        bounds = []
        for seconds in (0.5, 1.5, 3.5, 8.5, 20.5, 50.5, 1e9):
            clock = itertools.count(1)
            module = importlib.import_module("passes.planner.branch_and_bound")
            monkeypatch.setattr(module, "process_time", lambda clock=clock: float(next(clock)))
            found = search(*given, seconds)
            assert found.bound <= best * (1 + DISTINCT) <= found.best[0].seconds * (1 + 2 * DISTINCT)
            bounds.append(found.bound / best)
    assert bounds[0] < 1 - DISTINCT and bounds[-1] >= 1 - DISTINCT
