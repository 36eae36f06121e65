"""Steps in the ring: the same bits on one device and on many, and other bits where something is wrong."""

import importlib
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from step_models import shaped
from typeguard import suppress_type_checks

import ir
import passes
from ir.graph import Graph
from passes import Plan
from passes.ring_inputs import index_limits, ring_inputs
from passes.shadow import not_covered, shadow_placed, unplaced
from passes.values import Different, Reference, Values, compare_values, flat

pytestmark = pytest.mark.hurried

sys.path.insert(0, str(Path(__file__).parents[1] / "ir"))
sys.path.insert(0, str(Path(__file__).parents[1] / "levanter" / "models"))

MESH = {"data": 4, "model": 2}
CUBE = {"data": 2, "model": 2, "sequence": 2}
D, M, S = ("data",), ("model",), ("sequence",)
PLANS = {
    "tensor parallel": (
        MESH,
        {"batch": D, "mlp": M, "heads": M, "vocab": M, "kv_heads": M, "classes": M},
        {"embed": D},
    ),
    "sequence parallel": (
        CUBE,
        {"batch": D, "position": S, "mlp": M, "expert": M, "vocab": M},
        {"embed": ("data", "model")},
    ),
    "joint axes": (CUBE, {"batch": ("model", "data"), "embed": S, "vocab": S}, {"vocab": ("sequence", "data")}),
}
ZOO = (*("gpt2", "llama", "moe_einsum", "moe_sort", "vit", "unet", "encoder_decoder", "lstm", "lora", "plain_equinox"),)
FAMILIES = (
    *("gpt2", "llama", "mistral", "mixtral", "mixtral-slots", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "olmo2"),
    "phi3",
)
QUICK = {("moe_sort", "tensor parallel"), ("lora", "joint axes")}


@cache
def reference(name: str) -> Reference:
    with suppress_type_checks():
        return Reference.of(ir.trace(*importlib.import_module(f"zoo.{name}").build()))


@cache
def family(name: str) -> Reference:
    from levanter.runtime.state import batch_shape, state_shape, train_step_of

    config = importlib.import_module("small").run_of(name)
    with suppress_type_checks():
        return Reference.of(ir.trace(train_step_of(config), state_shape(config), batch_shape(config)))


def against(step: Reference, plan: Plan, partitioner="explicit") -> Values:
    with suppress_type_checks():
        result = passes.run(step.graph, plan.mesh, plan=plan)
        return step.against(shadow_placed(flat(result.placed), plan, partitioner=partitioner))


