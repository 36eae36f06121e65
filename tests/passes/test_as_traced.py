"""On one device XLA is given the very program that `jax.jit` gives it, whatever the passes did to the graph."""

import re
from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from program_text import program_text
from step_models import shaped
from test_zoo import MODELS, graph_of, step_of

import ir
import passes
from ir.graph import Graph
from passes import Plan, pipeline
from passes.as_traced import as_traced
from passes.canonicalize import Canonicalize

ONE = Plan.by_hand({"data": 1}, {})
BE = shaped("batch embed", 4, 6)


def rows(x: jax.Array) -> jax.Array:
    """A loop with a call and equal nodes in its body, an unused result, and a call that occurs twice."""

    @jax.jit
    def held(row: jax.Array) -> jax.Array:
        return jnp.where(row > 0, row, -1e30)

    def body(carry: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
        return carry + jnp.exp(held(row)) * jnp.exp(held(row)), jnp.sin(row)

    carry, _ = jax.lax.scan(body, jnp.zeros(6), x.array)
    return held(carry)


def test_calls_and_equal_nodes_are_where_the_user_has_them():
    traced = ir.trace(rows, BE)
    wanted = program_text(jax.jit(rows), BE)
    assert max(Counter(re.findall(r"call @helper_\w+", wanted)).values()) == 3
    for graph in (
        traced,
        passes.canonicalize(traced),
        pipeline.prepare(traced),
        Canonicalize(merge_equal=False)(traced),
    ):
        assert program_text(passes.lower(graph, ONE), BE) == wanted
    result = passes.run(traced, {"data": 1})
    assert len(list(result.placed.walk())) < len(list(traced.walk()))
    assert program_text(passes.lower_placed(result.placed, result.plan), BE) == wanted


def test_a_layout_changes_nothing_on_one_device():
    plan = Plan.by_hand({"data": 1, "model": 1}, {"batch": "data", "embed": "model"})
    assert program_text(passes.lower(ir.trace(rows, BE), plan), BE) == program_text(jax.jit(rows), BE)


@pytest.mark.slow
def test_marks_leave_nothing_behind():
    for name in MODELS:
        step = step_of(name)
        assert program_text(passes.lower(graph_of(name), ONE), *step[1:]) == program_text(
            jax.jit(step[0]), *step[1:]
        ), name


def doubled(x):
    return jnp.sin(x.array) * 2.0


def edited(graph: Graph, function: str, **changes: object) -> Graph:
    nodes = [replace(node, **changes) if node.fn == function else node for node in graph.nodes]
    return replace(graph, nodes=tuple(nodes))


def test_an_edited_graph_runs_as_it_is_now():
    graph = ir.trace(doubled, BE)
    sin, mul = graph.nodes
    assert as_traced(graph) is not None
    changed = replace(graph, nodes=(sin, replace(mul, inputs=(mul.inputs[0], mul.inputs[0]))))
    assert as_traced(changed) is None
    x = replace(BE, array=jnp.ones((4, 6)))
    np.testing.assert_allclose(passes.lower(changed, ONE)(x), np.sin(1.0) ** 2 * np.ones((4, 6)), rtol=1e-6)


def test_a_graph_whose_nodes_bind_something_else_runs_as_it_is_now():
    other = ir.trace(lambda x: jnp.cos(x.array) * 2.0, BE)
    graph = edited(ir.trace(doubled, BE), "sin", origin=other.nodes[0].origin)
    assert as_traced(graph) is None
    x = replace(BE, array=jnp.ones((4, 6)))
    np.testing.assert_allclose(passes.lower(graph, ONE)(x), 2 * np.cos(1.0), rtol=1e-6)


def test_a_parsed_graph_has_no_program():
    assert as_traced(ir.parse(str(ir.trace(doubled, BE)))) is None


@pytest.mark.parametrize("donate", [False, True])
def test_state_is_donated_as_it_was(donate):
    def step(state, x):
        return jax.tree.map(lambda leaf: leaf + x.array, state), x.array.sum()

    state = {"w": shaped("batch embed", 4, 6)}
    jitted = jax.jit(step, donate_argnums=(0,) if donate else ())
    ours = passes.lower(ir.trace(step, state, BE), ONE, donate=donate)
    assert program_text(ours, state, BE) == program_text(jitted, state, BE)
