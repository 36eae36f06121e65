"""A plan for any tree of the user's: where its arrays lie, as shardings and as partition specs."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import ir
import passes
from haliax import Axis, NamedArray

NAMES = {"*.embedding": "vocab embed", "*.up": "embed mlp", "batch.tokens": "batch position", "*.targets": "... target"}
MESH = {"data": 4, "model": 2}
BY_HAND = passes.Plan.by_hand(MESH, {"batch": "data", "mlp": "model"}, {"embed": "data"})


def loss(params, batch):
    x = params["embedding"][batch["tokens"]]
    y = x + jnp.tanh(x @ params["up"]) @ params["down"]
    return jnp.mean((y @ params["head"] - batch["targets"]) ** 2)


def step(state, batch):
    value, grads = jax.value_and_grad(loss)(state["params"], batch)
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, state["momentum"], grads)
    params = jax.tree.map(lambda p, m: p - 0.1 * m, state["params"], momentum)
    return {"params": params, "momentum": momentum}, {"loss": value}


def arguments():
    sizes = {"embedding": (96, 8), "up": (8, 32), "down": (32, 8), "head": (8, 4)}
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    tokens = rng.integers(0, 96, (16, 4)).astype(np.int32)
    targets = rng.normal(size=(16, 4, 4)).astype(np.float32)
    return {"params": params, "momentum": jax.tree.map(np.zeros_like, params)}, {"tokens": tokens, "targets": targets}


STATE, BATCH = arguments()
GRAPH = ir.trace(step, STATE, BATCH, names=NAMES)
PARAMS = {"embedding": P(None, "data"), "up": P("data", "model"), "down": P("model", "data"), "head": P("data", None)}
DATA = {"tokens": P("data", None), "targets": P("data", None, None)}


def specs(tree):
    return BY_HAND.specs(tree, graph=GRAPH)


@pytest.mark.parametrize(
    ("tree", "wanted"),
    [
        (STATE, {"params": PARAMS, "momentum": PARAMS}),
        (BATCH, DATA),
        ((STATE, BATCH), ({"params": PARAMS, "momentum": PARAMS}, DATA)),
        ([STATE, BATCH], [{"params": PARAMS, "momentum": PARAMS}, DATA]),
        (STATE["momentum"], PARAMS),
        (jax.eval_shape(step, STATE, BATCH), ({"params": PARAMS, "momentum": PARAMS}, {"loss": P()})),
        ({"loss": 0.0}, {"loss": P()}),
        (STATE["params"]["embedding"], P(None, "data")),
    ],
)
def test_trees_of_the_step(tree, wanted):
    assert specs(tree) == wanted


def test_shardings_are_those_of_the_lowered_step():
    plan = passes.plan(GRAPH, MESH)
    placed = passes.run(GRAPH, MESH, plan=plan).placed
    assert plan.shardings((STATE, BATCH)) == passes.input_shardings(placed, passes.device_mesh(plan))


def test_three_lines_put_a_plan_into_a_training_loop():
    state, batch = STATE, BATCH
    plain = jax.jit(step)
    shardings = BY_HAND.shardings((state, batch), graph=GRAPH)
    placed = jax.device_put(state, shardings[0])
    planned = jax.jit(step, in_shardings=shardings, out_shardings=(shardings[0], None))
    for _ in range(3):
        state, one = plain(state, batch)
        placed, eight = planned(placed, batch)
        np.testing.assert_allclose(one["loss"], eight["loss"], rtol=1e-5)
    assert placed["params"]["up"].sharding == NamedSharding(passes.device_mesh(BY_HAND), P("data", "model"))
    assert placed["params"]["up"].addressable_shards[0].data.shape == (2, 16)


def test_devices_are_taken_in_their_order():
    devices = list(reversed(jax.devices()))
    (sharding,) = jax.tree.leaves(BY_HAND.shardings({"loss": 0.0}, graph=GRAPH, devices=devices))
    assert list(sharding.mesh.devices.flat) == devices


def test_a_plan_that_was_sent_elsewhere_still_knows_its_step():
    plan = pickle.loads(pickle.dumps(passes.plan(GRAPH, MESH)))
    assert plan.specs(BATCH) == passes.plan(GRAPH, MESH).specs(BATCH)


def test_named_arrays_boxes_and_static_leaves():
    nn = pytest.importorskip("flax.linen")
    eqx = pytest.importorskip("equinox")
    embed, mlp = Axis("embed", 8), Axis("mlp", 16)
    state = {
        "named": NamedArray(jnp.ones((8, 16)), (embed, mlp)),
        "boxed": nn.Partitioned(jnp.ones((8, 16)), ("embed", "mlp")),
        "linear": eqx.nn.MLP(8, 16, 16, 0, activation=jax.nn.gelu, key=jax.random.key(0)),
    }

    def update(state):
        return jax.tree.map(lambda x: x * 2 if eqx.is_array(x) else x, state)

    graph = ir.trace(update, state, names={"*.weight": "mlp embed", "*.bias": "mlp"})
    found = passes.Plan.by_hand(MESH, {}, {"embed": "data", "mlp": "model"}).specs(state, graph=graph)
    assert found["named"].array == P("data", "model")
    assert (found["boxed"].value, found["boxed"].names) == (P("data", "model"), ("embed", "mlp"))
    assert (found["linear"].layers[0].weight, found["linear"].layers[0].bias) == (P("model", "data"), P("model"))
    assert found["linear"].activation is None
    structure = jax.tree.structure(eqx.filter(state, eqx.is_array))
    assert jax.tree.structure(found) == structure
    without_boxes = {**state, "boxed": state["boxed"].value}
    again = passes.Plan.by_hand(MESH, {}, {"embed": "data", "mlp": "model"}).specs(without_boxes, graph=graph)
    assert again["boxed"] == P("data", "model")


def test_modules_of_nnx():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(8, 16, rngs=nnx.Rngs(0))
    graph = ir.trace(lambda model, x: model(x), model, jnp.ones((4, 8)), names={"*.kernel": "embed mlp"})
    plan = passes.Plan.by_hand(MESH, {"mlp": "model"})
    found = plan.shardings(model, graph=graph)
    assert found.kernel.get_value().spec == P(None, "model")
    _, state = nnx.split(model)
    assert plan.specs(state, graph=graph)["bias"].get_value() == P("model")
    pure = nnx.to_pure_dict(state)
    assert plan.specs(pure, graph=graph) == {"kernel": P(None, "model"), "bias": P("model")}


EXPECTED = "give `state` or `batch` of `step`, all its arguments as a tuple, its result, or a part of one of them"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"x": 1.0}, f"the tree has `x`, which is not a tree of the step that was planned: {EXPECTED}"),
        ({}, f"the tree has no arrays, which is not a tree of the step that was planned: {EXPECTED}"),
        (jnp.ones(77), f"the tree is one array, which is not a tree of the step that was planned: {EXPECTED}"),
        (
            {**BATCH, "mask": 1.0},
            f"the tree is nearest to `batch` but has besides `mask`: {EXPECTED}",
        ),
        (
            {"params": STATE["params"]},
            "the tree is nearest to `state` but lacks `momentum.down`, `momentum.embedding`, `momentum.head` and 1 "
            f"more: {EXPECTED}",
        ),
        (
            {**BATCH, "tokens": jnp.ones((8, 4))},
            "the tree is `batch` of `step`, but `tokens` is of shape (8, 4), and of (16, 4) in the step: trace and "
            "plan the step for these shapes",
        ),
    ],
)
def test_a_tree_that_is_none_of_the_step_s(tree, message):
    with pytest.raises(passes.PlanError) as caught:
        specs(tree)
    assert str(caught.value) == message


def test_parts_that_are_sharded_differently():
    def two(first, second):
        return first, second["weights"]["w"].sum()

    weights = {"weights": {"w": jnp.ones((8, 8))}}
    graph = ir.trace(two, {"a": weights}, weights, names={"first.*": "embed mlp", "second.*": "mlp embed"})
    with pytest.raises(passes.PlanError) as caught:
        passes.Plan.by_hand(MESH, {"mlp": "model"}, {"embed": "data"}).specs(weights["weights"], graph=graph)
    assert str(caught.value) == (
        "the tree may be `second.weights` or `first.a.weights` of `two`, which are sharded differently: give the whole "
        "argument and take its part from the result"
    )


def test_a_plan_by_hand_knows_no_step():
    for method in ("specs", "shardings"):
        with pytest.raises(passes.PlanError) as caught:
            getattr(BY_HAND, method)(STATE)
        assert str(caught.value) == (
            f"a plan by hand knows no step: give the traced graph, plan.{method}(tree, graph=graph)"
        )
