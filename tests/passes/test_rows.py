"""What kernels take row by row: who keeps it so, the room that it takes, and the bytes that are moved."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
from step_models import shaped

import haliax as hax
import ir
import passes
from haliax.nn.attention import AttentionMask, attend
from ir.graph import Graph, Node
from passes.hardware.chip import CHIPS
from passes.hardware.memory import ChipMemory
from passes.pipeline import prepare
from passes.planner.memory import Entry
from passes.planner.moved import Moved, Moving
from passes.planner.rows import ALWAYS, Rows, kept_by_rows, moved_by_rows
from passes.sharding.roles import Roles, assign_roles
from passes.sharding.rules import ShardingRules

V5P = CHIPS["v5p"].memory
MESH = {"data": 2, "model": 2}
BATCH, POSITIONS = {"batch": "data", "kv_heads": "model"}, {"batch": "data", "position": "model"}


@cache
def layers(length: int = 128, size: int = 16) -> tuple[Graph, Roles]:
    """The gradient of a loop over layers, each a product whose result is query, key and value of an attention."""

    def step(layers, x):
        def loss(layers):
            def layer(x, weight):
                query = hax.dot(x, weight, axis="embed")
                key = query.rename({"position": "key_position"})
                mask = AttentionMask(causal=True)
                found = attend(query, key, key, Key="size", KPos="key_position", mask=mask)
                return hax.dot(found, weight, axis=("kv_heads", "size")), None

            return hax.sum(hax.scan(layer, "layers")(x, layers)[0]).scalar()

        return jax.grad(loss)(layers)

    x = shaped("batch position embed", 4, length, 64)
    graph = prepare(ir.trace(step, shaped("layers embed kv_heads size", 3, 64, 2, size), x))
    return graph, assign_roles(graph)


def attentions(graph: Graph) -> list[Node]:
    return [node for node in graph.walk() if node.kind == "attention"]


def names_of(graph: Graph, found: dict[int, Rows]) -> set[tuple[str | None, ...]]:
    values = {value.id: value for node in graph.walk() for value in (*node.value_inputs, *node.outputs)}
    return {tuple(dim.name for dim in values[number].type.dims) for number in found}


def test_what_a_kernel_reads_and_stacks_of_it_are_kept_by_rows() -> None:
    graph, roles = layers()
    kept = names_of(graph, kept_by_rows(graph, roles, V5P))
    query, key = ("batch", "position", "kv_heads", "size"), ("batch", "key_position", "kv_heads", "size")
    assert {query, key, ("layers", *key)} <= kept
    assert not any("embed" in names for names in kept)


@pytest.mark.parametrize("chip", [CHIPS["h100"].memory, ChipMemory(tile=(8, 128))], ids=["no tiles", "no kernel"])
def test_nothing_is_where_no_kernel_takes_rows(chip: ChipMemory) -> None:
    graph, roles = layers()
    assert not kept_by_rows(graph, roles, chip)
    assert not moved_by_rows(graph, roles, chip)


def test_nothing_is_where_the_kernel_cannot_run() -> None:
    graph, roles = layers(96)
    assert not kept_by_rows(graph, roles, V5P)
    assert not moved_by_rows(graph, roles, V5P)


def test_the_result_of_a_kernel_moves_in_rows_and_is_not_kept_so() -> None:
    graph, roles = layers()
    kept, moved = kept_by_rows(graph, roles, V5P), moved_by_rows(graph, roles, V5P)
    results = [value.id for node in attentions(graph) if not node.fn for value in node.outputs]
    assert results and not any(number in kept for number in results) and all(number in moved for number in results)
    made = [node for node in graph.walk() if node.kind == "contract" and node.outputs[0].type.names[-1:] == ("size",)]
    assert made and any(node.outputs[0].id in moved for node in made)


@pytest.mark.parametrize("rules", [BATCH, POSITIONS], ids=["batch", "positions"])
@pytest.mark.parametrize(("size", "more"), [(16, 8), (128, 1)])
def test_an_attention_moves_whole_lanes(rules, size: int, more: int) -> None:
    graph, roles = layers(size=size)
    plan = passes.Plan.by_hand(MESH, rules, hardware="v5p")
    bodies = [body for node in graph.walk() for body in node.bodies]
    moving = Moving.of(graph, roles, V5P)
    looked_at = 0
    for body in bodies:
        for node, moved in zip(body.nodes, moving.in_scope(body), strict=True):
            for each in [each for each in moved if isinstance(each, Moved)] if node.kind == "attention" else []:
                if each.value in (*node.inputs[:3], *node.outputs) and each.value.type.names[-1:] == ("size",):
                    plain = replace(each, in_rows=False).bytes(plan.rules, V5P)
                    assert each.bytes(plan.rules, V5P) == plain * more
                    looked_at += 1
    assert looked_at >= 6


def test_a_stack_of_rows_takes_whole_lanes_or_stays_on_the_chip() -> None:
    """`f32[4,16,128,4,16]{4,2,3,1,0:T(8,128)}` of gpt2_nano on v5p, eight times its bytes; of a quarter of the rows it
    takes 4 MiB, and was on the chip."""
    space = (("batch", 16), ("kv_heads", 4), ("position", 128))
    rows = Rows(("position",), space)
    dims = (("layers", 4), ("batch", 16), ("position", 128), ("kv_heads", 4), ("size", 16))
    stack, plain = Entry(dims, 4, "compute", by_rows=rows), Entry(dims, 4, "compute")
    whole = passes.Plan.by_hand(MESH, {}).rules
    assert plain.local(whole, V5P) == 2**21
    assert stack.local(whole, V5P) == 2**24
    assert stack.local(passes.Plan.by_hand(MESH, {"batch": ("data", "model")}).rules, V5P) == 0
    cut = passes.Plan.by_hand(MESH, {"position": "model"}).rules
    assert stack.local(cut, V5P) == plain.local(cut, V5P)


def test_many_plans_at_once_are_those_one_by_one() -> None:
    rows = Rows(("position",), (("batch", 16), ("position", 128)))
    dims = (("batch", 16), ("position", 128), ("kv_heads", 64), ("size", 16))
    masks = np.arange(4)
    mesh = passes.Plan.by_hand(MESH, {}).mesh
    for by_rows in (None, rows, ALWAYS):
        entry = Entry(dims, 4, "compute", by_rows=by_rows)
        for name in ("batch", "position"):
            whole = ShardingRules(mesh, (name,), {name: masks}, {})
            found = np.broadcast_to(entry.local(whole, V5P), masks.shape)
            for mask, bytes in zip(masks.tolist(), found.tolist(), strict=True):
                one = ShardingRules(mesh, (name,), {name: mask}, {})
                assert bytes == entry.local(one, V5P)
