"""Attention in a graph: one operation forward and one backward; their names, price and faults."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from step_models import shaped

import haliax as hax
import ir
from haliax.nn.attention import AttentionMask, attend
from ir.ops import op_of

QUERY = shaped("batch position kv_heads group size", 4, 6, 2, 3, 8)
KEY = shaped("batch key_position kv_heads size", 4, 6, 2, 8)
IDS = shaped("batch position", 4, 6, dtype=jnp.int32)


def loss(arrays, ids, window):
    keys = ids.rename({"position": "key_position"})
    mask = AttentionMask(causal=True, window=window, segments=(ids, keys))
    out = attend(*arrays, Key="size", KPos="key_position", mask=mask, softcap=5.0)
    return (out * out).sum().scalar()


def graph_of(function, *arguments):
    graph = ir.verify(ir.trace(function, *arguments))
    assert ir.parse(str(graph)) == graph
    return graph


def attentions(graph):
    return [node for node in graph.walk() if node.kind == "attention"]


def test_a_training_step_has_one_forward_and_one_backward():
    graph = graph_of(jax.value_and_grad(loss), [QUERY, KEY, KEY], IDS, jax.ShapeDtypeStruct((), jnp.int32))
    forward, backward = attentions(graph)
    assert (forward.phase, backward.phase, backward.fn) == ("forward", "backward", "backward")
    assert [str(value.type) for value in forward.outputs] == [
        "f32[batch=4, kv_heads=2, position=6, group=3, size=8]",
        "f32[batch=4, position=6, kv_heads=2, group=3]",
    ]
    assert [value.type for value in backward.outputs] == [operand.type for operand in forward.inputs[:3]]
    assert forward.attrs["masks"] == ("window", "query_segments", "key_segments")
    assert forward.attrs["softcap"] == 5.0
    sizes = {dim.size for value in graph.values() for dim in value.type.dims if dim.name == "key_position"}
    assert sizes == {6}
    both = {"position", "key_position"}
    assert not [value for value in graph.values() if both <= set(value.type.names)]  # no array of all scores


def test_a_batch_of_vmap_has_its_name():
    def function(q, k):
        return hax.vmap(lambda q, k: attend(q, k, k, Key="size", KPos="key_position"), "batch")(q, k)

    (node,) = attentions(graph_of(function, QUERY, KEY))
    assert [value.type.names[0] for value in node.outputs] == ["batch", "batch"]
    assert all(dim.name is not None for value in node.outputs for dim in value.type.dims)


def test_what_it_says_of_its_names_and_price():
    graph = graph_of(jax.value_and_grad(loss), [QUERY, KEY, KEY], IDS, 3)
    forward, backward = attentions(graph)
    op = op_of(forward)
    assert op.blocked(forward) == op.blocked(backward) == ("size", "key_position")
    assert op.reduced(forward) == ()
    assert [op.reduced_in(backward, value) for value in backward.outputs] == [
        (),
        ("position", "group"),
        ("position", "group"),
    ]
    pairs = 4 * 2 * 3 * 6 * 6
    assert (op.flops(forward), op.flops(backward)) == (2 * pairs * 16, 2 * pairs * 40)
    places = {(a[1], b[1]) for a, b in op.links(forward) if b[0] is forward.outputs[0] and a[0] is forward.inputs[0]}
    assert places == {(0, 0), (1, 2), (2, 1), (3, 3)}


def test_two_names_that_meet_are_a_mismatch():
    """Also in a graph that was read from text."""
    text = """graph step {
  inputs
    %0: f32[batch=4, position=6, size=8]
    %1: f32[batch=4, memory=6, size=8]
    %2: f32[batch=4, context=6, size=8]
  -- forward --
  %3: f32[batch=4, position=6, size=8],
  %4: f32[batch=4, position=6] = attention(%0, %1, %2) along=[memory=6] OTHER over=[size=8]
  outputs
    %3
}
"""
    graph = ir.verify(ir.parse(text.replace("OTHER", "batch=[memory=6] batch_with=[context=6]")))
    (mismatch,) = op_of(graph.nodes[0]).mismatches(graph.nodes[0])
    assert (mismatch.first, mismatch.second, mismatch.operands) == ("memory", "context", (1, 2))


@pytest.mark.parametrize("backend", ["auto", "blockwise"])
def test_the_backend_is_an_attribute_where_it_was_asked_for(backend):
    graph = graph_of(lambda q, k: attend(q, k, k, Key="size", KPos="key_position", backend=backend), QUERY, KEY)
    assert attentions(graph)[0].attrs.get("backend", "auto") == backend
