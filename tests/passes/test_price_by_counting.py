"""The price of a plan, against what is counted in the partitioned graph: by another way, with formulas of its own.

The search adds up tables that it makes of sharding rules. Here no rule is asked and no table made: the plan is carried
out, and each collective and each product of the text that comes of it is priced where it stands.
"""

from __future__ import annotations

import importlib
import random
import warnings
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from random_plans import prepared_program
from step_models import raw_gpt
from typeguard import suppress_type_checks
from walked_kernels import kernels

import ir
import passes
from ir.graph import Graph, Node
from ir.ops import entered, op_of
from ir.ops.op import params_of
from ir.types import item_size
from passes import pipeline
from passes.hardware.chip import CHIPS, Chip
from passes.planner.candidate import Candidate
from passes.planner.cost import step_seconds
from passes.planner.problem import Problem
from passes.sharding.mesh import DeviceMesh
from passes.sharding.state import STATE_KINDS
from passes.stage import Stage

MESHES = ({"data": 4}, {"data": 2, "model": 2}, {"replica": 2, "data": 2, "model": 2})
HOP = 1e-6
KERNEL = 1.2e-6
PLANS = 3
"""Of each graph."""
STORED = (STATE_KINDS, ("gradients", "optimizer"), ("optimizer",), ("parameters", "optimizer"), ())
"""Kinds of state that plans store over storage axes."""


def collective_seconds(
    kind: str, axes: list[str], volume: float, mesh: dict[str, int], chip: Chip, awaited: bool
) -> float:
    """Of meshes with at most four chips on an island: on a torus each doubling is one more link, and one more hop."""
    slow = {axis: axis == "replica" and not chip.switched for axis in mesh}
    near, hosts = (prod(mesh[axis] for axis in axes if slow[axis] is each) for each in (False, True))
    links = 1 if chip.switched else max(1, near.bit_length() - 1)
    latency = 0.0 if chip.switched else (near.bit_length() - 1) * HOP
    launch = (10e-6 if chip.switched and near > 1 else 0.0) + (10e-6 if hosts > 1 else 0.0)
    if not awaited and (kind == "all_reduce" or (chip.switched and kind in ("all_gather", "reduce_scatter"))):
        share = max(1 / 8, min(1.0, volume / (30e6 if chip.switched else 8e6)))
        launch, latency = launch * share, latency * share
    far = chip.slow_per_host / chip.host
    if kind == "permute":
        return launch + max(latency, volume / (far if hosts > 1 else chip.link * links))
    first = max(latency, (near - 1) / near * volume / (chip.link * links))
    after = (hosts - 1) / hosts * volume / near / far
    if kind == "all_to_all":
        return launch + first / (near if chip.switched else 4) + after / hosts
    return launch + {"all_gather": 1, "reduce_scatter": 1, "all_reduce": 2}[kind] * (first + after)


