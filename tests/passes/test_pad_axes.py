"""Axes that no mesh axis divides are padded: the step stays what it is, to the bit in the ring."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from step_models import filled, mlp_step, raw_gpt, traced

import ir
import passes
from ir.literals import literal_of
from ir.ops.padding import neutral
from passes.as_planned import own_sizes
from passes.pad_axes import padded
from passes.pipeline import place, prepare, run
from passes.shadow import alone, shadow_placed
from passes.summary import times
from passes.values import Reference, flat

sys.path.insert(0, str(Path(__file__).parents[1] / "ir"))

MESH = {"data": 2, "model": 4}
UNEVEN = raw_gpt(layers=2, batch=6, position=9, embed=30, heads=5, vocab=51, mlp=42)
GRAPH = prepare(ir.trace(*UNEVEN))


@cache
def ring() -> Reference:
    return Reference.of(GRAPH)


def run_of(graph: ir.Graph, arrays: Any) -> list[Any]:
    plan = passes.Plan.by_hand({"data": 1}, {})
    return jax.tree.leaves(passes.lower(graph, plan)(*arrays))


# The pass.


def test_any_axis_may_be_padded_and_nothing_else_changes() -> None:
    sizes = {name: size + 3 for name, size in GRAPH.axis_sizes().items() if name[:3] not in ("lay", "qkv")}
    longer = ir.verify(padded(GRAPH, sizes))
    assert longer.axis_sizes() | sizes == longer.axis_sizes()
    assert [value.type for value in longer.inputs] == [value.type for value in GRAPH.inputs]
    assert [value.type for value in longer.outputs] == [value.type for value in GRAPH.outputs]
    assert ring().against(alone(flat(longer))).equal
    assert padded(longer, sizes) is longer
    assert padded(GRAPH, GRAPH.axis_sizes()) is GRAPH


@pytest.mark.slow
@pytest.mark.parametrize("step", ["gpt2", "moe_sort", "vit", "unet", "encoder_decoder", "lstm", "lora", "moe_einsum"])
def test_every_axis_of_every_model_may_be_padded(step: str) -> None:
    graph = ir.trace(*importlib.import_module(f"zoo.{step}").build())
    reference, canonical = Reference.of(graph), prepare(graph)
    for name, size in canonical.axis_sizes().items():
        assert reference.against(alone(flat(ir.verify(padded(canonical, {name: size + 3}))))).equal, name


def test_numbers_stay_numbers_where_the_padding_holds_none() -> None:
    """Padding is 0: here its logarithm, its inverse and 0 / 0 are summed, multiplied and compared."""

    def step(w: jax.Array, x: jax.Array) -> Any:
        def loss(w: jax.Array) -> jax.Array:
            y = jnp.log(w) @ (x / w) + jnp.sum(w / w) + jnp.min(jnp.log(w)) + jnp.max(1 / w)
            return y + jnp.sum(jnp.where(jnp.all(w > 0), jnp.cumsum(1 / w), 0)) + jnp.prod(w) + lax.top_k(w, 2)[0][1]

        value, gradient = jax.value_and_grad(loss)(w)
        return w - 0.1 * gradient, value

    arrays = jnp.arange(1.0, 8.0), jnp.linspace(0.5, 1.5, 7)
    graph = prepare(ir.trace(step, *arrays, names={"w": "mlp", "x": "mlp"}))
    longer = padded(graph, {"mlp": 8})
    assert longer.axis_sizes()["mlp"] == 8
    for one, other in zip(run_of(graph, arrays), run_of(longer, arrays), strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("mode", ["clip", "fill", "promise_in_bounds", "drop"])
def test_an_index_beyond_the_end_does_not_find_the_padding(mode: str) -> None:
    def step(w: jax.Array, i: jax.Array) -> Any:
        read = "fill" if mode == "drop" else mode

        def loss(w: jax.Array) -> jax.Array:
            return jnp.nansum(w.at[i].get(mode=read) ** 2)

        value, gradient = jax.value_and_grad(loss)(w)
        return w - gradient, (value, jnp.isnan(w.at[i].get(mode=read)), w.at[i].add(1.0, mode=mode))

    high = 5 if mode == "promise_in_bounds" else 9
    arrays = jnp.arange(5.0) + 1, jnp.array([i for i in (0, 4, 5, 6, 8, -1) if -1 <= i < high])
    graph = prepare(ir.trace(step, *arrays, names={"w": "vocab", "i": "row"}))
    for one, other in zip(run_of(graph, arrays), run_of(padded(graph, {"vocab": 8}), arrays), strict=True):
        np.testing.assert_array_equal(one, other)


def test_random_numbers_of_a_padded_shape_are_those_of_the_shape() -> None:
    def step(w: jax.Array, key: jax.Array) -> Any:
        def loss(w: jax.Array) -> jax.Array:
            return jnp.sum(w * jax.random.bernoulli(key, 0.5, w.shape))

        value, gradient = jax.value_and_grad(loss)(w)
        return w - gradient, value

    arrays = jnp.arange(35.0).reshape(7, 5), jax.random.key(1)
    graph = prepare(ir.trace(step, *arrays, names={"w": "mlp embed", "key": ""}))
    longer = padded(graph, {"mlp": 8, "embed": 8})
    for one, other in zip(run_of(graph, arrays), run_of(longer, arrays), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_changes_nothing_in_a_reduction() -> None:
    assert [neutral("max", "float32"), neutral("min", "float32"), neutral("sum", "int8")] == [-np.inf, np.inf, 0]
    assert [neutral("max", "int8"), neutral("min", "uint8"), neutral("max", "bool")] == [-128, 255, False]
    assert [neutral("and", "bool"), neutral("or", "bool"), neutral("min", "bool")] == [True, False, True]


# On a mesh.


@pytest.mark.parametrize(
    ("compute", "padding"),
    [
        ({"batch": "data", "vocab": "model", "heads": "model", "mlp": "model"}, {"vocab": 52, "heads": 8, "mlp": 44}),
        pytest.param({"batch": ("data", "model")}, {"batch": 8}, marks=pytest.mark.slow),
        pytest.param({"batch": "data", "position": "model"}, {"position": 12}, marks=pytest.mark.slow),
    ],
    ids=["tensor", "batch", "position"],
)
def test_a_padded_step_is_proved_and_its_values_are_equal(compute: Any, padding: Any) -> None:
    plan = passes.Plan.by_hand(MESH, compute, {"embed": "data"}, padding=padding)
    result = run(GRAPH, MESH, plan=plan)
    assert result.proof is not None and not result.proof.assumptions
    sharded = {dim.name for value in result.placed.values() for dim in value.type.dims if dim.mesh}
    assert padding.keys() <= sharded
    assert ring().against(shadow_placed(flat(result.placed), plan)).equal


def test_a_mask_that_is_too_long_is_found() -> None:
    """The law can fail: a mask that lets one place of the padding through changes values."""

    def step(w: jax.Array, x: jax.Array) -> Any:
        value, gradient = jax.value_and_grad(lambda w: jnp.mean(jax.nn.logsumexp(x @ w, -1)))(w)
        return w - gradient, value

    arrays = jnp.ones((4, 5)), jnp.ones((3, 4))
    graph = ir.trace(step, *arrays, names={"w": "embed vocab", "x": "batch embed"})
    reference, longer = Reference.of(graph), padded(prepare(graph), {"vocab": 8})
    right, wrong = (literal_of(np.int32(end), "int32") for end in (5, 6))
    assert any(right in node.inputs for node in longer.nodes)
    nodes = tuple([replace(n, inputs=tuple([wrong if i == right else i for i in n.inputs])) for n in longer.nodes])
    assert reference.against(alone(flat(longer))).equal
    assert not reference.against(alone(flat(replace(longer, nodes=nodes)))).equal


# The plan.


def test_the_search_pads_where_it_is_worth_it() -> None:
    step = mlp_step(batch=8192, embed=256, mlp=4097)
    graph = prepare(ir.trace(*step))
    mesh, allowed = {"model": 8}, {"batch": "model", "embed": "model"}
    plain = passes.plan(graph, mesh, "v5p", forbid=allowed)
    found = passes.plan(graph, mesh, "v5p", pin={"padding": "any"}, forbid=allowed)
    assert plain.padding == {} and found.padding == {"mlp": 4104} and found.compute == {"mlp": ("model",)}
    assert found.reasons["padding"].startswith("without, a step takes ") and found.search.optimal
    asked = passes.plan(graph, mesh, "v5p", pin={"padding": "mlp"}, forbid=allowed)
    assert (asked.padding, asked.reasons["padding"]) == (found.padding, found.reasons["padding"])
    assert own_sizes(found.subject.graph, found)["mlp"] == 4097
    assert _seconds(graph, found) < _seconds(graph, plain)


def test_where_padding_is_not_worth_it_the_plan_says_what_it_would_cost() -> None:
    graph, forbid = prepare(ir.trace(*mlp_step(batch=8, embed=256, mlp=4097))), {"batch": "model", "embed": "model"}
    plan = passes.plan(graph, {"model": 8}, "v5p", pin={"padding": "mlp"}, forbid=forbid)
    assert plan.padding == {} and plan.reasons["padding"].startswith("with mlp=4104, a step takes ")
    pinned = passes.plan(graph, {"model": 8}, "v5p", pin={"padding": "mlp", "mlp": "model"}, forbid=forbid)
    assert pinned.padding == {"mlp": 4104}
    assert pinned.reasons["padding"] == "what is pinned cannot be had without"


def _seconds(graph: ir.Graph, plan: passes.Plan) -> float:
    longer = padded(graph, plan.padding)
    return times(longer, place(longer, plan), plan).step


def test_a_plan_says_what_it_pads(tmp_path: Path) -> None:
    plan = passes.Plan.by_hand(MESH, {"vocab": "model"}, padding={"vocab": 52})
    plan.save(tmp_path / "plan.yaml")
    text = (tmp_path / "plan.yaml").read_text()
    assert "padding: {vocab: 52}\n" in text
    read = passes.Plan.load(tmp_path / "plan.yaml")
    assert read.padding == {"vocab": 52}
    assert own_sizes(padded(GRAPH, read.padding), read)["vocab"] == 51
    step = mlp_step(mlp=30)
    plan = passes.Plan.by_hand({"model": 4}, {"mlp": "model"}, padding={"mlp": 32})
    arrays = filled(step.state), filled(step.batch, 1)
    found = passes.lower(ir.trace(*step), plan, jax.devices()[:4])(*arrays)
    for one, other in zip(jax.tree.leaves(step.function(*arrays)), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("padding", "message"),
    [
        ({"vocap": 52}, "padding of 'vocap': the step has no axis of that name; did you mean 'vocab'?"),
        ({"vocab": 50}, "padding of 'vocab': 50 is less than its own size, 51; write a larger size, or leave it out"),
    ],
)
def test_padding_that_a_step_cannot_follow(padding: Any, message: str) -> None:
    with pytest.raises(passes.PlanError) as found:
        run(GRAPH, MESH, plan=passes.Plan.by_hand(MESH, {"vocab": "model"}, padding=padding))
    assert str(found.value) == message


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("vocap", "padding of 'vocap': the step has no axis of that name; did you mean 'vocab'?"),
        ("layers", "padding of 'layers': a loop scans over this axis, so every device needs each slice; leave it out"),
        ("batch", "padding of 'batch': data=2,model=4 divides its size, 8; leave it out"),
    ],
)
def test_padding_that_cannot_be_asked_for(asked: str, message: str) -> None:
    with pytest.raises(passes.PlanError) as found:
        passes.plan(traced("raw"), MESH, pin={"padding": asked})
    assert str(found.value) == message


def test_the_pass_by_itself() -> None:
    from passes.pipeline import run_one
    from passes.stage import Stage

    done = run_one("pad_axes", Stage(GRAPH), {"sizes": "vocab=52,heads=8"}).graph
    assert (done.axis_sizes()["vocab"], done.axis_sizes()["heads"]) == (52, 8)
    with pytest.raises(passes.PlanError) as found:
        run_one("pad_axes", Stage(GRAPH), {"sizes": "vocab"})
    assert str(found.value) == "padding of 'vocab': write a name and a size, such as vocab=50260"