@pytest.mark.filterwarnings("ignore::passes.PlanWarning")
@pytest.mark.parametrize("partitioner", ["explicit", pytest.param("xla", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "plan"),
    [
        pytest.param(name, plan, marks=[] if (name, plan) in QUICK else pytest.mark.slow)
        for name in ZOO
        for plan in PLANS
    ],
)
def test_every_layout_gives_the_bits_of_one_device(name, plan, partitioner):
    step = reference(name)
    found = against(step, Plan.by_hand(*PLANS[plan]), partitioner)
    assert (str(found), found.not_covered) == (
        f"values equal: {len(step.outputs)} of {len(step.outputs)} outputs",
        (),
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::passes.PlanWarning")
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_the_bits_of_one_device(name, plan):
    assert against(family(name), Plan.by_hand(*PLANS[plan])).equal


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::passes.PlanWarning")
@pytest.mark.parametrize("plan", PLANS)
def test_gradients_that_a_loop_adds_up_are_those_of_one_device(plan):
    from levanter import config
    from levanter.runtime.state import batch_shape, state_shape, train_step_of

    small = ["--model.seq_len=16", "--model.num_layers=2", "--model.vocab_size=512"]
    run = config.load("gpt2_nano", ["--trainer.train_batch_size=32", "--trainer.microbatches=4", *small])
    with suppress_type_checks():
        step = Reference.of(ir.trace(train_step_of(run), state_shape(run), batch_shape(run)))
    assert against(step, Plan.by_hand(*PLANS[plan])).equal


@pytest.mark.parametrize("name", [*(pytest.param(each, marks=pytest.mark.slow) for each in ZOO), "moe_sort"])
def test_outputs_are_full_of_information(name):
    """Other numbers at one place of one input change nearly everything: nothing is multiplied by zero on the way."""
    step = reference(name)
    for array in step.outputs:
        if array.dtype == np.uint32 and array.size > 64:
            assert len(np.unique(array)) > 0.9 * array.size


# --- faults -----------------------------------------------------------------------------------------------------------

DEVICES = np.array(jax.devices()[:8]).reshape(4, 2)
TABLE = shaped("row column", 8, 16).array


def device_mesh(axes=("data", "model")):
    return Mesh(DEVICES, axes, axis_types=(AxisType.Auto, AxisType.Auto))


def on_mesh(body, specs, result):
    return jax.shard_map(body, mesh=device_mesh(), in_specs=specs, out_specs=result, check_vma=False)


def layer(x, w, b):
    return jax.nn.relu(x @ w + 1e-6 * b)


def layer_shards(added_before, added_after):
    def body(x, w, b):
        y = lax.psum(x @ w + added_before * 1e-6 * b, "model")
        return jax.nn.relu(y + added_after * 1e-6 * b)

    return on_mesh(body, (P("data", "model"), P("model"), P()), P("data"))


def penalized(x, w, b):
    return jax.nn.relu(x @ w) + 1e-9 * jnp.sum(b * b)


def penalized_shards(*axes):
    def body(x, w, b):
        penalty = jnp.sum(b * b)
        return jax.nn.relu(lax.psum(x @ w, "model")) + 1e-9 * (lax.psum(penalty, axes) if axes else penalty)

    return on_mesh(body, (P("data", "model"), P("model"), P("model")), P("data"))


def shifted(x, w, b):
    return x @ w + 1e-7 * jnp.tanh(b)


def shifted_shards(order):
    """A gather of the parts of `b`, put together in some order."""

    def body(x, w, b):
        parts = lax.all_gather(b, "model")
        whole = jnp.concatenate([parts[place] for place in order])
        return lax.psum(x @ w, "model") + 1e-7 * jnp.tanh(whole)

    return on_mesh(body, (P("data", "model"), P("model"), P("model")), P("data"))


def cut_shards(off_by):
    """Each device takes its part of a replicated `b`."""

    def body(x, w, b):
        place = (lax.axis_index("model") + off_by) % 2
        part = lax.dynamic_slice_in_dim(b, place * 8, 8)
        return lax.psum(x, "model") @ w + 1e-7 * jnp.tanh(part)

    return on_mesh(body, (P("data"), P(None, "model"), P()), P("data", "model"))


def cut(x, w, b):
    return (2.0 * x) @ w + 1e-7 * jnp.tanh(b)


FAULTS = {
    "a bias of 1e-6 added twice": (layer, layer_shards(0, 1), layer_shards(1, 0)),
    "a psum left out": (penalized, penalized_shards("model"), penalized_shards()),
    "a psum over the wrong axis": (penalized, penalized_shards("model"), penalized_shards("data")),
    "a gather in the wrong order": (shifted, shifted_shards((0, 1)), shifted_shards((1, 0))),
    "a shard off by one": (cut, cut_shards(0), cut_shards(1)),
}
SHAPES = {8: (8, 32), 32: (32, 16), 16: (16,)}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_a_tolerance_hides_is_found(name):
    plain, right, wrong = FAULTS[name]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((8, 32), (32, 16), (16,))]
    expected = np.asarray(jax.jit(plain)(*arrays))
    shapes = [jax.ShapeDtypeStruct(array.shape, np.float32) for array in arrays]
    step = Reference.of(ir.trace(plain, *shapes))
    for function, is_right in ((right, True), (wrong, False)):
        np.testing.assert_allclose(jax.jit(function)(*arrays), expected, rtol=1e-5, atol=1e-5)
        assert step.against(unplaced(flat(ir.trace(function, *shapes)))).equal == is_right


def test_devices_that_should_agree_are_all_looked_at():
    """A result that is said to be replicated, wrong on all devices but the first, whose copy is read."""

    def body(x):
        return x + 1e-3 * (lax.axis_index("data") > 0)

    function = on_mesh(body, (P(),), P())
    step = Reference.of(ir.trace(lambda x: x + 0.0, jnp.ones(4)))
    assert str(step.against(unplaced(flat(ir.trace(function, jnp.ones(4)))))) == (
        "values equal: 0 of 1 outputs\n  `output 0`: 4 of 4 elements differ, first at [0]"
    )


def dropped(placed: Graph, kind: str) -> Graph:
    """The placed graph without its first collective of a kind; whoever read its result reads its operand."""
    node = next(node for node in placed.nodes if node.kind == kind)
    (before,), (after,) = node.value_inputs, node.outputs

    def read(operand):
        return before if getattr(operand, "id", None) == after.id else operand

    nodes = tuple(replace(each, inputs=tuple(map(read, each.inputs))) for each in placed.nodes if each is not node)
    return replace(placed, nodes=nodes, outputs=tuple(map(read, placed.outputs)))


@pytest.mark.filterwarnings("ignore::passes.PlanWarning")
def test_a_collective_missing_from_a_placed_graph_is_found():
    step = reference("lora")
    plan = Plan.by_hand(*PLANS["tensor parallel"])
    with suppress_type_checks():
        placed = passes.run(step.graph, plan.mesh, plan=plan).placed
        assert not step.against(shadow_placed(flat(dropped(placed, "all_reduce")), plan)).equal


# --- the gradient of an embedding -------------------------------------------------------------------------------------


def embedding_step(table, tokens, weights):
    """A micro-batch at a time: the recipe of openxla/xla#42481 and #49143, in which XLA's partitioner lost updates."""

    def loss(table, some, factors):
        return jnp.sum(table[some] * factors)

    def micro(total, part):
        return total + jax.grad(loss)(table, *part), None

    return lax.scan(micro, jnp.zeros_like(table), (tokens, weights))[0]


VOCAB, EMBED, MICRO, BATCH = 32, 8, 4, 16


def embedding_arguments():
    return (
        shaped("vocab embed", VOCAB, EMBED),
        shaped("micro batch", MICRO, BATCH, dtype=jnp.int32),
        shaped("micro batch embed", MICRO, BATCH, EMBED),
    )


def counted(tokens, weights):
    """The gradient, by `np.add.at`."""
    total = np.zeros((VOCAB, EMBED), np.uint32)
    np.add.at(total, tokens.reshape(-1), weights.reshape(-1, EMBED))
    return total


def named_step(*arrays):
    return embedding_step(*(each.array for each in arrays))


@pytest.mark.parametrize("partitioner", ["explicit", "xla"])
@pytest.mark.parametrize("vocab", [M, D, ("data", "model")])
def test_the_gradient_of_an_embedding_is_exact_under_a_plan(vocab, partitioner):
    graph = ir.trace(named_step, *embedding_arguments())
    step = Reference.of(graph)
    _, tokens, weights = step.inputs
    np.testing.assert_array_equal(step.outputs[0], counted(tokens, weights))
    assert against(step, Plan.by_hand(MESH, {"vocab": vocab, "batch": D}), partitioner).equal


@pytest.mark.parametrize("table", [P("model"), P("data"), P(("data", "model")), P("model", "data")])
def test_the_gradient_of_an_embedding_is_exact_under_plain_jit(table):
    graph = ir.trace(named_step, *embedding_arguments())
    step, mesh = Reference.of(graph), device_mesh()
    places = [NamedSharding(mesh, spec) for spec in (table, P(None, "data"), P(None, "data"))]
    function = jax.jit(unplaced(flat(graph)), in_shardings=tuple(places), out_shardings=[places[0]])
    assert step.against(function).equal


@pytest.mark.parametrize("start", range(8))
def test_a_slice_that_starts_too_far_is_brought_in_before_it_is_sharded(start):
    """XLA (of jaxlib 0.10) takes a slice of a slice for one, and forgets that the first start is brought into range."""

    def step(x, start):
        return lax.dynamic_slice(x.array, (0, start.array), (4, 2))

    graph = ir.trace(step, shaped("batch embed", 4, 4), shaped("", dtype=jnp.int32))
    step = Reference.of(graph, given={1: np.int32(start)})
    assert against(step, Plan.by_hand({"data": 2, "model": 2}, {"batch": D, "embed": M})).equal


def test_an_empty_dim_is_not_sharded():
    """What has no elements has none to gather: halves of halves of a running product are empty in the end."""

    def step(x):
        return jax.grad(lambda array: jnp.sum(jnp.cumprod(array, axis=0) ** 2))(x.array)

    step = Reference.of(ir.trace(step, shaped("batch embed", 4, 4)))
    assert against(step, Plan.by_hand({"data": 2, "model": 2}, {"batch": D, "embed": M})).equal


# --- inputs and the report --------------------------------------------------------------------------------------------


def looked_up(table, tokens, more):
    return table[tokens + 0] * jnp.take(table, more, axis=0)


def test_indices_are_in_range():
    tokens = shaped("batch", 64, dtype=jnp.int32).array
    graph = ir.trace(looked_up, shaped("vocab embed", 5, 3).array, tokens, tokens)
    assert {graph.inputs[1].id: 5, graph.inputs[2].id: 5} == index_limits(graph)
    for array in ring_inputs(graph)[1:]:
        assert set(np.unique(array)) == set(range(5))


def test_inputs_depend_on_their_own_names_alone():
    def step(first, second):
        return first + second

    def other(second, first, third):
        return first + second + third

    x = jnp.ones(4)
    ours, theirs = ring_inputs(ir.trace(step, x, x)), ring_inputs(ir.trace(other, x, x, x))
    np.testing.assert_array_equal(ours[0], theirs[1])
    np.testing.assert_array_equal(ours[1], theirs[0])
    assert not np.array_equal(ours[0], ours[1])
    assert not np.array_equal(ours[0], ring_inputs(ir.trace(step, x, x), seed=1)[0])


def test_known_integers_are_taken_as_they_are():
    graph = ir.trace(lambda x, n: x * n, jnp.ones(2), jnp.arange(2))
    arrays = ring_inputs(graph, given={0: np.ones(2), 1: np.asarray([7, 9])})
    assert arrays[0].dtype == np.uint32
    np.testing.assert_array_equal(arrays[1], [7, 9])


def test_the_shadow_has_the_signature_of_the_step():
    def step(params, batch):
        return {"w": params["w"] - 0.1 * batch.array.sum()}, batch

    batch = shaped("batch", 8)
    graph = ir.trace(step, {"w": jax.ShapeDtypeStruct((4,), jnp.bfloat16)}, batch)
    plan = Plan.by_hand(MESH, {"batch": D})
    numbers = np.arange(8, dtype=np.uint32)
    state, seen = passes.shadow(graph, plan)({"w": numbers[:4]}, type(batch)(jnp.asarray(numbers), batch.axes))
    assert state["w"].dtype == jnp.uint32
    assert seen.axes == batch.axes


def test_what_is_not_covered_is_listed_with_its_line():
    def step(x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(lambda array: array, shape, x) * 2.0

    graph = ir.trace(step, jnp.ones(4))
    ((name, line),) = not_covered(graph)
    assert name == "opaque.pure_callback"
    assert line is not None and line.startswith("test_shadow.py:")
    found = compare_values(graph, passes.run(graph, MESH, plan=Plan.by_hand(MESH, {})).placed, Plan.by_hand(MESH, {}))
    assert str(found) == f"values equal: 1 of 1 outputs\n  not covered: opaque.pure_callback ({line})"
    assert Values.of(found.facts()) == found


def test_the_report_says_where_it_differs():
    found = Values(3, (Different("loss", (), 1, 1), Different("0.w", (2, 0), 5, 1024)))
    assert str(found) == (
        "values equal: 1 of 3 outputs\n"
        "  `loss`: 1 of 1 elements differ, a scalar\n"
        "  `0.w`: 5 of 1,024 elements differ, first at [2, 0]"
    )
    assert Values.of(found.facts()) == found
    assert found.facts()["equal"] == 1


def test_a_graph_from_text_has_no_shadow():
    graph = ir.parse(str(ir.trace(lambda x: x + 1.0, jnp.ones(4))))
    for function in (passes.shadow, passes.shadow_placed):
        with pytest.raises(passes.PlanError, match="was parsed from text"):
            function(graph, Plan.by_hand(MESH, {}))


def test_a_shard_map_that_one_device_cannot_stand_in_for_says_so():
    sizes = jnp.ones(4, jnp.int32)

    def body(x, e):
        return lax.ragged_all_to_all(x, x, e, e, e, e, axis_name="data")

    graph = ir.trace(on_mesh(body, (P("data"), P()), P("data")), jnp.ones((16, 2)), sizes)
    with pytest.raises(passes.PlanError, match="cannot be computed on one device, so there is nothing to compare with"):
        Reference.of(graph)
