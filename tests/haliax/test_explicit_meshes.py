"""Meshes as `jax.make_mesh` makes them, with Explicit axes: the same numbers as on one device, and no JAX errors."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

import haliax as hax
from haliax.partitioning import named_jit

PROGRAM = Path(__file__).with_name("explicit_program.py")
Batch, Embed = hax.make_axes(batch=8, embed=16)


@pytest.mark.parametrize("what, count", [("model", 4), ("ops", 82)])
def test_the_same_numbers_as_on_one_device(what, count):
    # The numbers are compared up to rounding, so the programs are compiled in a hurry.
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags}
    environment["PYTHONPATH"] = str(PROGRAM.parents[2])
    done = subprocess.run(
        [sys.executable, str(PROGRAM), what], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("same:") == count


def test_layouts_under_a_mesh_with_explicit_axes():
    x = hax.ones((Batch, Embed))
    with hax.set_mesh(jax.make_mesh((4, 2), ("data", "model"))):
        mapping = {"batch": "data", "embed": "model"}
        assert named_jit(lambda x: x + 1, axis_resources=mapping)(x).array.sharding.spec == P("data", "model")
        assert jax.jit(lambda x: hax.shard(x, mapping))(x).array.sharding.spec == P("data", "model")
        with hax.axis_mapping({"batch": "data"}):
            assert jax.jit(lambda x: hax.auto_sharded(x * 2))(x).array.sharding.spec == P("data", None)
            assert hax.zeros((Batch, Embed)).array.sharding.spec == P("data", None)


def test_a_mesh_with_axes_of_both_kinds():
    types = (jax.sharding.AxisType.Explicit, jax.sharding.AxisType.Auto)
    with hax.set_mesh(jax.make_mesh((4, 2), ("data", "model"), axis_types=types)):
        x = jax.jit(lambda x: hax.shard(x, {"batch": "data", "embed": "model"}))(hax.ones((Batch, Embed)))
        assert x.array.addressable_shards[0].data.shape == (2, 8)


def test_errors_that_are_not_of_shardings_stay_as_they_are():
    with hax.set_mesh(jax.make_mesh((8,), ("data",))), pytest.raises(hax.AxisError, match="axis `embd` is not in"):
        hax.sort(hax.ones(Embed), "embd")
    x = hax.shard(hax.arange(Batch), {"batch": "data"}, jax.make_mesh((8,), ("data",)))
    with hax.set_mesh(jax.make_mesh((8,), ("data",))):  # depends on the numbers, so it cannot be traced
        assert x["batch", jnp.arange(8) > 5].tolist() == [6, 7]
