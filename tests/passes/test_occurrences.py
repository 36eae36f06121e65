"""Right programs in which an axis occurs twice, in part, or joined to another: no finding, and names that say so."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_models import shaped

import ir
import passes

X = shaped("batch position embed", 2, 6, 8)
MASK = shaped("position key_position", 6, 6, dtype=jnp.bool_)
WEIGHTS = *(shaped("embed inner", 8, 8),) * 3, shaped("inner embed", 8, 8)
GATES = shaped("batch inputs", 2, 4), shaped("inputs gates", 4, 12)


def split_heads(x):
    return x.reshape(2, 6, 2, 4).swapaxes(1, 2)


def self_attention(x, query, key, value, out, mask=None):
    q, k, v = (split_heads(x.array @ w.array) for w in (query, key, value))
    scores = q @ k.swapaxes(2, 3)
    if mask is not None:
        scores = jnp.where(mask.array, scores, -1e9)
    return x.array + (jax.nn.softmax(scores) @ v).swapaxes(1, 2).reshape(2, 6, 8) @ out.array


def fused_gates(x, w, bias):
    reset, update, new = jnp.split(x.array @ w.array, 3, -1)
    return jax.nn.sigmoid(reset + bias.array) * jnp.tanh(new) + update


def gated_mlp(x, w, down):
    gate, up = jnp.split(x.array @ w.array, 2, -1)
    return (jax.nn.silu(gate) * up) @ down.array


def turned(x):
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([-second, first], -1)


def rotary(x, frequency):
    angles = jnp.arange(6.0)[:, None] * frequency.array
    angles = jnp.concatenate([angles, angles], -1)
    return x.array * jnp.cos(angles) + turned(x.array) * jnp.sin(angles)


def rotary_in_pairs(x, frequency):
    angles = jnp.repeat(jnp.arange(6.0)[:, None] * frequency.array, 2, -1)
    pairs = jnp.stack([-x.array[..., 1::2], x.array[..., ::2]], -1).reshape(x.array.shape)
    return x.array * jnp.cos(angles) + pairs * jnp.sin(angles)


def recurrent(h, weights, xs):
    def cell(h, x):
        return jnp.tanh(h @ weights.array + x), h @ h.T

    return jax.lax.scan(cell, h.array, xs.array)


def frames(x, w):
    return x.array.reshape(2, 3, 16) @ w.array


def next_token(logits, tokens):
    chosen = jnp.take_along_axis(logits.array[:, :-1], tokens.array[:, 1:, None], -1)
    return chosen.mean()


def earlier(times):
    return jnp.where(times.array < times.array[:1], 0.0, times.array)


def grouped(q, k):
    keys = jnp.repeat(k.array, 3, axis=1)
    return jnp.einsum("qhs,khs->hqk", q.array.reshape(6, 6, 4), keys)


def plus_its_transpose(x):
    gram = x.array @ x.array.T
    return (gram + gram.T) / 2


SQUARE = shaped("batch features", 5, 5)
RIGHT = {
    "self-attention": (self_attention, (X, *WEIGHTS)),
    "self-attention with a mask that names its keys": (self_attention, (X, *WEIGHTS, MASK)),
    "a covariance": (lambda x: x.array.T @ x.array, (SQUARE,)),
    "a kernel and its transpose": (plus_its_transpose, (SQUARE,)),
    "the outer product of a gradient": (lambda g: jnp.outer(g.array, g.array), (shaped("embed", 4),)),
    "all pairs": (lambda x: x.array[:, None] - x.array[None], (shaped("position embed", 4, 3),)),
    "packed gates": (fused_gates, (*GATES, shaped("hidden", 4))),
    "a fused gated layer": (
        gated_mlp,
        (shaped("batch embed", 2, 4), shaped("embed both", 4, 12), shaped("mlp embed", 6, 4)),
    ),
    "a prefix": (
        lambda a, b: jnp.concatenate([a.array, b.array], 0),
        (shaped("prefix embed", 3, 4), shaped("position embed", 5, 4)),
    ),
    "rotary halves": (rotary, (shaped("batch position size", 2, 6, 8), shaped("half", 4))),
    "rotary pairs": (rotary_in_pairs, (shaped("batch position size", 2, 6, 8), shaped("half", 4))),
    "frames": (frames, (X, shaped("frame hidden", 16, 5))),
    "the next token": (
        next_token,
        (shaped("batch position vocab", 2, 6, 6), shaped("batch position", 2, 6, dtype=jnp.int32)),
    ),
    "times before the first": (earlier, (shaped("time", 6),)),
    "keys repeated for groups": (
        grouped,
        (shaped("position kv_heads group size", 6, 2, 3, 4), shaped("position kv_heads size", 6, 2, 4)),
    ),
    "a difference of neighbours": (lambda x: x.array[1:] - x.array[:-1], (shaped("position", 6),)),
    "a rolled axis": (lambda x: x.array - jnp.roll(x.array, 2), (shaped("position", 6),)),
}


def traced(name):
    function, arguments = RIGHT[name]
    return ir.trace(function, *arguments)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_has_no_finding(name):
    graph = traced(name)
    assert [str(each) for each in passes.axis_findings(graph)] == []
    assert ir.parse(str(ir.verify(graph))) == graph


def names_of(graph):
    return {name for value in graph.values() for name in value.type.names}


def test_a_second_occurrence_has_a_prime():
    assert "position'" in names_of(traced("self-attention"))
    assert [str(operand.type) for operand in traced("a covariance").outputs] == ["f32[features=5, features'=5]"]
    assert [str(operand.type) for operand in traced("all pairs").outputs] == ["f32[position=4, position'=4, embed=3]"]


def test_a_name_of_the_programs_own_is_used():
    names = names_of(traced("self-attention with a mask that names its keys"))
    assert "key_position" in names and "position'" not in names


def test_a_part_takes_the_name_that_it_meets_or_says_what_it_is_a_part_of():
    (result,) = traced("packed gates").outputs
    assert str(result.type) == "f32[batch=2, hidden=4]"
    assert {"gates[4:8]", "gates[8:12]"} & names_of(
        ir.trace(lambda x: jnp.split(x.array, 3, -1), shaped("a gates", 2, 12))
    )
    (result,) = traced("a prefix").outputs
    assert str(result.type) == "f32[prefix+position=8, embed=4]"


def test_a_square_weight_and_a_recurrent_loop():
    """A name that an argument has twice; the loop's carry comes out as it went in."""
    arrays = np.ones((2, 4), np.float32), np.ones((4, 4), np.float32), np.ones((3, 2, 4), np.float32)

    def step(h, w, xs):
        return jax.lax.scan(lambda h, x: (jnp.tanh(h @ w + x), h @ h.T), h, xs)

    names = {"h": "batch hidden", "w": "hidden hidden", "xs": "time batch hidden"}
    graph = ir.trace(step, *arrays, names=names)
    assert passes.axis_findings(graph) == []
    assert [str(value.type) for value in graph.inputs][1] == "f32[hidden=4, hidden'=4]"
    assert [str(operand.type) for operand in graph.outputs] == [
        "f32[batch=2, hidden=4]",
        "f32[time=3, batch=2, batch'=2]",
    ]
    assert graph.carried == ((0, 0),)


