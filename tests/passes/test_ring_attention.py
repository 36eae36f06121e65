"""Keys that go round: the same numbers as on one device, to the bit in the ring, by the permutes that are printed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import simulated_devices
from step_models import filled, shaped
from typeguard import suppress_type_checks

import haliax as hax
import ir
import passes
from haliax.nn.attention import AttentionMask, attend, blockwise
from ir.ring import mix, unmixed
from levanter.compiler.verify import collectives, compare
from passes import Plan, PlanError, pipeline, summary
from passes.alternatives import explanation
from passes.as_planned import as_planned
from passes.hardware.chip import CHIPS
from passes.planner import variants
from passes.planner.constraints import Constraints
from passes.report.explained import explained
from passes.ring_attention import in_rings, may_ring
from passes.shadow import alone

pytestmark = pytest.mark.hurried

MESH = {"data": 2, "sequence": 4}
LAYOUT = {"batch": ("data",), "position": ("sequence",)}


def arguments(length=16, batch=4, size=8):
    query = shaped("batch position kv_heads group size", batch, length, 2, 2, size)
    key = shaped("batch position kv_heads size", batch, length, 2, size)
    return [query, key, key, shaped("batch position", batch, length, dtype=jnp.int32)]


def step_of(mask, **options):
    """Gradients of an attention, whose mask is made of the segments of queries and keys."""

    def step(q, k, v, ids):
        def loss(arrays):
            query, *keys = arrays
            keys = [each.rename({"position": "key_position"}) for each in keys]
            own = mask(ids, ids.rename({"position": "key_position"}))
            out = attend(query, *keys, Key="size", KPos="key_position", mask=own, **options)
            return hax.mean(out * out).scalar(), out

        return jax.value_and_grad(loss, has_aux=True)([q, k, v])

    return step


MASKS = {
    "causal": lambda own, keys: AttentionMask(causal=True),
    "none": lambda own, keys: None,
    "window": lambda own, keys: AttentionMask(causal=True, window=5),
    "segments and a prefix": lambda own, keys: AttentionMask(causal=True, prefix=3, segments=(own, keys)),
}
STEP = step_of(MASKS["segments and a prefix"], softcap=5.0)
GRAPH = pipeline.prepare(ir.trace(STEP, *arguments()))


def placed_by(graph, layout=LAYOUT, mesh=MESH, **options):
    plan = Plan.by_hand(mesh, layout, {}, **{"attention": "ring", **options})
    placed = pipeline.place(graph, plan)
    return plan, placed


def kinds(placed):
    return Counter(node.kind for node in placed.walk() if "mesh" in node.attrs)


RINGS = replace(CHIPS["v5p"], wraps_at=2)
"""A chip each dim of whose torus is a ring, so that half of what goes round goes each way."""


def ways(placed):
    """Whether what goes round goes both ways, of each that does."""
    passed = [each for node in placed.walk() if node.kind == "attention" for body in node.bodies for each in body.nodes]
    return {bool(each.attrs.get("both")) for each in passed}


# What runs.


@pytest.mark.parametrize(
    ("mask", "chip"), [(mask, RINGS if mask in ("causal", "segments and a prefix") else "v5e") for mask in MASKS]
)
def test_any_layout_gives_the_bits_of_one_device_in_the_ring(mask, chip):
    graph = pipeline.prepare(ir.trace(step_of(MASKS[mask]), *arguments()))
    arrays = simulated_devices.inputs(graph)
    wanted = alone(graph)(*jax.tree.unflatten(graph.trees.arguments, arrays))
    for sizes in ({"data": 2, "sequence": 4}, {"data": 1, "sequence": 2}):
        _, placed = placed_by(graph, {"kv_heads": ("data",), "position": ("sequence",)}, sizes, hardware=chip)
        assert kinds(placed)["ring_permute"] and not kinds(placed)["all_gather"]
        assert ways(placed) == {chip is RINGS}
        found = simulated_devices.run(placed, sizes, arrays)
        for one, other in zip(found, jax.tree.leaves(wanted), strict=True):
            np.testing.assert_array_equal(one, np.asarray(other))


@pytest.mark.parametrize(("over", "chip"), [(("sequence",), RINGS), (("data", "sequence"), "v5e")])
def test_on_eight_devices(over, chip, monkeypatch, tmp_path):
    """The values of one device, in blocks that do not divide a shard; and what is printed is compiled."""
    monkeypatch.setattr(blockwise, "BLOCK", 3)
    layout = {"position": over, **({"batch": ("data",)} if len(over) == 1 else {})}
    plan, placed = placed_by(GRAPH, layout, hardware=chip)
    values = filled(arguments(), high=3)
    with suppress_type_checks():
        options = {"xla_dump_to": str(tmp_path), "xla_dump_hlo_pass_re": "spmd.*", "xla_dump_hlo_as_text": True}
        lowered = passes.lower(GRAPH, plan, jax.devices()[:8])
        compiled = lowered.lower(*values).compile(compiler_options=options)
        text = next(tmp_path.glob("*after_spmd-partitioning*")).read_text()
        found = compiled(*jax.device_put(tuple(values), passes.input_shardings(placed, passes.device_mesh(plan))))
    for array, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(jax.jit(STEP)(*values)), strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-6)
    rows = [asdict(each) for each in summary.collectives(placed, plan)]
    assert compare(rows, collectives(text, MESH), MESH)["surprises"] == []
    sent = Counter({each.phase: 0 for each in summary.collectives(placed, plan)})
    for each in summary.collectives(placed, plan):
        sent[each.phase] += each.count * (each.kind == "permute")
    # Forward keys, values and segments to all other devices; backward these again, and two gradients once more often.
    others, each_way = (3, 2) if len(over) == 1 else (7, 1)
    assert sent == {"forward": each_way * 3 * others, "backward": each_way * (3 * others + 2 * (others + 1))}


# What is proved.


@pytest.mark.parametrize("chip", ["v5e", RINGS])
def test_it_is_proved_and_prints_as_it_is(chip):
    plan, placed = placed_by(GRAPH, hardware=chip)
    proof = passes.prove(placed, as_planned(GRAPH, plan), plan.mesh)
    assert not proof.assumptions
    assert ir.parse(str(ir.verify(placed))) == placed


def mutated(placed, change):
    """The graph with another forward attention."""
    return replace(placed, nodes=tuple(change(node) if node.kind == "attention" else node for node in placed.nodes))


def without_bodies(node):
    return replace(node, bodies=())


def keeping_values(node):
    body = node.bodies[0]
    kept = replace(body, nodes=body.nodes[:1], outputs=(body.outputs[0], *body.inputs[1:]))
    return replace(node, bodies=(kept, *node.bodies[1:]))


def over_another_axis(node):
    body = node.bodies[0]
    nodes = tuple(replace(each, attrs={**each.attrs, "mesh": ("data",)}) for each in body.nodes)
    return replace(node, bodies=(replace(body, nodes=nodes), *node.bodies[1:]))


def back_the_other_way(node):
    nodes = tuple(replace(each, attrs={**each.attrs, "both": True}) for each in node.bodies[-1].nodes[:1])
    return replace(node, bodies=(*node.bodies[:-1], replace(node.bodies[-1], nodes=nodes + node.bodies[-1].nodes[1:])))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (back_the_other_way, "its body `onward` has to pass on each value that goes round"),
        (
            without_bodies,
            "its keys are sharded over sequence as its queries are, so they have to go round: it needs 1 bodies of "
            "ring_permutes over sequence and has 0; without, a device would see its own keys only",
        ),
        (
            keeping_values,
            "its body `onward` has to pass on each value that goes round, by one ring_permute over sequence, and give "
            "them in their order; else devices would combine queries with other keys than they count",
        ),
        (over_another_axis, "its body `onward` has to pass on each value that goes round"),
    ],
)
def test_a_ring_that_is_none_is_refuted(change, says):
    plan, placed = placed_by(GRAPH)
    with pytest.raises(passes.NotProved) as refuted:
        passes.prove(mutated(placed, change), as_planned(GRAPH, plan), plan.mesh)
    assert says in str(refuted.value)


# What stays as it is.


def test_a_step_is_itself_without_the_choice_and_on_one_device():
    assert in_rings(GRAPH, "") is GRAPH
    ringed = in_rings(GRAPH, "ring")
    assert in_rings(ringed, "ring") is ringed and may_ring(ringed)
    assert "key_position" not in ringed.axis_sizes() and "rename" not in {node.kind for node in ringed.walk()}
    _, placed = placed_by(GRAPH, {"batch": ("data",)})  # positions are not sharded: nothing goes round
    assert not any(node.bodies for node in placed.walk())


def test_arguments_and_results_keep_the_names_of_their_axes():
    def step(q, k):
        return jax.grad(lambda k: attend(q, k, k, Key="size", KPos="memory", QPos="position").sum().scalar())(k)

    query, keys = shaped("batch position size", 4, 8, 8), shaped("batch memory size", 4, 8, 8)
    graph = pipeline.prepare(ir.trace(step, query, keys))
    plan, placed = placed_by(graph)
    assert (placed.inputs[1].type.names, placed.outputs[0].type.names) == (("batch", "memory", "size"),) * 2
    arrays = simulated_devices.inputs(graph)
    wanted = alone(graph)(*jax.tree.unflatten(graph.trees.arguments, arrays))
    (found,) = simulated_devices.run(placed, MESH, arrays)
    np.testing.assert_array_equal(found, np.asarray(jax.tree.leaves(wanted)[0]))
    assert not passes.prove(placed, as_planned(graph, plan), plan.mesh).assumptions


def test_keys_are_gathered_without_it():
    _, placed = placed_by(GRAPH, attention="")
    assert kinds(placed)["all_gather"] and not kinds(placed)["ring_permute"]


# What cannot be had, in words.


def refusal(step, *given):
    with pytest.raises(PlanError) as refused:
        passes.run(ir.trace(step, *given), MESH, pin={"attention": "ring"})
    return str(refused.value)


def test_what_is_refused():
    begins = "attention: ring: no attention of the step can have its keys go round; "
    assert refusal(lambda x: hax.tanh(x), shaped("batch embed", 4, 8)) == (
        f"{begins}it has none (haliax.nn.attention.attend, or a layer that calls it); write it by that, or leave this "
        "out"
    )
    pairs = step_of(lambda own, keys: own.broadcast_axis(keys.axes).astype(bool))
    message = refusal(pairs, *arguments())
    assert message.startswith(begins + "the attention (at test_ring_attention.py:")
    assert message.endswith(
        "cannot: its mask is an array of pairs of queries and keys; say it by an AttentionMask (causal, window, "
        "segments)"
    )
    assert refusal(step_of(MASKS["causal"], backend="reference"), *arguments()).endswith(
        "cannot: it asks for the backend reference; leave that to `auto`, or `blockwise`"
    )

    def cross(q, k):
        return attend(q, k, k, Key="size", KPos="memory", QPos="position").sum().scalar()

    query, other = shaped("batch position size", 4, 8, 8), shaped("batch memory size", 4, 6, 8)
    assert refusal(cross, query, other).endswith(
        "cannot: its keys are memory=6, its queries position=8; only a self-attention has shards of both alike"
    )

    def biased(q, k):
        bias = hax.arange(hax.Axis("key_position", 8)).broadcast_axis(q.resolve_axis("position"))
        keys = k.rename({"position": "key_position"})
        return attend(q, keys, keys, Key="size", KPos="key_position").sum().scalar() + bias.sum().scalar()

    assert "an array of the step has both 'position' and 'key_position'" in refusal(biased, query, query)

    def among_two(q, k):
        return attend(q, k, k, Key="size", KPos="memory").sum().scalar()

    assert refusal(
        among_two, shaped("batch row column size", 4, 2, 8, 8), shaped("batch memory size", 4, 8, 8)
    ).endswith("cannot: which axis of its queries goes with 'memory' is not told; pass QPos to `attend`")

    def two(q, other, k):
        return sum(attend(each, k, k, Key="size", KPos="memory").sum().scalar() for each in (q, other))

    keys = shaped("batch memory size", 4, 8, 8)
    assert refusal(two, query, shaped("batch place size", 4, 8, 8), keys).endswith(
        "cannot: 'memory' are keys of queries along 'position' and along 'place'; give each attention keys of its own"
    )

    def forward(q, k):
        return jax.jvp(lambda q: attend(q, k, k, Key="size", KPos="memory"), (q,), (q,))[1].sum().scalar()

    assert refusal(forward, query, keys).endswith(
        "cannot: it is differentiated in forward mode, which makes all scores"
    )
    with pytest.raises(PlanError, match="attention is `rings`: write ring, or leave it out to have keys gathered"):
        Plan.by_hand(MESH, LAYOUT, attention="rings")


# What it costs, and when it is chosen.


def test_the_price_is_that_of_the_permutes_that_are_not_hidden():
    long = pipeline.prepare(ir.trace(STEP, *arguments(1 << 17)))
    for graph in (GRAPH, long):
        plan, placed = placed_by(graph)
        planned = as_planned(graph, plan)
        found = summary.times(planned, placed, plan)
        sent = [each for each in summary.collectives(placed, plan) if each.kind == "permute"]
        assert {each.moving for each in sent} == {"key"}
        total = sum(each.seconds for each in sent)
        waited = summary.waiting(planned, plan)
        last = 2 * max(each.seconds / each.count for each in sent)  # the gradients of keys and values come home
        computed = sum(taken for node, taken in summary.timed(planned, plan) if node.kind == "attention")
        assert last <= waited <= total
        assert found.step == pytest.approx(found.compute + found.exposed)
        hidden = plan.chip.overlap.state * (total - last)
        assert waited == pytest.approx(total - min(hidden, 0.75 * computed))
        if graph is long:  # the turns take longer than what is sent
            assert hidden < 0.75 * computed


def test_both_ways_take_half_the_time():
    """What is waited for, and what is printed: two permutes of half the bytes."""
    long = pipeline.prepare(ir.trace(STEP, *arguments(1 << 17)))
    waited, taken, volumes = {}, {}, {}
    for wraps in (2, 16):
        plan, placed = placed_by(long, hardware=replace(RINGS, wraps_at=wraps))
        sent = [each for each in summary.collectives(placed, plan) if each.kind == "permute"]
        taken[wraps] = sum(each.seconds for each in sent)
        waited[wraps] = summary.waiting(as_planned(long, plan), plan)
        volumes[wraps] = sum(each.count * each.bytes for each in sent)
    assert volumes[2] == volumes[16]
    assert taken[2] == pytest.approx(taken[16] / 2)
    assert waited[2] == pytest.approx(waited[16] / 2)


def test_the_search_takes_it_where_it_is_faster():
    """Two sequences on eight devices, four of which share the positions of one, on a chip whose attention has no
    kernel: with one, it is faster for each to compute all positions. Heads are of 64: keys of 8 are gathered sooner
    than a ring starts its operations four times."""
    chip = replace(CHIPS["v5e"], memory=replace(CHIPS["v5e"].memory, kernel=""))
    graph = pipeline.prepare(ir.trace(STEP, *arguments(1 << 13, batch=2, size=64)))
    forbid = {"kv_heads": "sequence", "group": "sequence"}
    steps = {}
    for attention in ("gathered", "ring"):
        plan = passes.plan(graph, MESH, chip, pin={"attention": attention}, forbid=forbid)
        steps[plan.attention] = summary.times(as_planned(graph, plan), pipeline.place(graph, plan), plan).step
    assert set(steps) == {"", "ring"} and steps["ring"] < steps[""]
    found = passes.run(graph, MESH, chip, forbid=forbid)
    assert found.plan.attention == "ring"
    assert found.plan.reasons["attention"].startswith("with keys gathered a step takes ")
    assert found.facts()["attention"] == {"way": "ring", "reason": found.plan.reasons["attention"]}
    again = replace(Plan.of_document(found.plan.as_document()), custom_chip=chip)
    assert again.attention == "ring"
    assert pipeline.place(found.canonical, again) == found.placed


def test_a_step_that_fits_computes_nothing_again_for_a_ring(monkeypatch):
    """Where gathered keys fit as the step is, a ring that is no faster as it is ends the search."""
    asked = []
    monkeypatch.setattr(variants, "policies", lambda graph: asked.append(graph) or iter(()))
    graph = pipeline.prepare(ir.trace(STEP, *arguments(2048)))
    found = passes.plan(graph, MESH, pin={"position": "sequence"})
    assert (found.attention, found.remat, found.search.optimal, asked) == ("", (), True, [])


def test_what_the_other_way_costs_is_told():
    plan, _ = placed_by(GRAPH)
    asked = explanation(GRAPH, plan, "attention")
    (gathered,) = asked.alternatives
    assert (asked.storage, gathered.axes, gathered.role) == (("ring",), (), "attention")
    assert {each["kind"] for each in gathered.collectives} >= {"permute", "all_gather"}
    said = explained(asdict(asked))
    assert said[0] == "How attention is computed where positions are sharded: ring."
    assert said[-1].startswith("Attention gathered: a step takes ")
    assert "permute of keys over sequence" in said[-1]


def test_the_sum_of_exponentials_is_read_off_their_logarithm():
    numbers = np.random.default_rng(0).integers(0, 1 << 32, 100, dtype=np.uint32)
    np.testing.assert_array_equal(unmixed(mix(jnp.asarray(numbers), "log"), "log"), numbers)


def test_a_pin_has_two_words():
    mesh = passes.DeviceMesh.of(MESH)
    assert Constraints.of({"attention": "gathered"}, None, mesh).described(mesh) == "attention=gathered pinned"
    assert Constraints.of({"attention": "ring"}, None, mesh).described(mesh) == "attention=ring pinned"
    assert not Constraints.of({"attention": "any"}, None, mesh)
