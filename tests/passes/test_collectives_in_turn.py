"""Steps with many collectives that update their state in place, again and again on CPU devices: none meets another out
of turn. What goes wrong there ends the process or gives numbers that differ from run to run, so each is one of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
RUN = """
import json

import jax
import jax.numpy as jnp

import ir
import passes
from levanter.config import load
from levanter.runtime.state import batch_shape, state_shape, train_step_of


def filled(shape):
    dtype = jnp.dtype(shape.dtype)
    return jnp.full(shape.shape, 0.01, dtype) if jnp.issubdtype(dtype, jnp.floating) else jnp.ones(shape.shape, dtype)


config = load("gpt2_nano", [])
shapes = state_shape(config), batch_shape(config)
plan = passes.Plan.by_hand({"data": 2}, {"batch": ["data"]}, {"embed": ["data"]})
step = passes.lower(ir.trace(train_step_of(config), *shapes), plan, donate=True)
state, batch = jax.tree.map(filled, shapes)
found = []
for _ in range(8):
    state, metrics = step(state, batch)
    found.append(metrics)
print(json.dumps([float(jax.tree.leaves(each)[0]) for each in found]))
"""


@pytest.mark.slow
def test_stored_parameters_are_gathered_in_turn() -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_cpu_collective_call_terminate_timeout_seconds=20",
    }
    losses: set[tuple[float, ...]] = set()
    for _ in range(4):
        done = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        losses.add(tuple(json.loads(done.stdout.splitlines()[-1])))
    assert len(losses) == 1
