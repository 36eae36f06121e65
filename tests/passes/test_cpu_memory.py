"""What a step needs on CPU devices, beside what XLA assigns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from step_models import shaped

import haliax as hax
import ir
import passes
from ir.graph import Node, Value
from ir.ops import OPS
from ir.types import Dim, TensorType
from passes.cpu_memory import cpu_peak
from passes.pipeline import place

EIGHT = {"data": 4, "model": 2}


def peaks(step: Callable[..., Any], arguments: tuple[Any, ...], compute: Any, storage: Any) -> tuple[int, int]:
    """Predicted and compiled."""
    plan = passes.Plan.by_hand(EIGHT, compute, storage)
    graph = passes.canonicalize(ir.trace(step, *arguments))
    predicted = cpu_peak(place(graph, plan), EIGHT)
    options = {"xla_backend_optimization_level": 0}
    memory = passes.lower(graph, plan).lower(*arguments).compile(compiler_options=options).memory_analysis()
    compiled = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return predicted, compiled + memory.temp_size_in_bytes


def layered(weights: list[Any], x: Any) -> Any:
    """Gathers come first; all-reduced gradients wait for the last of them."""

    def loss(weights: list[Any]) -> Any:
        hidden = x
        for up, down in weights:
            hidden = hax.tanh(hidden.dot(up, "embed")).dot(down, "mlp")
        return hax.square(hidden).mean().array

    grads = jax.grad(loss)(weights)
    return jax.tree.map(lambda weight, grad: weight - 0.1 * grad, weights, grads)


LAYERED = ([(shaped("embed mlp", 512, 2048), shaped("mlp embed", 2048, 512))] * 4, shaped("batch embed", 64, 512))


def looked_up(table: Any, tokens: Any) -> Any:
    """Zeros that something is scattered into are there from the beginning, and the result is in their place."""

    def loss(table: Any) -> Any:
        found = hax.exp(table.take("vocab", tokens))
        return (found.sum("embed") + hax.square(found).sum("embed")).sum().array

    return table - 0.1 * jax.grad(loss)(table)


LOOKED_UP = (shaped("vocab embed", 4096, 256), shaped("batch position", 64, 128, dtype=jnp.int32))


def scored(x: Any, head: Any) -> Any:
    """A collective along an inner dim is of arrays in another order than products and sums read."""
    logits = x.dot(head, "embed")
    return hax.exp(logits - logits.max("vocab")).sum("vocab")


SCORED = (shaped("batch position embed", 32, 64, 64), shaped("embed vocab", 64, 4096))


def looped(weights: Any, head: Any, x: Any) -> Any:
    """A loop that communicates takes copies of its operands, which are there once what was sent before it is."""
    first = x.dot(head, "embed").dot(head, "mlp")

    def layer(hidden: Any, weight: Any) -> Any:
        return hax.tanh(hidden.dot(weight, "embed").dot(weight, "mlp"))

    return weights * hax.fold(layer, "layers")(first, weights).sum().array


LOOPED = (shaped("layers embed mlp", 4, 256, 2048), shaped("embed mlp", 256, 2048), shaped("batch embed", 64, 256))


@pytest.mark.parametrize(
    ("step", "arguments", "compute", "storage"),
    [
        (looped, LOOPED, {"batch": ["data"], "mlp": ["model"]}, {}),
        (layered, LAYERED, {"batch": ["data", "model"]}, {"embed": ["data", "model"]}),
        (layered, LAYERED, {"batch": ["data"], "mlp": ["model"]}, {}),
        (looked_up, LOOKED_UP, {"batch": ["data"], "vocab": ["model"]}, {}),
        (scored, SCORED, {"batch": ["data"], "embed": ["model"], "vocab": ["model"]}, {}),
    ],
)
def test_a_step_needs_what_is_predicted(
    step: Callable[..., Any], arguments: tuple[Any, ...], compute: Any, storage: Any
) -> None:
    predicted, compiled = peaks(step, arguments, compute, storage)
    assert predicted == pytest.approx(compiled, rel=0.1)


def test_where_no_kernel_makes_attention_all_scores_are_held() -> None:
    query = TensorType("float32", (Dim("batch", 2), Dim("heads", 4), Dim("position", 16), Dim("size", 8)))
    key = TensorType("float32", (Dim("batch", 2), Dim("heads", 4), Dim("keys", 32), Dim("size", 8)))
    attrs: dict[str, Any] = {"over": (Dim("size", 8),), "along": (Dim("keys", 32),)}
    inputs = (Value(0, query), Value(1, key), Value(2, key))
    scores = (Dim("batch", 2), Dim("heads", 4), Dim("position", 16), Dim("keys", 32))
    for fn, scaled, count in (("", {}, 2), ("", {"scale": 0.5}, 3), ("backward", {}, 3)):
        node = Node("attention", fn, inputs, (Value(3, query),), {**attrs, **scaled})
        assert [tuple(each) for each in OPS["attention"].held(node)] == [scores] * count


def test_of_many_pairs_only_those_of_a_block_of_keys_are_held() -> None:
    query = TensorType("float32", (Dim("position", 2048), Dim("size", 8)))
    key = TensorType("float32", (Dim("keys", 2048), Dim("size", 8)))
    attrs: dict[str, Any] = {"over": (Dim("size", 8),), "along": (Dim("keys", 2048),)}
    node = Node("attention", "", (Value(0, query), Value(1, key), Value(2, key)), (Value(3, query),), attrs)
    assert [tuple(each) for each in OPS["attention"].held(node)] == [(Dim("position", 2048), Dim("keys", 512))] * 2
    round_ = {"over": (Dim("size", 8),), "along": (Dim("position", 2048),), "ring": (Dim("position", 2048),)}
    node = Node("attention", "", (Value(0, query), Value(1, query), Value(2, query)), (Value(3, query),), round_)
    assert [tuple(each) for each in OPS["attention"].held(node)] == [(Dim("position", 2048), Dim("position", 512))] * 2
