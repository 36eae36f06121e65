"""How long planning takes: staging, checking, searching. Run: pytest benchmarks/test_plan.py

One machine's seconds say little, so each case also reports the search as a ratio to tracing the same step with JAX
alone (`trace_ratio` in the extra info), measured in the same run.
"""

from time import perf_counter

import jax
import pytest

import ir
import passes
from levanter.config import load
from levanter.runtime.state import batch_shape, state_shape, train_step_of

CASES = [
    ("gpt2_nano", {"data": 4, "model": 2}),
    ("gpt2_nano", {"replica": 2, "data": 2, "model": 2}),
    ("gpt2_small", {"data": 16, "model": 16}),
    ("gpt2_xl", {"data": 16, "model": 16}),
    ("gpt2_xl", {"replica": 2, "data": 16, "model": 16}),
]


@pytest.mark.parametrize(
    ("model", "mesh"), CASES, ids=lambda case: case if isinstance(case, str) else "x".join(map(str, case.values()))
)
def test_plan(benchmark, model, mesh):
    config = load(model)
    step, arguments = train_step_of(config), (state_shape(config), batch_shape(config))
    graph = ir.trace(step, *arguments)
    started = perf_counter()
    jax.make_jaxpr(train_step_of(config))(*arguments)
    staging = perf_counter() - started
    plan = benchmark.pedantic(passes.plan, args=(graph, mesh), rounds=3, warmup_rounds=1)
    assert plan.search.optimal
    benchmark.extra_info["plans"] = plan.search.plans
    benchmark.extra_info["trace_ratio"] = round(benchmark.stats.stats.median / staging, 2)
