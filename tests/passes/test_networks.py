"""Which part of the physical network each mesh axis has: written, priced, searched for with proof, followed."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import product
from math import prod

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from step_models import mlp_step, prepared

import ir
import passes
from ir.graph import Graph
from passes import DeviceMesh, PlanError, pipeline
from passes.alternatives import explanation
from passes.hardware.arrange import arranged
from passes.hardware.assignment import as_usual, assignment_of, every_assignment
from passes.hardware.chip import CHIPS, Chip
from passes.hardware.network import Network
from passes.hardware.networks import Networks, networks
from passes.planner.candidate import Found
from passes.planner.cost import step_seconds
from passes.planner.problem import Problem
from passes.planner.search import search
from passes.report.changes import changes
from passes.report.explained import explained
from passes.sharding.rules import ShardingRules

MB = 10**6
KINDS = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all", "permute")
V5P, V5E, H100 = (CHIPS[name] for name in ("v5p", "v5e", "h100"))
NODES_OF_4 = replace(H100, host=4, slow_per_host=100e9)


def on(chip: Chip, mesh: DeviceMesh, **words: str) -> Network:
    return Network(mesh, chip, assignment_of(words, mesh, chip))


def gather(network: Network, *axes: str, volume: int = 1000 * MB) -> float:
    return float(network.seconds("all_gather", network.mesh.mask(axes), volume))


def test_a_whole_dim_beside_two_halves():
    """On 4x4x4 v5p, `model` takes as long on a ring of 4 as on 2 x 2 of two rings, whose links it has to itself; then
    `data` goes two steps at a time, past the chips between."""
    mesh = DeviceMesh.of("16x4")
    whole, halves = on(V5P, mesh, data="4x4x1", model="1x1x4"), on(V5P, mesh, data="2x2x4", model="2x2x1")
    assert whole.assignment == as_usual(mesh, V5P) and halves.assignment not in every_assignment(mesh, V5P)
    assert whole.torus.links([1]) == halves.torus.links([1]) == 2
    assert whole.torus.links([0]) == halves.torus.links([0]) == 4
    assert (whole.torus.hops([0]), halves.torus.hops([0])) == (4, 6)
    assert networks(mesh, V5P)[0].assignment == whole.assignment and len(networks(mesh, V5P)) == 1


def test_a_part_of_a_dim_is_no_ring():
    """Beside model=4 in a slice of 16x16x32, the four groups of data=2048 share the long dim: 4.5 links, not 6."""
    network = Network(DeviceMesh.of("2048x4"), V5P)
    assert network.torus.form == (16, 16, 32)
    assert (network.torus.links([0]), network.torus.links([1])) == (4.5, 1)
    outside = on(V5P, network.mesh, model="1x1x4", data="16x16x8")
    assert (outside.torus.links([0]), outside.torus.links([1])) == (5, 0.25)
    assert gather(network, "data", "model") == gather(outside, "data", "model")


def test_the_axis_within_a_node_is_fast():
    """16 H100s: within a node 370 GB/s, between two 50 GB/s for each."""
    mesh = DeviceMesh.of({"data": 2, "model": 8})
    usual, other = networks(mesh, H100)
    assert usual.assignment.words(mesh) == (("data", "2 nodes"), ("model", "8"))
    assert other.assignment.words(mesh) == (("data", "2"), ("model", "2 nodes x 4"))
    assert gather(usual, "model") == pytest.approx(10e-6 + 7 / 8 / 370)
    assert gather(usual, "data") == pytest.approx(10e-6 + 1 / 2 / 50)
    assert gather(other, "data") == pytest.approx(10e-6 + 1 / 2 / 370)
    assert gather(other, "model") == pytest.approx(20e-6 + 3 / 4 / 370 + 1 / 2 / 4 / 50)
    assert gather(usual, "data", "model") == gather(other, "data", "model")


@pytest.mark.parametrize(
    ("chip", "mesh", "found"),
    [
        (V5P, "16x16", [{"data": "16x1x1", "model": "1x4x4"}, {"data": "4x4x1", "model": "1x1x16"}]),
        (V5P, "8x8", [{"data": "4x2x1", "model": "1x2x4"}, {"model": "1x2x4", "data": "4x2x1"}]),
        (V5E, "4x2", [{"data": "4x1", "model": "1x2"}]),
        (V5E, "16x16", [{"data": "16x1", "model": "1x16"}]),
        (H100, "4x4", [{"data": "2 nodes x 2", "model": "4"}, {"data": "4", "model": "2 nodes x 2"}]),
        (H100, "3x4", [{}]),  # three axes of a node of 6 are not filled alike
    ],
)
def test_what_a_mesh_may_have(chip, mesh, found):
    layout = DeviceMesh.of(mesh)
    assert [each.assignment.words(layout) for each in networks(layout, chip, alike=False)] == [
        tuple(words.items()) for words in found
    ]


def test_axes_of_one_size_may_change_places():
    """Where `data` has what `model` has on another network, the plans of the two are the same but for the names."""
    for mesh, chip, count in (("16x16", V5P, 1), ("4x4", H100, 1), ("8x2", H100, 2), ("a=2,b=2,c=2,d=2", V5P, 1)):
        assert len(networks(DeviceMesh.of(mesh), chip)) == count


SIZES = st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=4)


@given(SIZES, st.sampled_from(["v5e", "v5p", "h100"]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_every_assignment_reads_back_and_none_beats_those_that_are_kept(sizes, name, slices):
    chip = CHIPS[name]
    names = ("replica" if slices else "a", "b", "c", "d")[: len(sizes)]
    mesh = DeviceMesh(names, tuple(sizes))
    kept = networks(mesh, chip, alike=False)
    every = [Network(mesh, chip, each) for each in every_assignment(mesh, chip)][:40]
    for network in every:
        assert assignment_of(network.assignment.words(mesh), mesh, chip) == network.assignment
    masks, volumes = np.arange(mesh.masks), (8, MB, 1000 * MB)
    for kind, volume, awaited in product(KINDS, volumes, (True, False)):
        prices = [np.asarray(each.seconds(kind, masks, volume, awaited)) for each in kept]
        least = np.min(prices, axis=0)
        for network in every:
            assert (least <= np.asarray(network.seconds(kind, masks, volume, awaited)) * (1 + 1e-6)).all()


def best_of_all(graph: Graph, mesh: DeviceMesh, chip: Chip) -> float:
    """The seconds of the fastest plan on any assignment, by pricing each of them on each."""
    found = np.inf
    for assignment in every_assignment(mesh, chip):
        problem = Problem.of(graph, mesh, chip, network=Network(mesh, chip, assignment))
        space = problem.space
        grid = np.array(list(product(*space.options.values()))).T
        for stored in space.storage_choices:
            rules = ShardingRules(mesh, space.order, dict(zip(space.options, grid, strict=True)), stored.extra)
            found = min(found, float(np.min(priced(problem, rules))))
    return found


def priced(problem: Problem, rules: ShardingRules):
    total = 0.0, 0.0, 0.0
    for term in problem.terms:
        cost = term.price(rules)
        each = cost.compute, cost.activations, cost.hidden
        total = tuple(sum_ + term.times * more for sum_, more in zip(total, each, strict=True))
    return step_seconds(*total, problem.network.chip.overlap)


@pytest.mark.parametrize(
    ("chip", "mesh", "sizes", "gains"),
    [
        (NODES_OF_4, "2x4", (8, 2048, 8192), False),
        (NODES_OF_4, "4x2", (4096, 512, 2048), True),
        (V5P, "8x8", (64, 4096, 8192), None),
        (V5E, "32x8", (512, 1024, 4096), None),
        (V5P, "a=2,b=2,c=4", (64, 512, 2048), None),
    ],
)
def test_the_best_of_all_plans_on_all_networks(chip, mesh, sizes, gains):
    layout = DeviceMesh.of(mesh)
    graph = pipeline.prepare(ir.trace(*mlp_step(*sizes)))
    plan, usual = (passes.plan(graph, mesh, chip, pin=pin) for pin in (None, {"network": "usual"}))
    step = plan.report()["time"]["step"]
    assert step == pytest.approx(best_of_all(graph, layout, chip), rel=1e-6)
    assert plan.search.optimal
    if gains is not None:
        assert bool(plan.network) == gains == (step < usual.report()["time"]["step"] * (1 - 1e-6))
    if not plan.network:
        assert replace(plan, search=None) == replace(usual, search=None, reasons=plan.reasons)


@pytest.mark.parametrize("slow", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("sizes", [(4096, 512, 2048), (64, 4096, 8192)], ids=["wide batch", "wide model"])
def test_all_networks_at_once_have_the_best_of_each(sizes, slow):
    chip = replace(NODES_OF_4, slow_per_host=NODES_OF_4.slow_per_host * slow)
    layout = DeviceMesh.of("replica=2,data=8,model=4")
    graph = pipeline.prepare(ir.trace(*mlp_step(*sizes)))
    every = networks(layout, chip)
    assert len(every) >= 4

    def found(network: Network, limit: float = np.inf, count: int = 1) -> Found:
        problem = Problem.of(graph, layout, chip, network=network)
        return search(problem.space, problem.terms, problem.memory, chip, None, limit, count)

    alone = [found(network).best[0].seconds for network in every]
    best = found(Networks.of_all(every), count=len(every)).best[0]
    assert best.seconds == pytest.approx(min(alone), rel=1e-6)
    assert alone[best.network] == pytest.approx(min(alone), rel=1e-6)
    assert not found(Networks.of_all(every), min(alone) * (1 - 1e-6), len(every)).best


def test_gpus_are_taken_node_by_node():
    mesh = DeviceMesh.of("4x2")
    devices = list(range(8))  # 0 to 3 are the first node
    assert arranged(devices, Network(mesh, NODES_OF_4)) == devices
    within = np.array(arranged(devices, on(NODES_OF_4, mesh, data="4", model="2 nodes"))).reshape(4, 2)
    assert within.tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert arranged(devices, Network(DeviceMesh.of("3x4"), H100)) == devices  # another number


def test_the_inner_axis_of_a_shared_dim_has_neighbours():
    from test_arrange import chips

    mesh = DeviceMesh.of("32x8")
    for words, apart in (({"data": "16x2", "model": "1x8"}, 1), ({"model": "1x8", "data": "16x2"}, 2)):
        placed = np.array(arranged(chips(16, 16, 1), on(V5E, mesh, **words)), dtype=object).reshape(32, 8)
        assert len({chip.coords for chip in placed.flat}) == 256
        for line in placed:
            steps = [np.abs(np.subtract(a.coords, b.coords)).sum() for a, b in zip(line, line[1:], strict=False)]
            assert steps == [apart] * 7


def by_hand(**words: str) -> passes.Plan:
    return passes.Plan.by_hand("4x2", {"batch": "data"}, {"mlp": "model"}, NODES_OF_4, network=words)


def test_a_plan_says_it_and_is_followed(tmp_path):
    file = tmp_path / "plan.yaml"
    graph = prepared("mlp")
    plan = by_hand(data="4", model="2 nodes")
    assert plan.network == (("data", "4"), ("model", "2 nodes")) and by_hand().network == ()
    plan.save(file)
    assert "\nnetwork: {data: 4, model: 2 nodes}\n" in file.read_text()
    again = passes.Plan.load(file, NODES_OF_4)
    assert again.network == plan.network and again.as_document().network == {"data": "4", "model": "2 nodes"}
    ids = [device.id for device in passes.device_mesh(again).devices.flat]
    first = [device.id for device in jax.devices()[:8]]
    assert ids == [first[i] for i in (0, 4, 1, 5, 2, 6, 3, 7)]
    given = passes.device_mesh(again, jax.devices()[:8])
    assert given == passes.device_mesh(again) == passes.device_mesh(again, given)
    row = again.report(graph)["network"]
    assert row["given"] == {"data": "4", "model": "2 nodes"} and row["axes"]["model"] == {"inside": [1], "across": 2}


def test_it_is_explained_and_compared():
    graph = prepared("mlp")
    plan, usual = by_hand(data="4", model="2 nodes"), by_hand()
    heading, line = explained(asdict(explanation(graph, plan, "network")))
    assert heading == "The part of the physical network that each mesh axis has: data 4, model 2 nodes."
    assert line.startswith("With data 2 nodes × 2, model 2: a step takes ")
    found = changes(usual.report(graph), plan.report(graph))
    assert found["network"] == [{}, {"data": "4", "model": "2 nodes"}]


def test_a_pinned_network_has_its_reason():
    graph = prepared("mlp")
    plan = passes.plan(graph, "4x2", NODES_OF_4, pin={"network": "data:4,model:2 nodes"})
    assert plan.network == (("data", "4"), ("model", "2 nodes"))
    assert plan.reasons["network"].startswith("pinned; as usual, a step takes ")
    assert prod(plan.mesh.sizes) == 8


REFUSED = {
    "an unknown axis": (
        V5P,
        {"dat": "4x4x1"},
        "network: mesh axis 'dat': this mesh has data, model; did you mean 'data'?",
    ),
    "an axis left out": (
        V5P,
        {"data": "4x4x1"},
        "network: mesh axis 'model', of 4 devices, is not in it; add it, or leave out `network`",
    ),
    "two dims of three": (
        V5P,
        {"data": "4x4", "model": "1x1x4"},
        "network of 'data': expected devices along each of 3 dims of a slice, such as 4x4x4, `2 slices`, or "
        "`2 slices x 4x4x4`; got '4x4'",
    ),
    "nodes of a TPU": (
        V5E,
        {"data": "16 nodes", "model": "1x4"},
        "network of 'data': expected devices along each of 2 dims of a slice, such as 4x4, `2 slices`, or "
        "`2 slices x 4x4`; got '16 nodes'",
    ),
    "a slice of GPUs": (
        H100,
        {"data": "4x4", "model": "4"},
        "network of 'data': expected devices of a node, such as 4, `2 nodes`, or `2 nodes x 4`; got '4x4'",
    ),
    "another size": (
        H100,
        {"data": "4 nodes x 2", "model": "4"},
        "network of 'data': '4 nodes x 2' is 8 devices, and the mesh axis has 16; the parts of an axis multiply to its "
        "size",
    ),
    "too large a node": (
        H100,
        {"data": "16", "model": "4 nodes"},
        "network: 16 devices are in one node, and a node of h100 has at most 8; put some of an axis over several, such "
        "as `2 nodes`",
    ),
}


@pytest.mark.parametrize(("chip", "words", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_network(chip, words, message):
    with pytest.raises(PlanError) as caught:
        assignment_of(words, DeviceMesh.of("16x4"), chip)
    assert str(caught.value) == message


def test_replica_is_the_slices():
    mesh = DeviceMesh.of("2x4x4")
    with pytest.raises(PlanError) as caught:
        assignment_of({"replica": "2x1", "data": "1x4", "model": "4x1"}, mesh, V5E)
    assert str(caught.value) == (
        "network of 'replica': on a TPU this mesh axis is the slices themselves; write `2 slices`, or give the mesh "
        "axis another name"
    )
    assert all("2 slices" in dict(each.words(mesh))["replica"] for each in every_assignment(mesh, V5E))


def test_a_pin_that_says_no_network():
    with pytest.raises(PlanError) as caught:
        passes.plan(prepared("mlp"), "4x2", "v5e", pin={"network": "model"})
    assert str(caught.value) == (
        "pin of network to 'model': give each mesh axis its part, such as network=data:4x4x1,model:1x1x4; or pin "
        "network=usual"
    )
