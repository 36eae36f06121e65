"""Steps that update NNX modules in place: the updates are outputs of the graph, and a lowered step makes them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ir
import passes

nnx = pytest.importorskip("flax.nnx")

MESH = {"data": 4, "model": 2}
BY_HAND = passes.Plan.by_hand(MESH, {"batch": "data", "mlp": "model"}, {"embed": "data"})
NAMES = {"*.up.kernel": "embed mlp", "x": "batch embed"}
X = jax.random.normal(jax.random.key(1), (16, 8))


class Model(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(8, 32, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.down = nnx.Linear(32, 8, rngs=rngs)

    def __call__(self, x):
        return self.down(self.dropout(nnx.relu(self.up(x))))


def loss(model, x):
    return ((model(x) - x) ** 2).mean()


def step(model, optimizer, x):
    value, grads = nnx.value_and_grad(loss)(model, x)
    optimizer.update(model, grads)
    return value


def returning(state, x):
    model, optimizer = state
    return (model, optimizer), step(model, optimizer, x)


def start():
    model = Model(nnx.Rngs(0))
    return model, nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)


def arrays(*modules):
    """Every array, random keys as the numbers that they are."""
    leaves = jax.tree.leaves(modules)
    return [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in leaves]


def bits(*modules):
    return [np.asarray(each).tobytes() for each in arrays(*modules)]


def test_updates_are_carried_outputs_with_the_paths_of_the_inputs():
    graph = ir.trace(step, *start(), X, names=NAMES)
    updated = [graph.output_paths[after] for _, after in graph.carried]
    assert updated == [graph.input_paths[before] for before, _ in graph.carried]
    kept = [path for path in graph.input_paths if path not in updated]
    assert kept == ["model.dropout.rngs.key", "x"]
    assert (len(graph.outputs), graph.output_paths[-1]) == (len(updated) + 1, "")
    assert ir.parse(ir.print_graph(graph)) == graph


def test_what_is_returned_is_no_update():
    graph = ir.trace(returning, start(), X, names=NAMES)
    assert graph.output_paths == (*[path.replace("state", "0", 1) for path in graph.input_paths[:-1]], "1")


def test_tracing_changes_no_module():
    modules = start()
    before = bits(*modules)
    ir.trace(step, *modules, X)
    assert bits(*modules) == before


def test_a_step_that_updates_nothing_gives_its_result():
    model = nnx.Linear(8, 4, rngs=nnx.Rngs(0))
    graph = ir.trace(lambda model, x: model(x), model, X)
    assert len(graph.outputs) == 1
    result = passes.lower(graph, passes.Plan.by_hand({"data": 1}, {}))(model, X)
    np.testing.assert_array_equal(result, jax.jit(lambda model, x: model(x))(model, X))


@pytest.mark.parametrize("donate", [False, True])
def test_on_one_device_it_is_nnx_jit_bit_for_bit(donate):
    ours, theirs = start(), start()
    graph = ir.trace(step, *ours, X, names=NAMES)
    lowered = passes.lower(graph, passes.Plan.by_hand({"data": 1}, {}), donate=donate)
    jitted = nnx.jit(step)
    for _ in range(3):
        one, other = lowered(*ours, X), jitted(*theirs, X)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
        assert bits(*ours) == bits(*theirs)


def test_on_eight_devices_modules_hold_sharded_arrays():
    ours, theirs = start(), start()
    lowered = passes.lower(ir.trace(nnx.jit(step), *ours, X, names=NAMES), BY_HAND)
    for _ in range(3):
        np.testing.assert_allclose(lowered(*ours, X), step(*theirs, X), rtol=1e-5)
    for one, other in zip(arrays(*ours), arrays(*theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    assert ours[0].up.kernel[...].addressable_shards[0].data.shape == (2, 16)


def test_where_the_arrays_of_modules_go():
    model, optimizer = start()
    graph = ir.trace(step, model, optimizer, X, names=NAMES)
    specs = BY_HAND.specs((model, optimizer, X), graph=graph)
    assert specs[0].up.kernel.get_value() == jax.sharding.PartitionSpec("data", "model")
    assert specs[1].opt_state[0].mu.up.kernel.get_value() == jax.sharding.PartitionSpec("data", "model")
    assert BY_HAND.specs(jnp.ones(()), graph=graph) == jax.sharding.PartitionSpec()


def test_static_leaves_beside_modules():
    def labelled(options, model, optimizer, x):
        assert options["mode"] == "train"
        return step(model, optimizer, x)

    ours, theirs = start(), start()
    options = {"mode": "train", "activation": jax.nn.relu}
    lowered = passes.lower(ir.trace(labelled, options, *ours, X), passes.Plan.by_hand({"data": 1}, {}))
    assert float(lowered(options, *ours, X)) == pytest.approx(float(nnx.jit(step)(*theirs, X)), rel=1e-6)
    assert bits(*ours) == bits(*theirs)
