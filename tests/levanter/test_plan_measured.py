"""What `benchmarks/plan_measured.py` counts of a compiled program."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PROGRAM = """HloModule step, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(f32[] %a, f32[] %b)
}

ENTRY %main (weight: f32[64,128], bias: f32[128], loss: f32[256]) -> (f32[64,128], f32[128], f32[256]) {
  %weight = f32[64,128]{1,0} parameter(0)
  %bias = f32[128]{0} parameter(1)
  %loss = f32[256]{0} parameter(2)
  %both = (f32[64,128]{1,0}, f32[128]{0}) all-reduce(%weight, %bias), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  %first = f32[64,128]{1,0} get-tuple-element(%both), index=0
  %second = f32[128]{0} get-tuple-element(%both), index=1
  %alone = f32[256]{0} all-reduce(%loss), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  ROOT %all = (f32[64,128]{1,0}, f32[128]{0}, f32[256]{0}) tuple(%first, %second, %alone)
}
"""


def test_arrays_that_are_sent_together_are_one_collective(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts once."""
    for name in ("JAX_PLATFORMS", "LIBTPU_INIT_ARGS"):  # the benchmark sets them for its own process
        monkeypatch.setenv(name, "cpu" if name == "JAX_PLATFORMS" else "")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    measured = importlib.import_module("plan_measured")
    found = measured.sent(PROGRAM, {"data": 8}, ())
    assert found == [
        ["all_reduce", "data", 64 * 128 * 4 + 128 * 4, 0, 1],
        ["all_reduce", "data", 256 * 4, 0, 1],
    ]
