"""Which kernel computes an attention on each device: what the planner says is what is lowered, and what is priced."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from step_models import shaped

import haliax as hax
import haliax._compat
import ir
import passes
from haliax.nn.attention import AttentionMask, attend
from ir.graph import Graph, Node
from ir.ops import op_of
from ir.text.parse import parse
from ir.text.print import print_graph
from passes.hardware.chip import CHIPS
from passes.pipeline import prepare
from passes.planner.cost import operation_seconds
from passes.planner.problem import Problem
from passes.sharding.roles import assign_roles

CAUSAL = AttentionMask(causal=True)
MESH = {"data": 2, "model": 2}
HEADS, POSITIONS = {"batch": "data", "kv_heads": "model"}, {"batch": "data", "position": "model"}


def stepped(length: int = 128, dtype=jnp.bfloat16, mask=CAUSAL, gradient: bool = False, batch: int = 2, **options):
    """A step that is one attention, or its gradient, and its arguments."""

    def step(q, k, v):
        function = partial(attend, Key="size", KPos="key_position", mask=mask, **options)
        if not gradient:
            return function(q, k, v)
        return jax.grad(lambda arrays: hax.sum(function(*arrays)).scalar().astype(jnp.float32))([q, k, v])

    query = shaped("batch position kv_heads group size", batch, length, 2, 2, 128, dtype=dtype)
    key = shaped("batch key_position kv_heads size", batch, length, 2, 128, dtype=dtype)
    return step, (query, key, key)


def traced(*args, **options) -> Graph:
    step, arguments = stepped(*args, **options)
    return prepare(ir.trace(step, *arguments))


def attentions(graph: Graph) -> list[Node]:
    return [node for node in graph.walk() if node.kind == "attention"]


@pytest.mark.parametrize(
    "options, rules, kernel",
    [
        ({}, HEADS, True),
        ({"dtype": jnp.float32, "mask": AttentionMask(causal=True, window=100)}, HEADS, True),
        ({}, POSITIONS, False),
        ({"length": 96}, HEADS, False),
        ({"mask": AttentionMask(causal=True, prefix=3)}, HEADS, False),
        ({"backend": "blockwise"}, HEADS, False),
    ],
)
def test_what_is_lowered_for_a_tpu_is_what_the_planner_says(options, rules, kernel) -> None:
    if haliax._compat.splash_attention() is None:
        pytest.skip("this version of JAX has no Splash Attention")
    graph = traced(**options)
    (node,) = attentions(graph)
    plan = passes.Plan.by_hand(MESH, rules)
    replicated = op_of(node).by_kernel(node, "splash")
    layout = plan.rules.layout({"position": node.inputs[0].type.size_of("position")}, "compute")
    said = replicated is not None and not any(layout.get(name, 0) for name in replicated)
    assert said == kernel
    devices = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), tuple(MESH))
    step = passes.lower(graph, plan, devices=devices)
    lowered = step.trace(*stepped(**options)[1]).lower(lowering_platforms=("tpu",)).as_text()
    assert ("tpu_custom_call" in lowered) == kernel


def seconds(graph: Graph, rules, chip: str) -> list[float]:
    """Of each attention under a plan."""
    plan, roles = passes.Plan.by_hand(MESH, rules), assign_roles(graph)
    return [float(operation_seconds(node, (), roles, plan.rules, CHIPS[chip])) for node in attentions(graph)]


def test_scores_are_priced_where_no_kernel_computes_them() -> None:
    """A product of 2 · 2 · 128 operations and 16 bytes of scores a pair; of 4 × 4 blocks, ten are seen."""
    graph = traced(2048, gradient=True)
    pairs = 2 * 2 * 2 * 2048**2 / 4
    sums = 4 * 16 * 128 / 2048  # a pair's part of four passes over the sums so far, for each block of 512 keys
    for chip in (CHIPS["v5e"], CHIPS["v5p"]):
        product = 2 * 128 * pairs / chip.flops
        assert seconds(graph, HEADS, chip.name) == pytest.approx([2 * 10 / 16 * product, 9 * 10 / 16 * product])
        spilled = [(12 + 4 + sums) * pairs, (20 + 10 + sums) * pairs]
        taken = [each / chip.traffic_rate for each in spilled]
        if chip.name == "v5e":  # its vector memory has room for them
            taken = [2 * product, 5 * product]
        assert seconds(graph, POSITIONS, chip.name) == pytest.approx(taken)
    halves, whole = seconds(graph, HEADS, "h100"), seconds(traced(2048, jnp.float32, gradient=True), HEADS, "h100")
    assert halves[1] / halves[0] == pytest.approx(7 / 2)
    assert whole[0] == pytest.approx(pairs * (12 + 8 + sums) / CHIPS["h100"].traffic_rate)


def test_short_windows_leave_blocks_out() -> None:
    """Of 8 × 8 blocks of 128, each row has its own and the one before."""
    graph = traced(1024 + 128, mask=AttentionMask(causal=True, window=64))
    (node,) = attentions(graph)
    whole = op_of(traced_node := attentions(traced(1024 + 128, mask=None))[0]).kernel_flops(traced_node, "splash")
    assert op_of(node).kernel_flops(node, "splash") == pytest.approx(whole * (9 + 8) / 81)


def test_a_text_says_the_same() -> None:
    graph = traced(256, gradient=True)
    again = attentions(parse(print_graph(graph)))
    assert len(again) == 2
    for node, read in zip(attentions(graph), again, strict=True):
        op = op_of(node)
        for kernel in ("splash", "cudnn"):
            assert op.by_kernel(read, kernel) == op.by_kernel(node, kernel)
            assert op.kernel_flops(read, kernel) == op.kernel_flops(node, kernel)
        assert op.spilled(read) == op.spilled(node)


def test_a_search_prices_it_as_a_report_does() -> None:
    """A plan that is searched is not one that would run without the kernel it is priced with."""
    graph = traced(2048, gradient=True, batch=1)
    plan = passes.plan(graph, {"model": 2}, "v5e")
    assert plan.compute["kv_heads"] == ("model",), plan.compute
    cost, _ = Problem.of(graph, plan.mesh, replace(CHIPS["v5e"])).price(plan.rules)
    assert float(cost.compute) == pytest.approx(plan.report(graph)["time"]["compute"])
