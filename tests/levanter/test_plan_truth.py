"""A part of `benchmarks/plan_truth.py`: eight layers under three plans, against what is compiled for eight CPU devices
and, where libtpu is installed, for a TPU slice."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason='needs pip install "levanter-compiler[tpu]"'
)
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def plan_truth() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plan_truth", BENCHMARKS / "plan_truth.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plan_truth"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["fsdp", "tensor", "both"])
@pytest.mark.parametrize("where", ["cpu 8", pytest.param("v5e 4x2", marks=needs_libtpu)])
def test_bytes_are_equal_and_the_peak_is_within_a_tenth(plan_truth: ModuleType, plan: str, where: str) -> None:
    cell = plan_truth.measure("8 unrolled layers", plan, where)
    assert not cell["surprises"]
    assert plan_truth.agrees(cell)
    assert abs(plan_truth.ratio(cell) - 1) <= 0.1


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize(("model", "where"), [("gpt2_nano", "v5e 4x2"), ("wide", "v5e 4x2"), ("wide", "v5p 2x2x2")])
def test_what_is_scattered_is_written_so_that_it_is_sent_so(plan_truth: ModuleType, model: str, where: str) -> None:
    """The gradient of a tied table, which a scatter writes, and matrices whose rows come out uneven in pieces."""
    cell = plan_truth.measure(model, "both", where)
    assert plan_truth.agrees(cell) and not cell["surprises"]
