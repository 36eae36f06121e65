"""Layouts by name on eight CPU devices, and named_jit."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import haliax as hax
from haliax import partitioning

A, B = hax.make_axes(a=8, b=4)
x = hax.random.normal(jax.random.key(0), (A, B))


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def test_specs():
    mapping = {"a": "data", "b": ("data", "model"), "c": "model"}
    assert partitioning.pspec_for_axis((A, B), mapping) == PartitionSpec("data", "model")
    assert partitioning.pspec_for_axis((hax.Axis("z", 2), A), mapping) == PartitionSpec(None, "data")
    assert partitioning.pspec_for({"x": x, "y": jnp.ones(3)}, {}) == {
        "x": PartitionSpec(None, None),
        "y": PartitionSpec(),
    }
    assert partitioning.physical_axis_name("a") is None


def test_mappings_nest_and_reach_other_threads():
    seen = []
    with hax.axis_mapping({"a": "data"}):
        with hax.axis_mapping({"b": "model"}, merge=True):
            assert partitioning.physical_axis_name("a") == "data"
            thread = threading.Thread(target=lambda: seen.append(partitioning.current_thread_local_mapping()))
            thread.start()
            thread.join()
        with hax.axis_mapping({"b": "model"}):
            assert partitioning.physical_axis_name("a") is None
    assert seen == [{"a": "data", "b": "model"}]
    assert partitioning.current_thread_local_mapping() is None


def test_shard(mesh):
    assert hax.shard(x) is x
    expected = NamedSharding(mesh, PartitionSpec("data", "model"))
    mapping = {"a": "data", "b": "model"}
    with hax.set_mesh(mesh), hax.axis_mapping(mapping):
        for result in (
            hax.shard(x),
            jax.jit(hax.shard)(x),
            hax.auto_sharded(x),
            hax.named_jit(lambda x: x, mapping)(x),
        ):
            assert result.array.sharding.is_equivalent_to(expected, 2) and np.array_equal(result, x)
        assert partitioning.round_axis_for_partitioning(hax.Axis("a", 9)).size == 12
        assert partitioning.physical_axis_size("a") == 4
        with pytest.raises(hax.AxisError, match="the mesh has no axis `modle`.*did you mean `model`"):
            partitioning.physical_axis_size("a", {"a": "modle"})


def test_fsdp(mesh):
    parameters, compute = {"a": "data"}, {"b": "model"}
    with hax.set_mesh(mesh):
        for function in (
            hax.fsdp(lambda x: x + 1, parameters, compute),
            hax.fsdp(parameters, compute)(lambda x: x + 1),
        ):
            result = function(x)
            assert result.array.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec("data")), 2)


def test_named_jit_has_static_leaves_that_do_not_go_stale():
    traces = []

    @hax.named_jit
    def function(x, scale, *, note):
        traces.append(scale)
        return x * scale, {"note": note, "count": len(traces)}

    assert function(x, 2.0, note="a")[1] == {"note": "a", "count": 1}
    assert function(x, 3.0, note="b")[1] == {"note": "b", "count": 2}
    result, info = function(x, 2.0, note="a")
    assert info == {"note": "a", "count": 1} and traces == [2.0, 3.0]
    assert np.array_equal(result, x.array * 2)
    assert function(x, np.float32(2), note="a")[0].axes == x.axes


def test_named_jit_sees_the_mapping_in_force(mesh):
    function = hax.named_jit(lambda x: hax.auto_sharded(x + 1))
    with hax.set_mesh(mesh):
        with hax.axis_mapping({"a": "data"}):
            first = function(x)
        with hax.axis_mapping({"b": "model"}):
            second = function(x)
    assert first.array.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec("data")), 2)
    assert second.array.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec(None, "model")), 2)


def test_named_jit_donates():
    first, second = x + 0, x + 1
    hax.named_jit(lambda x, y: x + y, donate_args=(True,))(first, second)
    assert first.array.is_deleted() and not second.array.is_deleted()
    assert "add" in hax.named_jit(lambda x: x + 1).lower(x).as_text()


def test_named_jit_of_a_method():
    class Model:
        @hax.named_jit
        def __call__(self, x):
            return x + 1

    assert np.array_equal(Model()(x), x.array + 1)