def test_occurrences_are_sharded_each_by_itself():
    """Both of a self-attention, planned on four devices: the same numbers as on one."""
    shapes = (2, 6, 8), *((8, 8),) * 4
    arrays = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]

    def step(x, *weights):
        return self_attention(*map(_Raw, (x, *weights)))

    weights = dict.fromkeys(("argument1", "argument2", "argument3"), "embed inner")
    names = {"x": "batch position embed", **weights, "argument4": "inner embed"}
    graph = ir.trace(step, *arrays, names=names)
    plan = passes.Plan.by_hand("data=2,model=2", {"batch": "data", "position'": "model", "inner/0": "model"})
    np.testing.assert_allclose(passes.lower(graph, plan)(*arrays), step(*arrays), rtol=1e-5, atol=1e-5)


class _Raw:
    """A raw array where the functions above take a named one."""

    def __init__(self, array):
        self.array = array


def test_a_part_is_sharded_like_its_axis():
    x = np.arange(64.0, dtype=np.float32).reshape(8, 8)
    graph = ir.trace(lambda x: x[:4] * 2.0, x, names={"x": "batch embed"})
    plan = passes.Plan.by_hand("data=2", {"batch": "data"})
    step = passes.lower(graph, plan)
    assert step(x).sharding.spec == jax.sharding.PartitionSpec("data", None)
    np.testing.assert_array_equal(step(x), x[:4] * 2.0)


def test_an_array_that_is_changed_in_place_on_several_devices():
    def step(w, x):
        total = jax.new_ref(jnp.zeros((8,)))

        def add(i, _):
            total[...] += x[i] @ w
            return 0

        jax.lax.fori_loop(0, 4, add, 0)
        return total[...]

    w, x = jnp.arange(32.0).reshape(4, 8), jnp.ones((4, 4))
    graph = ir.trace(step, w, x, names={"w": "embed mlp", "x": "batch embed"})
    assert str(graph.outputs[0].type) == "f32[mlp=8]"
    plan = passes.Plan.by_hand("data=2,model=2", {"batch": "data", "mlp": "model"})
    np.testing.assert_allclose(passes.lower(graph, plan)(w, x), step(w, x))


def test_what_is_found_in_a_library_shows_the_users_line_first():
    layer = eqx.nn.Linear(4, 4, use_bias=False, key=jax.random.key(0))

    def step(weight, x):
        return eqx.tree_at(lambda each: each.weight, layer, weight)(x)  # this line

    graph = ir.trace(step, jnp.ones((4, 4)), jnp.ones(4), names={"weight": "mlp embed", "x": "mlp"})
    (finding,) = passes.axis_findings(graph)
    lines = str(finding).splitlines()
    assert lines[1].startswith("  test_occurrences.py:") and lines[2].endswith("(x)  # this line")
    assert lines[4].startswith("  in equinox/nn/_linear.py:") and "self.weight @ x" in lines[5]
