"""What a TPU sends for the collectives of a printed program, where that can be told from the program."""

from __future__ import annotations

from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import ir
import passes
from levanter.compiler.verify.tpu_sends import sent_rows
from passes.hardware.sends import HALVED, JOINT, VECTOR, WHOLE
from passes.pipeline import place, prepare

MESH = {"data": 2, "sequence": 2, "model": 2}
EMBED, MLP, BATCH = 64, 256, 32
MATRIX, F32, BF16 = EMBED * MLP, 4, 2


def step(layer: dict[str, jax.Array], x: jax.Array, precision: Any = None) -> tuple[Any, jax.Array]:
    def loss(layer: dict[str, jax.Array]) -> jax.Array:
        hidden = jnp.dot(x + layer["bias"], layer["up"], precision=precision)
        return jnp.mean(jnp.square(jnp.tanh(hidden) @ layer["down"]))

    value, grads = jax.value_and_grad(loss)(layer)
    return jax.tree.map(lambda weight, grad: weight - grad, layer, grads), value


def rows(chip: str, mesh: dict[str, int] = MESH, precision: Any = None, embed: int = EMBED, batch: int = BATCH) -> Any:
    shapes = {"bias": (embed,), "up": (embed, MLP), "down": (MLP, embed)}
    layer = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    names = {"*.bias": "embed", "*.up": "embed mlp", "*.down": "mlp embed", "*": "batch embed"}
    traced = ir.trace(
        lambda layer, x: step(layer, x, precision),
        layer,
        jax.ShapeDtypeStruct((batch, embed), jnp.float32),
        names=names,
    )
    graph = prepare(traced)
    plan = passes.Plan.by_hand(mesh, {"batch": list(mesh)}, {"embed": list(mesh)}, chip)
    found, explained = sent_rows(place(graph, plan), plan)
    sent: dict[tuple[str, int], int] = {}
    for row in found:
        assert row["bytes"] == F32 or row["mesh_axes"] == list(mesh)
        sent[row["kind"], row["bytes"]] = sent.get((row["kind"], row["bytes"]), 0) + row["count"]
    return sent, {each["reason"] for each in explained}


def test_over_a_whole_slice_of_three_dims_all_is_reduced_everywhere() -> None:
    sent, reasons = rows("v5p")
    assert sent == {
        ("all_gather", MATRIX * BF16): 2,
        ("all_reduce", MATRIX * F32): 2,
        ("all_reduce", EMBED * F32): 2,  # the bias, gathered, and its gradient
        ("all_reduce", F32): 1,
    }
    assert reasons == {HALVED, VECTOR, WHOLE}


def test_over_a_slice_of_two_dims_matrices_are_scattered() -> None:
    sent, reasons = rows("v5e", {"data": 4, "model": 2})
    assert sent[("reduce_scatter", MATRIX * F32)] == 2 and sent[("all_reduce", EMBED * F32)] == 2
    assert reasons == {HALVED, VECTOR}


@pytest.mark.parametrize(("dims", "whole"), [((2, 2), False), ((8, 4), False), ((4, 4), True), ((16, 16), True)])
def test_slices_of_two_dims(dims: tuple[int, int], whole: bool) -> None:
    devices = prod(dims)
    sent, _ = rows("v5e", dict(zip(("data", "model"), dims, strict=True)), embed=16 * devices, batch=devices)
    assert (("reduce_scatter", 16 * devices * MLP * F32) not in sent) is whole


def test_what_is_multiplied_at_a_precision_of_its_own_is_gathered_as_it_is() -> None:
    sent, _ = rows("v5p", precision=jax.lax.Precision.HIGHEST)
    assert sent[("all_gather", MATRIX * F32)] == sent[("all_gather", MATRIX * BF16)] == 1


def sent_over_slices(step: Any, arguments: tuple[Any, ...], names: dict[str, str], *rules: dict[str, list[str]]) -> Any:
    """(kind, mesh axes, bytes) of what is sent on four slices of four, and the reasons."""
    plan = passes.Plan.by_hand({"replica": 4, "data": 4}, *rules, "v5e")
    placed = place(prepare(ir.trace(step, *arguments, names=names)), plan)
    found, explained = sent_rows(placed, plan)
    sent = {(row["kind"], tuple(row["mesh_axes"]), row["bytes"]) for row in found if row["bytes"] > F32}
    return sent, {each["reason"] for each in explained}


def test_over_slices_and_inside_of_them_it_is_one_collective() -> None:
    """A weight whose dims are stored one between slices and one inside: each of the two printed for it follows on the
    other."""

    def update(weight: jax.Array, x: jax.Array) -> jax.Array:
        return weight - jax.grad(lambda weight: jnp.mean(jnp.square(jnp.sin(x) @ jnp.sin(weight))))(weight)

    arguments = jax.ShapeDtypeStruct((EMBED, MLP), jnp.float32), jax.ShapeDtypeStruct((BATCH, EMBED), jnp.float32)
    names = {"weight": "embed mlp", "x": "batch embed"}
    both = ("replica", "data")
    rules = {"batch": ["data", "replica"]}, {"embed": ["replica"], "mlp": ["data"]}
    sent, reasons = sent_over_slices(update, arguments, names, *rules)
    assert {each for each in sent if each[0] != "all_reduce"} == {
        ("all_gather", both, MATRIX * BF16),
        ("reduce_scatter", both, MATRIX * F32),
    }
    assert JOINT in reasons


def test_between_slices_alone_a_vector_is_reduced_in_place_of_a_gather() -> None:
    def shift(bias: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return bias * 2.0, x + bias

    arguments = jax.ShapeDtypeStruct((EMBED,), jnp.float32), jax.ShapeDtypeStruct((BATCH, EMBED), jnp.float32)
    names = {"bias": "embed", "x": "batch embed"}
    sent, reasons = sent_over_slices(shift, arguments, names, {"batch": ["data"]}, {"embed": ["replica"]})
    assert sent == {("all_reduce", ("replica",), EMBED * F32)} and reasons == {VECTOR}


def test_nothing_is_sent_of_what_is_one_number_everywhere() -> None:
    """The zeros that rows of a gradient are added to."""

    def update(table: jax.Array, rows: jax.Array, x: jax.Array) -> jax.Array:
        return table - jax.grad(lambda table: jnp.mean(table[rows] * x))(table)

    shapes = ((MLP, EMBED), jnp.float32), ((BATCH,), jnp.int32), ((BATCH, EMBED), jnp.float32)
    arguments = tuple(jax.ShapeDtypeStruct(*each) for each in shapes)
    names = {"table": "vocab embed", "rows": "batch", "x": "batch embed"}
    rules = {"batch": ["data", "replica"], "vocab": ["data"]}, {"embed": ["replica"]}
    plan = passes.Plan.by_hand({"replica": 4, "data": 4}, *rules, "v5e")
    placed = place(prepare(ir.trace(update, *arguments, names=names)), plan)
    makers = {value.id: node for node in placed.nodes for value in node.outputs}
    gathers = [node for node in placed.nodes if node.kind == "all_gather"]
    of_zeros = [node for node in gathers if makers.get(node.inputs[0].id, node).kind == "broadcast"]
    sent, _ = sent_over_slices(update, arguments, names, *rules)
    assert len(of_zeros) == 1
    assert ("all_gather", of_zeros[0].words("mesh"), of_zeros[0].count("bytes")) not in sent
