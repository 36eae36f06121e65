"""A dim that is renamed there and back does not change places twice."""

import jax
import jax.numpy as jnp
import pytest
import simulated_devices

import ir
import passes
from haliax.core.staging import mark_rename
from passes import pipeline
from passes.prove import prove

MESH = {"rows": 2, "columns": 2}
FIRST, SECOND = ("a", "c"), ("b", "c")


def placed_of(step):
    arguments = jax.ShapeDtypeStruct((8, 4), jnp.float32), jax.ShapeDtypeStruct((8, 4), jnp.float32)
    graph = pipeline.prepare(ir.trace(step, *arguments, names={"w": "a c", "x": "b c"}))
    # In the order in which they come, `a` is sharded over columns and then rows, and `b` over rows and then columns.
    plan = passes.Plan.by_hand(MESH, {"a": ["columns"], "b": ["rows", "columns"]}, {})
    return graph, pipeline.place(graph, plan)


def permutes(graph):
    return sum(node.kind == "permute" for node in graph.walk())


def there_and_back(w, x):
    return mark_rename(mark_rename(w, FIRST, SECOND) * 0.5, SECOND, FIRST) + w


def also_read_there(w, x):
    there = mark_rename(w, FIRST, SECOND)
    return mark_rename(there * 0.5, SECOND, FIRST), jnp.sum(there * x)


def beside_another(w, x):
    return mark_rename(mark_rename(w, FIRST, SECOND) * x, SECOND, FIRST)


@pytest.mark.parametrize("step, count", [(there_and_back, 0), (also_read_there, 1), (beside_another, 2)])
def test_what_comes_back_as_it_went_does_not_go(step, count):
    """But where it is read meanwhile it must go, and what meets other shards must come back."""
    graph, placed = placed_of(step)
    assert permutes(placed) == count
    assert not prove(placed, graph, MESH).assumptions
    if not count:  # a simulated mesh has no permutes over two of its axes
        arrays = simulated_devices.inputs(graph)
        on_devices = simulated_devices.run(placed, MESH, arrays)
        assert simulated_devices.same(on_devices, simulated_devices.run(graph, {}, arrays))
