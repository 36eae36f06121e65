"""What operations move: arrays as they compute with them, and what is copied for lookups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_models import shaped

import haliax as hax
import ir
import passes
from haliax.nn.attention import attend
from ir.graph import Graph, Node
from passes.hardware.chip import CHIPS
from passes.hardware.memory import ChipMemory
from passes.pipeline import prepare
from passes.planner.moved import Moved, Moving, Turned
from passes.sharding.roles import assign_roles
from passes.sharding.rules import ShardingRules

V5E, V5P = CHIPS["v5e"].memory, CHIPS["v5p"].memory
MESH = {"data": 2, "model": 2}
FSDP = passes.Plan.by_hand(MESH, {"batch": ("data", "model")}, {"embed": ("data", "model")}).rules
TENSOR = passes.Plan.by_hand(MESH, {"batch": "data", "mlp": "model"}).rules


def update(rows: int = 32, embed: int = 64, mlp: int = 256) -> Graph:
    """One weight that a step is given, its gradient and its update."""

    def step(weight: jax.Array, x: jax.Array) -> jax.Array:
        return weight - jax.grad(lambda weight: jnp.sum(jnp.tanh(x @ weight)))(weight)

    array = jax.ShapeDtypeStruct
    names = {"weight": "embed mlp", "x": "batch embed"}
    return prepare(ir.trace(step, array((embed, mlp), jnp.float32), array((rows, embed), jnp.float32), names=names))


def moved_by(graph: Graph, chip: ChipMemory, of: Callable[[Node], bool]) -> list[list[Moved]]:
    """What each such operation of a graph moves."""
    moving = Moving.of(graph, assign_roles(graph), chip)
    scopes = [graph, *[body for node in graph.walk() for body in node.bodies]]
    pairs = [pair for scope in scopes for pair in zip(scope.nodes, moving.in_scope(scope), strict=True)]
    return [[each for each in moved if isinstance(each, Moved)] for node, moved in pairs if of(node) and moved]


def bytes_by_names(moved: list[Moved], rules: ShardingRules, chip: ChipMemory) -> dict[str, int]:
    return {" ".join(sorted(map(str, each.value.type.names))): int(each.bytes(rules, chip)) for each in moved}


def is_product(node: Node) -> bool:
    return node.kind == "contract"


def test_a_product_reads_a_whole_weight_and_writes_a_whole_gradient() -> None:
    """Of weights that are stored over all devices, gathered for it and scattered behind it; the update reads and writes
    shards."""
    graph = update()
    forward, backward = moved_by(graph, V5P, is_product)
    whole, rows, results = 64 * 256 * 4, 32 * 64 * 4 // 4, 32 * 256 * 4 // 4
    assert bytes_by_names(forward, FSDP, V5P) == {"batch embed": rows, "embed mlp": whole, "batch mlp": results}
    assert bytes_by_names(backward, FSDP, V5P) == {"batch embed": rows, "batch mlp": results, "embed mlp": whole}
    (updated,) = moved_by(graph, V5P, lambda node: node.phase == "update")
    assert [each.bytes(FSDP, V5P) for each in updated] == [whole // 4] * 3


def test_where_temporaries_stay_on_the_chip_a_product_waits_for_what_the_step_is_given() -> None:
    """As it lies: what was gathered of it is on the chip."""
    forward, backward = moved_by(update(), V5E, is_product)
    rows = 32 * 64 * 4
    assert bytes_by_names(forward, FSDP, V5E) == {"batch embed": rows // 4, "embed mlp": 0, "batch mlp": 0}
    half = 64 * 256 * 4 // 2
    assert bytes_by_names(forward, TENSOR, V5E) == {"batch embed": rows // 2, "embed mlp": half, "batch mlp": 0}
    assert bytes_by_names(backward, TENSOR, V5E) == {"batch embed": rows // 2, "batch mlp": 0, "embed mlp": 0}


@pytest.mark.parametrize(("chip", "waits"), [(2 * 2**20, False), (2 * 2**20 - 1, True), (0, True)])
def test_it_waits_for_what_has_no_room_beside_as_much_of_the_next(chip: int, waits: bool) -> None:
    graph = update(rows=2**10, mlp=2**10)
    forward, _ = moved_by(graph, replace(V5E, on_chip=chip), is_product)
    found = bytes_by_names(forward, FSDP, replace(V5E, on_chip=chip))
    assert found["batch mlp"] == 2**20 * waits
    assert FSDP.mesh.devices == 4


def test_of_what_a_loop_stacks_all_must_have_room() -> None:
    """The input of each of four layers, which the backward pass reads again."""

    def step(layers: hax.NamedArray, x: hax.NamedArray) -> Any:
        def loss(layers: hax.NamedArray) -> Any:
            def layer(x: hax.NamedArray, weight: hax.NamedArray) -> Any:
                return hax.tanh(hax.dot(x, weight, axis="embed")).rename({"out": "embed"}), None

            return hax.sum(hax.scan(layer, "layers")(x, layers)[0]).scalar()

        return jax.grad(loss)(layers)

    graph = prepare(ir.trace(step, shaped("layers embed out", 4, 64, 64), shaped("batch embed", 128, 64)))
    whole = passes.Plan.by_hand(MESH, {}).rules
    size = 128 * 64 * 4
    waited = set[int]()
    for on_chip in (2 * size, 8 * size):
        chip = replace(V5E, on_chip=on_chip)
        stacked = Moving.of(graph, assign_roles(graph), chip).stacked
        products = moved_by(graph, chip, lambda node: is_product(node) and node.phase == "backward")
        inputs = [each for moved in products for each in moved if each.value.id in stacked]
        taken = {int(each.bytes(whole, chip)) for each in inputs if "batch" in each.value.type.names}
        assert len(taken) == 1
        waited |= taken
    assert waited == {0, size}


def test_many_plans_at_once_are_those_one_by_one() -> None:
    masks = np.arange(4)
    mesh = FSDP.mesh
    for chip in (V5E, V5P, CHIPS["h100"].memory):
        for moved in moved_by(update(), chip, lambda node: True):
            for each in moved:
                many = ShardingRules(mesh, ("batch", "embed"), {"batch": masks}, {"embed": 3 - masks})
                found = np.broadcast_to(each.bytes(many, chip), masks.shape)
                for mask, bytes in zip(masks.tolist(), found.tolist(), strict=True):
                    one = ShardingRules(mesh, ("batch", "embed"), {"batch": mask}, {"embed": 3 - mask})
                    assert bytes == each.bytes(one, chip)


def test_an_attention_moves_its_operands_as_it_computes_with_them() -> None:
    """Where keys have the mesh axis in it, every device reads all queries, which are sharded between operations."""
    query, key = (
        shaped("batch position kv_heads size", 4, 128, 2, 16),
        shaped("batch key_position kv_heads size", 4, 128, 2, 16),
    )
    graph = prepare(ir.trace(lambda q, k: attend(q, k, k, Key="size", KPos="key_position"), query, key))
    plan = passes.Plan.by_hand(MESH, {"batch": "data", "key_position": "model", "position": "model"}, hardware="v5p")
    (moved,) = moved_by(graph, V5P, lambda node: node.kind == "attention" and not node.fn)
    (read,) = [each for each in moved if each.value == each.access.node.inputs[0]]
    assert read.bytes(plan.rules, V5P) == 2 * 128 * 2 * 128 * 4


def test_a_dim_that_is_read_under_another_name_is_sharded_as_that_one_is() -> None:
    def step(x: hax.NamedArray) -> hax.NamedArray:
        return x.rename({"position": "key_position"}) * 2.0

    graph = prepare(ir.trace(step, shaped("batch position", 8, 128)))
    rules = passes.Plan.by_hand(MESH, {"position": "data", "key_position": ("data", "model")}).rules
    every = [each for moved in moved_by(graph, V5P, lambda node: True) for each in moved]
    (read,) = [each for each in every if each.value in graph.inputs]
    assert read.access.node.kind == "rename"
    assert read.bytes(rules, V5P) == 8 * 128 * 4 // 4


@pytest.mark.parametrize(("embed", "copied"), [(64, True), (768, False), (1600, True)])
def test_a_table_whose_rows_are_no_whole_lanes_is_copied_for_lookups_and_their_gradient(
    embed: int, copied: bool
) -> None:
    """It lies with 50304 along the lanes, and its rows are filled up to whole ones in the copy."""

    def step(table: jax.Array, tokens: jax.Array) -> jax.Array:
        return table - jax.grad(lambda table: jnp.sum(jnp.tanh(table[tokens])))(table)

    array = jax.ShapeDtypeStruct
    names = {"table": "vocab embed", "tokens": "batch"}
    arguments = array((50304, embed), jnp.float32), array((1024,), jnp.int32)
    graph = prepare(ir.trace(step, *arguments, names=names))
    roles, halved = assign_roles(graph), passes.Plan.by_hand({"data": 2}, {"vocab": "data"}).rules
    whole = -(-embed // 128) * 128
    for chip, counts in ((V5P, [1, 2]), (CHIPS["v5e"].memory, [1, 0]), (CHIPS["h100"].memory, [0, 0])):
        moved = Moving.of(graph, roles, chip).in_scope(graph)
        found = [
            [each for each in of_node if isinstance(each, Turned)]
            for node, of_node in zip(graph.nodes, moved, strict=True)
            if node.kind in ("gather", "scatter")
        ]
        assert [len(each) for each in found] == counts
        for turned in (each for of_node in found for each in of_node):
            for rules, vocab in ((passes.Plan.by_hand({"data": 2}, {}).rules, 50304), (halved, 25152)):
                assert turned.seconds(rules, chip) == pytest.approx(vocab * whole * 4 / 0.75e12 if copied else 0)
