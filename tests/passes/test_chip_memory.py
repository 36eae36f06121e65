"""How a chip's memory takes arrays, and what of a step never gets there."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ir
import passes
from levanter.config import load
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes import Plan
from passes.hardware.chip import CHIPS
from passes.hardware.memory import ChipMemory
from passes.planner.allocations import memory_program
from passes.planner.memory import Entry, Event, MemoryProgram
from passes.planner.peaks import Moments
from passes.planner.traffic import traffic
from passes.sharding.mesh import DeviceMesh
from passes.sharding.roles import assign_roles
from passes.sharding.rules import ShardingRules

TILED = ChipMemory(tile=(8, 128))


@pytest.mark.parametrize(
    ("lengths", "item", "wanted"),
    [
        ((), 4, 4),
        ((64,), 4, 128 * 4),
        ((128, 64), 4, 128 * 64 * 4),  # 128 along the lanes
        ((4, 64), 4, 4 * 128 * 4),  # four rows are a small tile of their own
        ((5, 64), 2, 8 * 64 * 2 * 2),
        ((25152, 64), 4, 25216 * 64 * 4),
        ((4, 64, 3, 4, 16), 4, 4 * 128 * 3 * 4 * 16 * 4),
        ((3, 4096, 1024), 2, 3 * 4096 * 1024 * 2),
    ],
)
def test_two_dims_are_filled_up_to_tiles(lengths: tuple[int, ...], item: int, wanted: int) -> None:
    """The figures are those of the parameters of gpt2_nano compiled for v5e."""
    assert TILED.bytes(lengths, item) == wanted
    assert ChipMemory().bytes(lengths, item) == int(np.prod(lengths)) * item


def test_many_candidates_at_once() -> None:
    lengths = (np.array([512, 256, 64]), 64)
    assert list(TILED.bytes(lengths, 4)) == [512 * 64 * 4, 256 * 64 * 4, 64 * 128 * 4]


def test_a_product_on_a_tpu_computes_what_it_reads() -> None:
    def step(weights: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = jnp.tanh(x)
        return weights - hidden.T @ hidden, jnp.sum(hidden @ weights)

    array = jax.ShapeDtypeStruct
    arguments = array((64, 64), jnp.float32), array((32, 64), jnp.float32)
    graph = passes.canonicalize(ir.trace(step, *arguments))
    (tanh,) = [node.outputs[0] for node in graph.nodes if node.fn == "tanh"]
    assert tanh.id in traffic(graph).kept
    assert tanh.id not in traffic(graph, into_products=True).kept


def program(*events: Event) -> MemoryProgram:
    return MemoryProgram([Entry((("embed", 100),), 1, "compute")], list(events))


def test_temporaries_stay_on_the_chip_as_long_as_they_fit() -> None:
    rules = ShardingRules(DeviceMesh.of("1"), (), {}, {})
    state, made = Event(1, 0, "parameters", stays=True), Event(1, 0, "activations")
    brief, gone = Event(1, 0, "temporaries"), Event(-1, 0, "temporaries")
    step = program(state, made, brief, gone)
    assert step.peak(rules)[0] == 300
    for on_chip, peak, activations, temporaries in ((50, 300, 100, 100), (150, 300, 100, 100), (200, 100, 0, 0)):
        highest, parts = step.peak(rules, ChipMemory(on_chip))
        assert (highest, parts["activations"], parts["temporaries"]) == (peak, activations, temporaries)
        assert sum(parts.values()) == highest
        assert step.on_chip(rules, ChipMemory(on_chip)) == {50: 0, 150: 100, 200: 200}[on_chip]


def test_what_a_loop_stacks_stays_as_far_as_it_has_room() -> None:
    rules = ShardingRules(DeviceMesh.of("1"), (), {}, {})
    stack, brief = Event(1, 0, "activations", stacked=True), Event(1, 0, "temporaries")
    step = program(Event(1, 0, "parameters", stays=True), stack, stack, brief)
    for on_chip, peak, activations, temporaries in ((50, 400, 200, 100), (150, 250, 150, 0), (300, 100, 0, 0)):
        highest, parts = step.peak(rules, ChipMemory(on_chip))
        assert (highest, parts["activations"], parts["temporaries"]) == (peak, activations, temporaries)
        assert Moments.of(step, ChipMemory(on_chip)).peak(np.array([[100.0]])) == [peak]
        assert step.on_chip(rules, ChipMemory(on_chip)) == {50: 50, 150: 150, 300: 300}[on_chip]
    (_, _, state), (_, _, stacks) = step.held(rules, ChipMemory(150))
    assert (state, stacks) == (1, 2)


def test_the_chip_is_left_to_the_body_of_a_loop() -> None:
    """Once not all fit: 100 bytes that wait for a loop, and 200 in its body."""
    rules = ShardingRules(DeviceMesh.of("1"), (), {}, {})
    waits, inside = Event(1, 0, "activations"), Event(1, 0, "temporaries", looped=True)
    step = program(Event(1, 0, "parameters", stays=True), waits, inside, inside)
    for on_chip, peak, activations, temporaries in ((50, 350, 100, 150), (150, 250, 100, 50), (250, 200, 100, 0)):
        highest, parts = step.peak(rules, ChipMemory(on_chip))
        assert (highest, parts["activations"], parts["temporaries"]) == (peak, activations, temporaries)
        assert Moments.of(step, ChipMemory(on_chip)).peak(np.array([[100.0]])) == [peak]
        held = {kind: count for kind, _, count in step.held(rules, ChipMemory(on_chip))}
        assert held.get("temporaries", 0) == -(-temporaries // 100)
    assert step.peak(rules, ChipMemory(300))[0] == 100


@pytest.mark.parametrize(
    ("chip", "paired", "wanted"),
    [
        (ChipMemory(), 200, 200),
        (ChipMemory(600), 200, 0),  # parameters, what is reduced, and what is not
        (ChipMemory(550), 200, 0),  # 50 of what is reduced are in the places of parameters
        (ChipMemory(450), 200, 50),
        (ChipMemory(150), 200, 125),  # places of 150 bytes are left, and half of them are written late enough
        (ChipMemory(copies=150), 200, 125),
        (ChipMemory(copies=500), 200, 100),
    ],
)
def test_gradients_wait_in_the_places_of_parameters_that_are_on_the_chip(
    chip: ChipMemory, paired: int, wanted: int
) -> None:
    rules = ShardingRules(DeviceMesh.of("1"), (), {}, {})
    waits = Event(1, 0, "gradients", paired=True)
    step = program(Event(1, 0, "parameters", stays=True), *[waits] * (paired // 100))
    highest, parts = step.peak(rules, chip)
    assert (highest, parts["gradients"]) == (100 + wanted, wanted)
    assert Moments.of(step, chip).peak(np.array([[100.0]])) == [100 + wanted]
    assert {kind: count for kind, _, count in step.held(rules, chip)}.get("gradients", 0) == -(-wanted // 100)
    assert paired - wanted <= chip.most_spared


@pytest.mark.parametrize(("on_chip", "wanted"), [(0, 200), (300, 100), (350, 50), (400, 0)])
def test_beside_moments_parameters_do_not_stay_on_the_chip(on_chip: int, wanted: int) -> None:
    """What is reduced is beside what is not, and finds no places."""
    rules, chip = ShardingRules(DeviceMesh.of("1"), (), {}, {}), ChipMemory(on_chip)
    step = program(Event(1, 0, "parameters", stays=True), *[Event(1, 0, "gradients", reduced=True)] * 2)
    highest, parts = step.peak(rules, chip)
    assert (highest, parts["gradients"]) == (100 + wanted, wanted)
    assert Moments.of(step, chip).peak(np.array([[100.0]])) == [100 + wanted]


def _layers(count: int) -> passes.Graph:
    def step(layers: list[jax.Array], x: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        def loss(layers: list[jax.Array]) -> jax.Array:
            hidden = x
            for layer in layers:
                hidden = jnp.tanh(hidden @ layer)
            return jnp.mean(hidden)

        value, grads = jax.value_and_grad(loss)(layers)
        return [layer - grad for layer, grad in zip(layers, grads, strict=True)], value

    array = jax.ShapeDtypeStruct
    arguments = [array((1024, 1024), jnp.float32)] * count, array((64, 1024), jnp.float32)
    return passes.canonicalize(ir.trace(step, *arguments, names={"layers.*": "embed mlp", "x": "batch embed"}))


def test_which_gradients_wait_beside_their_parameters() -> None:
    """Those that are made as they are stored, of parameters that the chip has room for a copy of."""
    graph = _layers(2)
    for copies, compute, stored, each in (
        (50_000_000, {"batch": ["data"]}, {}, 1024 * 1024 * 4),
        (1_000_000, {"batch": ["data"]}, {}, 0),
        (50_000_000, {"batch": ["data"]}, {"embed": ["data"]}, 0),
    ):
        chip = ChipMemory(copies=copies, tile=TILED.tile)
        rules = passes.Plan.by_hand({"data": 2}, compute, stored).rules
        program = memory_program(graph, assign_roles(graph), chip=chip)
        begun = [event for event in program.events if event.paired and event.sign > 0]
        assert not any(event.reduced for event in program.events)
        assert [int(program.entries[event.entry].local(rules, chip)) for event in begun] == [each] * 2


def test_an_image_that_is_cut_into_patches_is_there_once_more() -> None:
    array = jax.ShapeDtypeStruct

    def step(weights: jax.Array, images: jax.Array) -> jax.Array:
        def loss(weights: jax.Array) -> jax.Array:
            return jnp.sum(jnp.tanh(jnp.einsum("bhpwqc,pqce->bhwe", images.reshape(8, 14, 16, 14, 16, 3), weights)))

        return weights - jax.grad(loss)(weights)

    graph = passes.canonicalize(
        ir.trace(step, array((16, 16, 3, 768), jnp.float32), array((8, 224, 224, 3), jnp.float32))
    )
    shape = (8, 14, 16, 14, 16, 3)
    for chip, items in ((TILED, [2]), (ChipMemory(), [4])):
        entries = memory_program(graph, assign_roles(graph), chip=chip).entries
        assert [entry.item for entry in entries if tuple(size for _, size in entry.dims) == shape] == items
    (patches,) = [each for each in graph.walk() if each.kind == "reshape" and each.outputs[0].type.shape == shape][-1:]
    assert patches.outputs[0].id in traffic(graph, into_products=True, lanes=128).kept
    assert patches.outputs[0].id not in traffic(graph, into_products=True, lanes=2).kept


def test_a_lookup_copies_its_table_row_by_row() -> None:
    """Not where the chip has room for the copy, and not beside other things where the rows are sharded."""
    array = jax.ShapeDtypeStruct

    def step(table: jax.Array, tokens: jax.Array) -> jax.Array:
        return table - jax.grad(lambda table: jnp.sum(jnp.tanh(table[tokens])))(table)

    names = {"table": "vocab embed", "tokens": "batch"}
    arguments = array((50304, 64), jnp.float32), array((128,), jnp.int32)
    graph = passes.canonicalize(ir.trace(step, *arguments, names=names))
    rows, fsdp, tensor = {}, {"batch": ["data"]}, {"vocab": ["data"]}
    for name, chip in (("v5p", TILED), ("v5e", ChipMemory(1000, TILED.tile))):
        entries = memory_program(graph, assign_roles(graph), chip=chip).entries
        rows[name] = [entry for entry in entries if entry.copies and entry.by_rows]
        for compute, stored, size in ((fsdp, {"embed": ["data"]}, 50304 * 128 * 4), (tensor, {}, 0)):
            rules = passes.Plan.by_hand({"data": 2}, compute, stored).rules
            assert [int(entry.local(rules, chip)) for entry in rows[name]] == [size] * len(rows[name])
    assert (len(rows["v5p"]), len(rows["v5e"])) == (1, 0)


def test_a_stack_is_there_before_the_loop_that_fills_it() -> None:
    array = jax.ShapeDtypeStruct

    def step(layers: jax.Array, x: jax.Array) -> jax.Array:
        def loss(layers: jax.Array) -> jax.Array:
            return jnp.sum(jax.lax.scan(lambda x, layer: (jnp.tanh(x @ layer), None), x, layers)[0])

        return layers - jax.grad(loss)(layers)

    graph = passes.canonicalize(ir.trace(step, array((4, 256, 256), jnp.float32), array((8, 256), jnp.float32)))
    events = memory_program(graph, assign_roles(graph)).events
    begun = [event for event in events if event.sign > 0 and (event.stacked or event.looped)]
    assert begun[0].stacked and any(event.looped for event in begun)


def test_kernels_have_their_last_dim_innermost() -> None:
    assert TILED.bytes((4, 4096, 176), 4) == 4 * 4096 * 176 * 4
    assert TILED.bytes((4, 4096, 176), 4, by_rows=True) == 4 * 4096 * 256 * 4
    assert TILED.bytes((176,), 4, by_rows=True) == 256 * 4


def test_of_two_gradients_that_of_the_activations_is_made_first() -> None:
    """The gathered copy of the second layer is read for it, and gone when its own gradient is made in full."""
    array = jax.ShapeDtypeStruct

    def step(layers: list[jax.Array], x: jax.Array) -> list[jax.Array]:
        def loss(layers: list[jax.Array]) -> jax.Array:
            return jnp.sum(jnp.tanh(jnp.tanh(x @ layers[0]) @ layers[1]))

        return [layer - grad for layer, grad in zip(layers, jax.grad(loss)(layers), strict=True)]

    layers, x = [array((512, 512), jnp.float32)] * 2, array((64, 512), jnp.float32)
    graph = passes.canonicalize(ir.trace(step, layers, x, names={"*.0": "embed mlp", "*.1": "mlp embed"}))
    program = memory_program(graph, assign_roles(graph))
    copies = [bool(entry.copies) and entry.role == "storage" for entry in program.entries]
    assert [event.sign for event in program.events if copies[event.entry]] == [1, -1] * 4


def test_a_weight_is_gathered_for_the_axis_that_its_readers_give_to_another_name() -> None:
    """What it takes meanwhile is the whole of it, though its own shape has room for the mesh axis."""

    def step(weights: jax.Array, x: jax.Array) -> jax.Array:
        return weights - jax.grad(lambda weights: jnp.mean(jnp.tanh(x @ weights)))(weights)

    arguments = jax.ShapeDtypeStruct((64, 256), jnp.float32), jax.ShapeDtypeStruct((8, 64), jnp.float32)
    graph = passes.canonicalize(ir.trace(step, *arguments, names={"weights": "a b", "x": "batch a"}))
    entries = memory_program(graph, assign_roles(graph)).entries
    copies = [entry for entry in entries if entry.copies and entry.role == "storage"]
    assert copies
    for axes, size in (({"b": ["data"]}, 0), ({"batch": ["data"], "b": ["data"]}, 64 * 256 * 4)):
        rules = passes.Plan.by_hand({"data": 2}, axes, {}).rules
        assert [int(entry.local(rules)) for entry in copies] == [size] * len(copies), axes


def fsdp_step(precision: str | None) -> MemoryProgram:
    """The memory program of one product whose parameter is stored, on a TPU."""

    def step(weights: jax.Array, x: jax.Array) -> jax.Array:
        def loss(weights: jax.Array) -> jax.Array:
            return jnp.mean(jnp.square(jnp.dot(x, weights, precision=precision)))

        return weights - jax.grad(loss)(weights)

    arguments = jax.ShapeDtypeStruct((512, 256), jnp.float32), jax.ShapeDtypeStruct((64, 512), jnp.float32)
    graph = passes.canonicalize(ir.trace(step, *arguments, names={"weights": "embed mlp", "x": "batch embed"}))
    return memory_program(graph, assign_roles(graph), chip=TILED)


@pytest.mark.parametrize(("precision", "item"), [(None, 2), ("highest", 4)])
def test_what_only_products_read_is_gathered_in_halves(precision: str | None, item: int) -> None:
    entries = [entry for entry in fsdp_step(precision).entries if entry.copies and not entry.over_all]
    assert {entry.item for entry in entries} == {item, 4}  # the gradient is in full


def test_a_gradient_stored_over_all_devices_waits_in_full() -> None:
    """Its own part is counted with what is kept of it; over some of the devices there is a reduce-scatter."""
    (waiting,) = [entry for entry in fsdp_step(None).entries if entry.over_all]
    full = 512 * 256 * 4
    for axes, size in ((["data", "model"], full - full // 8), (["data"], 0), ([], 0)):
        plan = passes.Plan.by_hand({"data": 4, "model": 2}, {"batch": axes}, {"embed": axes})
        assert int(waiting.local(plan.rules, TILED)) == size, axes


def test_activations_are_gathered_for_a_product_that_gives_their_mesh_axis_to_another_name() -> None:
    """Sequence parallelism: the copy is there for its readers; where nothing else takes the axis there is none."""

    def step(weights: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.tanh(jnp.tanh(x) @ weights)

    shapes = jax.ShapeDtypeStruct((64, 256), jnp.float32), jax.ShapeDtypeStruct((32, 64), jnp.float32)
    graph = passes.canonicalize(ir.trace(step, *shapes, names={"weights": "embed mlp", "x": "position embed"}))
    entries = [entry for entry in memory_program(graph, assign_roles(graph)).entries if entry.copies]
    copies = [entry for entry in entries if dict(entry.dims) == {"position": 32, "embed": 64}]
    assert copies
    for names, size in ((("position",), 0), (("mlp", "position"), 32 * 64 * 4)):
        plan = passes.Plan.by_hand({"model": 2}, {name: ["model"] for name in names}, {})
        assert [int(entry.local(plan.rules)) for entry in copies] == [size] * len(copies), names


def test_what_is_scattered_into_is_changed_in_place() -> None:
    def step(table: jax.Array, rows: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(jnp.zeros_like(table).at[rows].add(1.0)), 1)

    shapes = jax.ShapeDtypeStruct((4096, 64), jnp.float32), jax.ShapeDtypeStruct((8,), jnp.int32)
    graph = passes.canonicalize(ir.trace(step, *shapes, names={"table": "vocab embed", "rows": "batch"}))
    plan = passes.Plan.by_hand({"data": 2}, {"batch": ["data"]}, {})
    peak, _ = memory_program(graph, assign_roles(graph)).peak(plan.rules)
    assert int(peak) < 2.1 * 4096 * 64 * 4  # the table and one array beside it


def test_scores_of_attention_are_held_where_no_kernel_computes_it() -> None:
    """Splash Attention makes masks for all positions, so not where these are sharded."""
    config = load("gpt2_nano", [])
    graph = passes.canonicalize(ir.trace(train_step_of(config), state_shape(config), batch_shape(config)))
    roles = assign_roles(graph)
    scores = (("batch", 16), ("heads", 4), ("position", 128), ("key_position", 128))
    whole, sharded = (Plan.by_hand({"model": 2}, {name: "model"}).rules for name in ("heads", "position"))
    for kernel, rules, held in (("splash", whole, False), ("splash", sharded, True), ("", whole, True)):
        program = memory_program(graph, roles, chip=replace(TILED, kernel=kernel))
        found = [entry for entry in program.entries if sorted(entry.dims, key=str) == sorted(scores, key=str)]
        assert found and all((int(entry.local(rules)) > 0) == held for entry in found), (kernel, held)


def test_the_chips() -> None:
    assert CHIPS["v5e"].memory == ChipMemory(117_400_000, (8, 128), "splash")
    assert CHIPS["v5p"].memory == ChipMemory(0, (8, 128), "splash", 50_300_000)
    assert CHIPS["h100"].memory == ChipMemory(kernel="cudnn")
