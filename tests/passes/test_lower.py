"""Lowering: on one device bit for bit what `jax.jit` makes; on eight the same numbers, and the same ones every time."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from step_models import compiled, filled, hand_plan, prepared, shaped, step_of, traced

import ir
import passes
from passes import Plan, PlanError

ONE = Plan.by_hand({"data": 1}, {})
STEPS = ("raw", "named", "named_checkpoint", "mlp")


def arguments(name, seed=0):
    step = step_of(name)
    return filled(step.state, seed), filled(step.batch, seed + 1)


def bits(tree):
    return [(str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def operations(jaxpr) -> Counter:
    """Equations by primitive, bodies included, calls that only group left out."""
    found: Counter = Counter()
    for equation in jaxpr.eqns:
        bodies = list(jaxprs_in_params(equation.params))
        if equation.primitive.name not in ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"):
            found[equation.primitive.name] += 1
        for body in bodies:
            found += operations(getattr(body, "jaxpr", body))
    return found


# The step of `named` without checkpointing: tests/levanter/test_compile.py. What collectives the compiler makes of the
# programs below: test_lower_collectives.py.
@pytest.mark.parametrize("name", ["raw", "named_checkpoint", "mlp"])
def test_on_one_device_it_is_the_step_itself(name):
    step = step_of(name)
    ours, plain = passes.lower(prepared(name), ONE), jax.jit(step.function)
    state, batch = arguments(name)
    state_of_plain = state
    for _ in range(3):
        (state, metrics), (state_of_plain, metrics_of_plain) = ours(state, batch), plain(state_of_plain, batch)
        assert jax.tree.structure((state, metrics)) == jax.tree.structure((state_of_plain, metrics_of_plain))
        assert bits((state, metrics)) == bits((state_of_plain, metrics_of_plain))
    assert bits(state) != bits(arguments(name)[0])


@pytest.mark.parametrize("name", STEPS)
def test_on_one_device_there_is_no_more_to_do(name):
    step = step_of(name)
    ours = operations(jax.make_jaxpr(passes.lower(prepared(name), ONE))(step.state, step.batch).jaxpr)
    plain = operations(jax.make_jaxpr(step.function)(step.state, step.batch).jaxpr)
    assert {kind: n for kind, n in ours.items() if n > plain[kind]} == {}
    assert ours["sharding_constraint"] == 0


def test_an_uncanonical_graph_lowers_as_well():
    state, batch = arguments("mlp")
    assert bits(passes.lower(traced("mlp"), ONE)(state, batch)) == bits(jax.jit(step_of("mlp").function)(state, batch))


PLANS = ("dp", "fsdp", "tp", "sp", "mixed", "mixed_sp")


def one_device_run(name):
    state, batch = arguments(name)
    plain = jax.jit(step_of(name).function)
    for _ in range(2):
        state, metrics = plain(state, batch)
    return state, metrics


@pytest.fixture(scope="module")
def expected():
    return {name: one_device_run(name) for name in ("raw", "named")}


@pytest.mark.parametrize(("name", "plan"), [*(("named", plan) for plan in PLANS), ("raw", "mixed_sp"), ("raw", "fsdp")])
def test_on_eight_devices_the_numbers_are_the_same_and_again_the_same_bits(name, plan, expected):
    step = compiled(name, hand_plan(plan))
    results = []
    for _ in range(2):
        state, batch = step.place(*arguments(name))
        for _ in range(2):
            state, metrics = step.function(state, batch)
        results.append((state, metrics))
    assert bits(results[0]) == bits(results[1])
    for ours, theirs in zip(jax.tree.leaves(results[0]), jax.tree.leaves(expected[name]), strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize(("name", "plan"), [("raw", "mixed_sp"), ("named", "mixed_sp")])
def test_the_state_lies_where_the_plan_says_before_and_after(name, plan):
    step = compiled(name, hand_plan(plan))
    state, batch = step.place(*arguments(name))
    before = [leaf.sharding for leaf in jax.tree.leaves(state)]
    shards = {path: value for path, value in zip(step.placed.input_paths, step.placed.inputs, strict=True)}
    state, _ = step.function(state, batch)
    after = jax.tree.leaves(state)
    assert [leaf.sharding.is_equivalent_to(old, leaf.ndim) for leaf, old in zip(after, before, strict=True)] == [
        True
    ] * len(after)
    assert any(dim.mesh for value in shards.values() for dim in value.type.dims)
    for leaf, value in zip(after, step.placed.inputs, strict=False):
        local = tuple(dim.size // step.plan.mesh.group(step.plan.mesh.mask(dim.mesh)) for dim in value.type.dims)
        assert leaf.addressable_shards[0].data.shape == local


def test_sums_over_devices_can_be_made_in_their_order():
    """So CPU devices make the same bits in several processes as in one: nothing but data is sent."""
    state, batch = arguments("mlp")
    plan = Plan.by_hand({"data": 4}, {"batch": ("data",)}, {"embed": ("data",)})
    step = passes.lower(prepared("mlp"), plan, jax.devices()[:4], ordered_sums=True)
    sent = operations(jax.make_jaxpr(step)(state, batch).jaxpr)
    assert not {"psum", "psum_invariant", "reduce_scatter"} & set(sent) and sent["all_to_all"] and sent["all_gather"]
    usual = operations(jax.make_jaxpr(passes.lower(prepared("mlp"), plan, jax.devices()[:4]))(state, batch).jaxpr)
    assert usual["psum"] + usual["psum_invariant"] and usual["reduce_scatter"]
    plain = jax.jit(step_of("mlp").function)(state, batch)
    for ours, theirs in zip(jax.tree.leaves(step(state, batch)), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=2e-3, atol=2e-5)


def test_donated_state_is_gone():
    state, batch = arguments("mlp")
    passes.lower(prepared("mlp"), ONE, donate=True)(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(batch))
    state, batch = arguments("mlp")
    passes.lower(prepared("mlp"), ONE)(state, batch)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_the_compiled_step_updates_in_place():
    step = compiled("raw", hand_plan("fsdp"))
    memory = step.function.memory_analysis()
    state = sum(
        value.type.bytes
        // step.plan.mesh.group(step.plan.mesh.mask([axis for dim in value.type.dims for axis in dim.mesh]))
        for value in step.placed.inputs[:-2]
    )
    assert memory.alias_size_in_bytes == state


# Control flow, unknown primitives, keys: one device bitwise, four devices close.


def looping(x, w):
    def body(carry, layer):
        return jnp.tanh(carry @ layer), carry.sum(0)

    carry, stacked = jax.lax.scan(body, x.array, w.array)
    total = jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] + carry, c[1] + 1), (carry, 0))[0]
    return total, stacked


def branching(p, x):
    return jax.lax.cond(p, lambda y: y * 2, lambda y: jnp.sort(y, 1), x.array)


def solving(x):
    return jnp.linalg.qr(x.array)[0] * 2, jnp.linalg.cholesky(x.array @ x.array.T + 4 * jnp.eye(4))


def drawing(key, x):
    return x.array + jax.random.normal(key, x.array.shape), jax.random.bernoulli(jax.random.key(3), 0.5, (4, 4))


def looking_up(w, i):
    return w.array[i.array], jnp.take_along_axis(w.array, i.array[:, :1], 1), w.array.at[i.array].add(1.0, mode="drop")


def shaping(x):
    y = x.array.reshape(2, 2, 4).reshape(4, 4)[:, ::-1]
    return jnp.concatenate([y, x.array.T], 1), jnp.pad(y, ((1, 0), (0, 2))), jnp.cumsum(y, 1), jnp.argmax(y, 0)


BE = shaped("batch embed", 4, 4)
FUNCTIONS = {
    "loops": (looping, (BE, shaped("layers embed out", 3, 4, 4))),
    "branches": (branching, (jax.ShapeDtypeStruct((), jnp.bool_), BE)),
    "unknown primitives": (solving, (BE,)),
    "random numbers": (drawing, (jax.eval_shape(lambda: jax.random.key(0)), BE)),
    "lookups": (looking_up, (shaped("vocab embed", 4, 4), shaped("batch position", 4, 4, dtype=jnp.int32))),
    "shapes": (shaping, (BE,)),
}


def values_for(shapes):
    def value(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(7)
        if leaf.dtype == jnp.bool_:
            return jnp.asarray(True)
        return filled(leaf, high=4)

    return jax.tree.map(value, shapes)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_kind_of_node_lowers_right(name):
    function, shapes = FUNCTIONS[name]
    graph = ir.trace(function, *shapes)
    inputs = values_for(shapes)
    wanted = jax.jit(function)(*inputs)
    assert bits(passes.lower(graph, ONE)(*inputs)) == bits(wanted)
    # `out` is what `embed` is: an axis error on purpose, which lowering does not mind.
    split = {"batch": ("data",), "embed": ("model",), "vocab": ("data",), "position": ("model",)}
    plan = Plan.by_hand({"data": 2, "model": 2}, split)
    for ours, theirs in zip(
        jax.tree.leaves(passes.lower(graph, plan, jax.devices()[:4])(*inputs)), jax.tree.leaves(wanted), strict=True
    ):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-5, atol=1e-6)


# Errors.


def test_a_parsed_graph_cannot_be_lowered():
    with pytest.raises(PlanError) as caught:
        passes.lower(ir.parse(str(prepared("mlp"))), ONE)
    assert str(caught.value) == (
        "graph 'step' was parsed from text: it can be checked, planned and costed, but only a graph from ir.trace "
        "can be lowered"
    )


def test_another_number_of_devices_than_the_mesh_has():
    with pytest.raises(PlanError) as caught:
        passes.lower(prepared("mlp"), hand_plan("dp"), jax.devices()[:3])
    assert str(caught.value) == (
        "the plan is for 8 devices, 3 given: pass 8 devices, or set XLA_FLAGS=--xla_force_host_platform_device_count=8"
    )
    with pytest.raises(PlanError, match="^the plan is for 16 devices, 8 given: "):
        passes.device_mesh(hand_plan("dp", data=8))
