"""Dead code and repeated work go, in loop bodies too; results stay the same bits; everything else stays as it was."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_models import filled, shaped, step_of, traced

import ir
import passes
from passes import Plan
from passes.canonicalize import Canonicalize, canonicalize

BE = shaped("batch embed", 4, 4)
ONE = Plan.by_hand({"data": 1}, {})


def functions(graph):
    return [node.fn or node.kind for node in graph.walk()]


def test_dead_code_goes():
    def step(x):
        jnp.tanh(jnp.sin(x.array))
        return jnp.exp(x.array)

    graph = ir.trace(step, BE)
    assert functions(canonicalize(graph)) == ["exp"]
    assert [v.id for v in canonicalize(graph).inputs] == [v.id for v in graph.inputs]


def test_equal_nodes_become_one_through_chains():
    def step(x):
        return jnp.exp(jnp.sin(x.array) * 2) + jnp.exp(jnp.sin(x.array) * 2)

    assert functions(ir.trace(step, BE)) == ["sin", "mul", "exp", "sin", "mul", "exp", "add"]
    assert functions(canonicalize(ir.trace(step, BE))) == ["sin", "mul", "exp", "add"]


def test_merging_can_be_turned_off():
    graph = ir.trace(lambda x: jnp.sin(x.array) + jnp.sin(x.array), BE)
    assert functions(Canonicalize(merge_equal=False)(graph)) == ["sin", "sin", "add"]


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x.array.sum(0) + x.array.sum(1),  # other axes
        lambda x: (x.array * 2.0) + (x.array * 3.0),  # other constants
        lambda x: x.array.astype(jnp.float16).astype(jnp.float32) + x.array.astype(jnp.bfloat16).astype(jnp.float32),
        lambda x: x.array[:, 0:2] + x.array[:, 2:4],  # other places of the same size
        lambda x: jnp.cumsum(x.array, 0) + jax.lax.cumsum(x.array, 0, reverse=True),
        lambda x: x.array @ x.array.T + x.array.T @ x.array,
        lambda x: (x.array - 1.0) * (1.0 - x.array),  # the same operands the other way round
        lambda x: x.array * 0.0 + x.array * -0.0,
    ],
)
def test_what_only_looks_alike_stays_two(step):
    x = filled(BE)
    graph = ir.trace(step, BE)
    kept = canonicalize(graph)
    # What is left out is written at most once more than needed; the values are the same bits.
    wanted = jax.jit(step)(x)
    assert np.asarray(passes.lower(kept, ONE)(x)).tobytes() == np.asarray(wanted).tobytes()
    assert len(functions(kept)) == len(functions(graph)) or "transpose" in functions(graph)


def test_constants_that_are_closed_over_are_not_confused():
    first, second = jnp.arange(4.0), jnp.arange(4.0) + 1

    def step(x):
        return x.array * first + x.array * second

    x = filled(BE)
    kept = canonicalize(ir.trace(step, BE))
    assert np.array_equal(passes.lower(kept, ONE)(x), jax.jit(step)(x))
    assert [node.kind for node in kept.nodes].count("constant") == 2


def test_loop_bodies_are_cleaned():
    def body(carry, row):
        jnp.tan(row)
        return carry + jnp.sin(row) * jnp.sin(row), None

    graph = ir.trace(lambda x: jax.lax.scan(body, jnp.zeros(4), x.array)[0], BE)
    assert Counter(functions(graph))["sin"] == 2 and "tan" in functions(graph)
    kept = canonicalize(graph)
    assert Counter(functions(kept))["sin"] == 1 and "tan" not in functions(kept)
    ir.verify(kept)
    x = filled(BE)
    plain = jax.jit(lambda x: jax.lax.scan(body, jnp.zeros(4), x.array)[0])(x)
    assert np.asarray(passes.lower(kept, ONE)(x)).tobytes() == np.asarray(plain).tobytes()


def test_a_body_does_not_take_what_is_outside_it():
    """Bodies are closed: the same work inside and outside is done in both places."""

    def step(x):
        outside = jnp.sin(x.array)
        inside = jax.checkpoint(lambda y: jnp.sin(y) * 2)(x.array)
        return outside + inside

    kept = ir.verify(canonicalize(ir.trace(step, BE)))
    assert functions(kept).count("sin") == 2


def test_effects_are_kept():
    seen = []

    def step(x):
        jax.debug.callback(lambda value: seen.append(float(value)), x.array.sum())
        jax.debug.callback(lambda value: seen.append(float(value)), x.array.sum())
        return x.array * 2

    kept = canonicalize(ir.trace(step, BE))
    assert [node.kind for node in kept.nodes].count("opaque") == 2
    jax.block_until_ready(passes.lower(kept, ONE)(filled(BE)))
    jax.effects_barrier()
    assert len(seen) == 2 and seen[0] == seen[1]


@pytest.mark.parametrize("name", ["raw", "named", "mlp"])
def test_a_step_gets_smaller_and_twice_changes_nothing(name):
    graph = traced(name)
    once = canonicalize(graph)
    assert canonicalize(once) == once
    assert len(list(once.walk())) <= len(list(graph.walk()))
    assert (once.inputs, once.carried, once.input_paths, once.output_paths) == (
        graph.inputs,
        graph.carried,
        graph.input_paths,
        graph.output_paths,
    )
    assert [output.type for output in once.outputs] == [output.type for output in graph.outputs]
    used = {value.id for node in once.nodes for value in node.value_inputs}
    used |= {output.id for output in once.outputs}
    for node in once.nodes:
        assert any(value.id in used for value in node.outputs), node
    assert step_of(name).state is not None