def partitioned(graph: Graph, plan: passes.Plan) -> Graph:
    """The program of the plan before collectives are moved, joined, left to be made once, or left out because a later
    one undoes them: of that the search knows nothing, so a price of it is an upper bound there."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("ignore", passes.PlanWarning)
        patched.setattr(importlib.import_module("passes.partition"), "without_detours", lambda graph, _: graph)
        return pipeline.run_one("partition", Stage(graph, plan.mesh, plan.hardware, plan)).graph


def counted(graph: Graph, plan: passes.Plan, chip: Chip) -> float:
    """Seconds of a step, of the text of its plan."""
    mesh, placed = plan.mesh.as_dict(), partitioned(graph, plan)
    compute = _operations(graph, placed, mesh, chip, _State(graph, placed))
    compute += 2 * _written(placed, 1) / chip.traffic_rate * (not chip.switched)
    compute += KERNEL * _regrouped(placed) * (not chip.switched)
    exposed, hidden = _sent(placed, 1, mesh, chip, read_in_full(placed))
    return compute + exposed + hidden - min(0.8 * hidden, compute)


def _sent(graph: Graph, times: int, mesh: dict[str, int], chip: Chip, wide: set[int], slices: Any = ()) -> Any:
    total = np.zeros(2)
    summed: set[int] = set()
    sliced = {*slices}
    multiplied = False
    for node in _in_pairs(graph, chip):
        resharded = (op_of(node).communicates or node.kind == "reshard") and node.value_inputs[0].id in summed
        if (node.kind == "reduce" and node.fn == "sum") or resharded:
            summed.add(node.outputs[0].id)
        if (op_of(node).communicates or node.kind == "reshard") and node.value_inputs[0].id in sliced:
            sliced.add(node.outputs[0].id)
        if op_of(node).communicates:
            awaited = str(node.attrs["moving"]) == "activation"
            kind, volume = node.kind, node.count("bytes")
            if not chip.switched:
                alone = _alone(node, mesh, node.value_inputs[0].id in sliced)
                kind, volume = _by_libtpu(node, mesh, wide, node.value_inputs[0].id in summed, alone)
            seconds = collective_seconds(kind, list(node.words("mesh")), volume, mesh, chip, awaited) if kind else 0.0
            still = seconds if awaited else 0.0
            inside = [axis for axis in node.words("mesh") if axis != "replica"]
            if kind and inside and not awaited and not chip.switched:
                hidden = kind == "all_gather" and node.attrs["moving"] == "parameter" and multiplied
                still = collective_seconds(kind, inside, 0.0 if hidden else volume, mesh, chip, awaited)
            total += np.array([still, seconds - still]) * times
        for body in entered(node):
            total += _sent(body, times * node.count("trips", 1), mesh, chip, wide, _slices(node))
        multiplied = not entered(node) and (multiplied or node.kind in ("contract", "attention"))
    return total


def _slices(loop: Node) -> set[int]:
    """What a loop reads one slice of in each trip, by its number inside."""
    return {inside.id for _, feeds in op_of(loop).body_operands(loop) for _, inside, scanned in feeds if scanned}


def _alone(node: Node, mesh: dict[str, int], sliced: bool) -> bool:
    """Whether what is gathered is in tiles of one row: two of its dims are longer than one, a one is between them or is
    that of the layers, and the shard lies with the gathered one along the lanes."""
    sizes = [
        [dim.size // prod(mesh[axis] for axis in dim.mesh) for dim in value.type.dims]
        for value in (node.value_inputs[0], node.outputs[0])
    ]
    cut = [i for i, (before, after) in enumerate(zip(*sizes, strict=True)) if before < after]
    rest = [i for i, size in enumerate(sizes[1]) if size > 1 and i not in cut]
    if node.kind != "all_gather" or len(cut) != 1 or len(rest) != 1 or sizes[1][rest[0]] > 128:
        return False
    (at,), (other,) = cut, rest
    shard, size = sizes[0][at], sizes[1][other]
    along, behind = -(-shard // 128) * size, -(-size // 128) * shard
    lanes = along < behind or (along == behind and other < at)
    return other > at + 1 or (sliced and shard % 128 > 0 and lanes)


def _by_libtpu(node: Node, mesh: dict[str, int], wide: set[int], summed: bool, alone: bool) -> tuple[str, float]:
    """Kind and bytes of what a TPU sends: vectors and, over 2 x 2 x 2 chips, what would be scattered are reduced, and
    what only products read is gathered in half."""
    (given,), (made,), kind, over = node.value_inputs, node.outputs, node.kind, set(node.words("mesh"))
    here = [dim.size // prod(mesh[axis] for axis in dim.mesh) for dim in made.type.dims]
    there = prod(dim.size // prod(mesh[axis] for axis in dim.mesh) for dim in given.type.dims)
    line, near = max(here, default=1) == prod(here), "replica" not in over
    if kind == "reduce_scatter" and ((line and near) or over == {"data", "sequence", "model"}):
        return "all_reduce", node.count("bytes")
    if kind == "reduce_scatter" and near and not _fits(node, mesh, over, summed):
        return "all_reduce", node.count("bytes")
    if kind == "all_gather" and line and (near or over == {"replica"}) and there % 128:
        return "all_reduce", node.count("bytes")
    if kind == "all_gather" and made.id not in wide and over != {"replica"} and not alone:
        return kind, node.count("bytes") / 2
    return kind, node.count("bytes")


def _fits(node: Node, mesh: dict[str, int], over: set[str], summed: bool) -> bool:
    """Whether shards are an even number of whole tiles of 8 x 128, or whole lanes, in a layout whose
    tiles are more than half full; on four chips in a square of 2 x 2 halves of them. Where three dims have none, one in
    which a shard takes less room than all of it in another. Of a sum in the layout of least room, and with a dim of one
    element, where lanes alone are cut."""
    (given,), (made,) = node.value_inputs, node.outputs
    sides = [
        (before.size // prod(mesh[axis] for axis in before.mesh), after.size // prod(mesh[axis] for axis in after.mesh))
        for before, after in zip(given.type.dims, made.type.dims, strict=True)
        if before.size > 1
    ]
    rows = 8 * 4 // item_size(given.type.dtype) * (2 if prod(mesh[axis] for axis in over) == 4 else 1)
    ways: list[tuple[int, int, int, bool]] = []
    for i, (lanes, left) in enumerate(sides):
        for j, (high, low) in enumerate(sides):
            if i != j:
                rest = prod(size for k, (size, _) in enumerate(sides) if k not in (i, j))
                tiles = low // rows * -(-lanes // 128) * rest
                cut = left % 128 == 0 if left != lanes else low == high or (low % rows == 0 and tiles % 2 == 0)
                ways.append((-(-lanes // 128) * 128 * _filled(high) * rest, -i, -j, cut))
    room, lane, _, cut = min(ways)
    (at,) = [k for k, (high, low) in enumerate(sides) if high != low]
    if any(high == 1 for k, (high, _) in enumerate(sides) if k != at):
        return lane == -at and cut
    if summed:
        return any(each for least, *_, each in ways if least == room)
    most = 2 * prod(size for size, _ in sides)
    if len(sides) > 2 and room >= most:
        (high, low), last = sides[at], at == len(sides) - 1
        tied = [cut for all_of_it, _, row, cut in ways if all_of_it * low == room * high and row == -at and not last]
        return any(tied) or any(cut for all_of_it, *_, cut in ways if all_of_it * low < room * high)
    return any(cut for room, *_, cut in ways if room < most)


def _filled(rows: int) -> int:
    return next(each for each in (1, 2, 4, 8, -(-rows // 8) * 8) if each >= rows)


def _in_pairs(graph: Graph, chip: Chip) -> list[Node]:
    """The nodes of a body, those as one of which one collective is between slices and one inside, and without gathers
    of a literal."""
    nodes: list[Node] = []
    literal = {node.outputs[0].id for node in graph.nodes if node.outputs and _is_literal(node)}
    for node in graph.nodes:
        read = {value.id for value in node.value_inputs}
        if not chip.switched and op_of(node).communicates and read <= literal:
            literal.update(value.id for value in node.outputs)
            if node.kind == "all_gather":
                continue
        before = next((each for each in nodes if read & {value.id for value in each.outputs}), None)
        if not chip.switched and before is not None and before.kind == node.kind:
            first, then = before.words("mesh"), node.words("mesh")
            slow = ("replica" in first, "replica" in then)
            made = before.outputs[0].id
            alone = sum(made in {value.id for value in each.value_inputs} for each in graph.nodes) == 1
            kept = any(isinstance(each, ir.Value) and each.id == made for each in graph.outputs)
            wanted = {"all_gather": (True, False), "reduce_scatter": (False, True)}.get(node.kind)
            if alone and not kept and slow == wanted:
                size = max(before.count("bytes"), node.count("bytes"))
                attrs = {**node.attrs, "mesh": (*first, *then), "bytes": size}
                nodes.remove(before)
                node = replace(node, inputs=before.inputs, attrs=attrs)
        nodes.append(node)
    return nodes


def _written(graph: Graph, times: int) -> float:
    """Bytes that each device of a TPU writes, to read them, in place of gathers of a literal."""
    literal = {node.outputs[0].id for node in graph.nodes if node.outputs and _is_literal(node)}
    total = 0.0
    for node in graph.nodes:
        if op_of(node).communicates and {value.id for value in node.value_inputs} <= literal:
            literal.update(value.id for value in node.outputs)
            total += node.count("bytes") * times if node.kind == "all_gather" else 0
        for body in entered(node):
            total += _written(body, times * node.count("trips", 1))
    return total


def _regrouped(graph: Graph) -> int:
    """How often each device of a TPU gathers or scatters, which takes an operation besides what is sent."""
    inside = [node.count("trips", 1) * _regrouped(body) for node in graph.nodes for body in entered(node)]
    return sum(inside) + sum(node.kind in ("all_gather", "reduce_scatter") for node in graph.nodes)


def _is_literal(node: Node) -> bool:
    return node.kind in ("broadcast", "map", "reshape") and not node.value_inputs


def read_in_full(graph: Graph) -> set[int]:
    """The values that something else than a product of float32 at the default precision reads, or reads through what
    only brings them elsewhere; others are not of float32."""
    full = {value.id for value in graph.values() if value.type.dtype != "float32"}
    bodies = [graph, *[body for node in graph.walk() for body in node.bodies]]
    full |= {each.id for body in bodies for each in body.outputs if isinstance(each, ir.Value)}
    for node in reversed([node for body in bodies for node in body.nodes]):
        if not (entered(node) or node.kind in _PLACED):
            plain = node.kind in ("contract", "conv") and _precision(node) is None
            full |= set() if plain else {value.id for value in node.value_inputs}
    for _ in range(len(bodies) + 50):  # until nothing comes to it
        before = len(full)
        for node in reversed([node for body in bodies for node in body.nodes]):
            if node.kind in _PLACED:
                waits = node.value_inputs[1:] if node.kind == "delay" else ()
                full |= {value.id for value in waits}
                full |= {node.inputs[0].id} if node.outputs[0].id in full else set()
            for _, feeds in op_of(node).body_operands(node) if entered(node) else ():
                full |= {each.id for each, inside, _ in feeds if isinstance(each, ir.Value) and inside.id in full}
        if len(full) == before:
            return full
    raise AssertionError


_PLACED = ("all_gather", "all_to_all", "permute", "reshard", "delay")


def _precision(node: Node) -> Any:
    return params_of(node).get("precision")


def _shards(dims: Any, mesh: dict[str, int]) -> int:
    return prod(mesh[axis] for axis in {axis for dim in dims for axis in dim.mesh})


class _State:
    """What a step is given, and what loops read of that: how it lies before any operation reads it."""

    def __init__(self, graph: Graph, placed: Graph) -> None:
        local = {value.id: value for value in placed.values()}
        numbers = {value.id for value in graph.inputs}
        loops = [node for node in graph.walk() if entered(node)]
        for node in loops:
            carried = {each.id for each, _ in op_of(node).carries(node)}
            for _, feeds in op_of(node).body_operands(node):
                read = {own.id for each, own, _ in feeds if isinstance(each, ir.Value) and each.id in numbers}
                numbers |= read - carried
        self.lies = {number: [dim.mesh for dim in local[number].type.dims] for number in numbers}

    def stays(self, value: Any, there: Any) -> bool:
        """Whether an operation reads it from the memory of the device: as it lies."""
        return value.id in self.lies and self.lies[value.id] == [dim.mesh for dim in there]


def _operations(graph: Graph, placed: Graph, mesh: dict[str, int], chip: Chip, state: _State) -> float:
    """The products and what moves through memory, of the local arrays of the text."""
    total = 0.0
    twins = _by_result(placed)
    moved = {id(node): list(values.values()) for node, values in kernels(graph)}
    copied: set[int] = set()
    for node in graph.nodes:
        if entered(node):
            twin = twins[node.outputs[0].id]
            for body, there in zip(entered(node), entered(twin), strict=True):
                total += node.count("trips", 1) * _operations(body, there, mesh, chip, state)
            continue
        arrays = moved.get(id(node), [])
        flops = op_of(node).flops(node)
        there = [(value, _there(value, doer, twins)) for value, doer in arrays]
        if flops and chip.memory.on_chip:  # all that these steps make has room on the chip
            there = [(value, dims) for value, dims in there if state.stays(value, dims)]
        sent = sum(value.type.bytes / _shards(dims, mesh) for value, dims in there)
        if flops:
            twin = twins[node.outputs[0].id]
            flops /= _shards([dim for value in (*twin.value_inputs, *twin.outputs) for dim in value.type.dims], mesh)
        width = max((item_size(value.type.dtype) for value in node.value_inputs[:2]), default=2)
        kernel = KERNEL if arrays and not chip.switched else 0.0
        if node.kind in ("gather", "scatter") and not chip.switched and node.value_inputs[0].id not in copied:
            times = 1 if node.kind == "gather" else 0 if chip.memory.on_chip else 2
            copied.update([node.value_inputs[0].id] if node.kind == "gather" else [])
            kernel += times * _turned(node, twins[node.outputs[0].id].value_inputs[0], mesh)
        total += max(flops / chip.rate(width), sent / chip.traffic_rate) + kernel
    return total


def _there(value: Any, doer: Node, twins: dict[int, Node]) -> Any:
    """The dims of a value as an operation of the text reads or writes it."""
    twin = twins[doer.outputs[0].id]
    for own, others in ((doer.value_inputs, twin.value_inputs), (doer.outputs, twin.outputs)):
        for each, other in zip(own, others, strict=True):
            if each.id == value.id:
                return other.type.dims
    raise AssertionError


def _turned(node: Node, table: Any, mesh: dict[str, int]) -> float:
    """Seconds of the copy of a table that lies along another dim than the last, so that it takes less room."""
    last, looked_up = node.inputs[0].type.dims[-1], node.dims("along")
    if any((dim.name, dim.size) == (last.name, last.size) for dim in looked_up):
        return 0.0
    sizes = [dim.size // _shards([dim], mesh) for dim in table.type.dims]
    wasted = [
        (-(-size // 128) * 128 / size)
        * min([_filled(other) / other for j, other in enumerate(sizes) if j != i] or [1.0])
        for i, size in enumerate(sizes)
    ]
    whole = prod(sizes) * item_size(table.type.dtype)
    return round(whole * wasted[-1]) / 0.75e12 if round(whole * wasted[-1]) > round(whole * min(wasted)) else 0.0


def _by_result(placed: Graph) -> dict[int, Node]:
    """Nodes by the number of what they make, before it is resharded too."""
    found: dict[int, Node] = {}
    for node in placed.nodes:
        for value in node.outputs:
            found[value.id] = node
        if op_of(node).communicates or node.kind == "reshard":
            source = node.value_inputs[0].id
            if source in found:
                found[node.outputs[0].id] = found[source]
    return found


def drawn(problem: Problem, rng: random.Random) -> Candidate:
    """A plan of the space, the names in another order where some name is."""
    space, names = problem.space, list(problem.space.order)
    masks = {name: int(rng.choice(list(options))) for name, options in space.options.items()}
    order_where = {rng.choice(names): tuple(rng.sample(names, min(3, len(names))))} if names else {}
    return Candidate(0.0, 0, rng.choice(space.storage_choices), masks, order_where)


def check(graph: Graph, mesh: dict[str, int], chip: Chip, rng: random.Random) -> None:
    """Plans drawn from all of the space are priced as they are counted."""
    levels = random.Random(str(mesh))
    for _ in range(PLANS):
        stored = levels.choice(STORED)
        problem = Problem.of(graph, DeviceMesh.of(mesh), chip, once=False, stored=stored)
        candidate = drawn(problem, rng)
        rules = problem.rules(candidate)
        cost, _ = problem.price(rules)
        compute, storage = problem.named(candidate)
        choices = {"regather": False, "stored": stored, "order_where": candidate.order_where}
        plan = passes.Plan.by_hand(mesh, compute, storage, chip, **choices)
        with suppress_type_checks():
            found = counted(graph, plan, chip)
        priced = step_seconds(cost.compute, cost.activations, cost.hidden, chip.overlap)
        assert float(priced) == pytest.approx(found, rel=1e-9), (compute, storage, candidate.order_where)


@pytest.mark.parametrize("hardware", ["v5e", "v5p", "h100"])
@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_gpt(mesh, hardware):
    check(pipeline.prepare(ir.trace(*raw_gpt())), mesh, CHIPS[hardware], random.Random(0))


def test_over_a_whole_slice_of_three_dims():
    """Where a TPU scatters nothing."""
    mesh = {"data": 2, "sequence": 2, "model": 2}
    check(pipeline.prepare(ir.trace(*raw_gpt())), mesh, CHIPS["v5p"], random.Random(1))


@pytest.mark.parametrize(
    "compute",
    [
        {"position": ["replica", "model"], "key_position": ["model"]},
        {"position": ["data", "model"], "key_position": ["replica", "data"]},
        {"position": ["model"], "key_position": ["replica", "model"]},
    ],
    ids=["fewer", "others", "more"],
)
def test_a_name_whose_mesh_axes_come_in_another_order(compute):
    """`raw_gpt` calls the positions of keys another name: where the rules of the two differ, shards change places."""
    graph, mesh = pipeline.prepare(ir.trace(*raw_gpt())), {"replica": 2, "data": 2, "model": 2}
    plan = passes.Plan.by_hand(mesh, compute, {}, "v5e", regather=False)
    problem = Problem.of(graph, plan.mesh, plan.chip, once=False, stored=plan.stored)
    cost, _ = problem.price(plan.rules)
    priced = step_seconds(cost.compute, cost.activations, cost.hidden, plan.chip.overlap)
    assert float(priced) == pytest.approx(counted(graph, plan, plan.chip), rel=1e-9)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.slow] * (seed > 15)) for seed in range(150)])
def test_random_programs(seed, monkeypatch):
    rng = random.Random(seed)
    graph = prepared_program(seed, monkeypatch)
    check(graph, rng.choice(MESHES), CHIPS[rng.choice(["v5e", "v5p", "h100"])], rng)
