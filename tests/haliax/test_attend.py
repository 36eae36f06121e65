"""`attend`: the reference against an oracle of plain loops over rows, the other backends against the reference."""

from __future__ import annotations

import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import haliax as hax
import haliax._compat
import haliax.nn as hnn
from haliax import NamedArray
from haliax.nn.attention import AttentionMask, attend, blockwise, reference, splash
from haliax.nn.attention.backends import chosen
from haliax.nn.attention.library import Library

B, P, K, H, G, D = hax.make_axes(batch=2, position=7, key_position=9, kv_heads=2, group=3, head_size=4)
QUERY, KEY = (B, P, H, G, D), (B, K, H, D)


def inputs(query=QUERY, key=KEY, value=None, dtype=jnp.float32, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    axes = (query, key, key if value is None else value)
    return [hax.random.normal(k, a).astype(dtype) for k, a in zip(keys, axes, strict=True)]


def oracle(query, key, value, mask, scale=None, softcap=None):
    q = np.asarray(query.rearrange(QUERY).array, np.float64)
    k, v = (np.asarray(a.rearrange(KEY).array, np.float64) for a in (key, value))
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for b in range(B.size):
        for p in range(P.size):
            allowed = visible_keys(mask, b, p)
            for h in range(H.size):
                for g in range(G.size):
                    scores = k[b, :, h] @ q[b, p, h, g] * (1 / math.sqrt(D.size) if scale is None else scale)
                    if softcap is not None:
                        scores = softcap * np.tanh(scores / softcap)
                    weights = np.exp(scores - scores.max()) * allowed
                    out[b, p, h, g] = (weights / weights.sum()) @ v[b, :, h]
    return out


def visible_keys(mask, b, p):
    if mask is None:
        return np.ones(K.size, bool)
    if isinstance(mask, NamedArray):
        return np.asarray(mask.broadcast_axis((B, P, K)).rearrange((B, P, K)).array)[b, p]

    def of(part, default):
        part = default if part is None else part
        return int(part["batch", b].array) if isinstance(part, NamedArray) else int(part)

    keys, at, allowed = np.arange(K.size), p + of(mask.starts, 0), np.ones(K.size, bool)
    if mask.causal:
        allowed &= keys <= at
    if of(mask.window, 0) > 0:
        allowed &= (keys <= at) & (at - keys < of(mask.window, 0))
    allowed |= keys < of(mask.prefix, 0)
    if mask.segments is not None:
        own, keys = (each.broadcast_axis(B) for each in mask.segments)
        allowed = allowed & (np.asarray(keys["batch", b].array) == int(own["batch", b]["position", p].array))
    return allowed


SEGMENTS = (hax.named([0, 0, 0, 1, 1, 2, 2], "position"), hax.named([0, 0, 1, 1, 1, 1, 2, 2, 2], "key_position"))
MASKS = {
    "none": None,
    "causal": AttentionMask(causal=True),
    "window": AttentionMask(causal=True, window=3),
    "window alone": AttentionMask(window=3),
    "traced window": AttentionMask(causal=True, window=jnp.array(2)),
    "traced window of none": AttentionMask(causal=True, window=jnp.array(0)),
    "negative window": AttentionMask(causal=True, window=-1),
    "prefix": AttentionMask(causal=True, prefix=4),
    "prefix by batch": AttentionMask(causal=True, prefix=hax.named([0, 5], "batch")),
    "prefix and window": AttentionMask(causal=True, window=2, prefix=2),
    "start": AttentionMask(causal=True, starts=2),
    "traced start": AttentionMask(causal=True, starts=jnp.array(1)),
    "starts by batch": AttentionMask(causal=True, window=4, starts=hax.named([0, 2], "batch")),
    "segments": AttentionMask(segments=SEGMENTS),
    "causal segments": AttentionMask(causal=True, starts=2, segments=SEGMENTS),
    "segments by batch": AttentionMask(
        segments=(
            SEGMENTS[0].broadcast_axis(B),
            hax.stack(B, [SEGMENTS[1], hax.named([2, 1, 1, 0, 0, 1, 1, 2, 0], "key_position")]),
        )
    ),
    "array": hnn.attention.causal_mask(P, K, q_start=1),
    "key padding": hax.arange(K) < hax.named([3, 9], "batch").broadcast_axis(K),
}


OPTIONS = ({}, {"softcap": 0.7, "scale": 0.3})
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
NOTHING_SEEN = AttentionMask(causal=True, starts=-3)


def results(arrays, masks, options=({},), backend="reference"):
    """For each mask the result, in float32, and gradients of its sum of squares: one program for all."""

    def one(arrays, mask, chosen):
        def loss(arrays):
            out = attend(*arrays, Key=D, KPos=K, mask=mask, backend=backend, **chosen)
            assert out.axes == QUERY and out.dtype == arrays[0].dtype
            out = out.astype(jnp.float32)
            return (out**2).sum().scalar(), out.array

        (_, out), gradients = jax.value_and_grad(loss, has_aux=True)(arrays)
        return [out, *[leaf.astype(jnp.float32) for leaf in jax.tree.leaves(gradients)]]

    def program(arrays):
        # Each mask with one of the options, in turn.
        return {
            (name, number % len(options)): one(arrays, masks[name], options[number % len(options)])
            for number, name in enumerate(masks)
        }

    return jax.tree.map(np.asarray, jax.jit(program, compiler_options=FAST)(arrays))


def assert_close(found, expected, **tolerance):
    for case, arrays in expected.items():
        for array, wanted in zip(found[case], arrays, strict=True):
            np.testing.assert_allclose(array, wanted, err_msg=str(case), **tolerance)


@pytest.fixture(scope="module")
def expected():
    return results(inputs(), MASKS, OPTIONS)


def test_the_reference_is_what_the_definition_says(expected):
    for (name, i), (out, *_) in expected.items():
        np.testing.assert_allclose(out, oracle(*inputs(), MASKS[name], **OPTIONS[i]), atol=2e-6, err_msg=name)


def test_block_by_block_gives_the_same(expected, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK", 4)  # 9 keys: two blocks and one key
    assert_close(results(inputs(), MASKS, OPTIONS, "blockwise"), expected, rtol=1e-5, atol=1e-5)


def test_the_function_of_jax_gives_the_same(expected):
    some = {name: mask for number, (name, mask) in enumerate(MASKS.items()) if number % 2 == 0}  # without a softcap
    found = results(inputs(), some, backend="jax")
    assert_close(found, {case: expected[case] for case in found}, rtol=1e-5, atol=1e-5)
    for mask in (AttentionMask(causal=True), AttentionMask(causal=True, starts=jnp.array(3))):
        spec, arrays = described(*inputs(), mask)
        (_, lse), (_, logs) = (each.attention(spec, *arrays) for each in (Library("xla"), reference))
        np.testing.assert_allclose(lse, logs, atol=1e-5)


@pytest.mark.parametrize("backend", ["reference", "blockwise", "jax"])
def test_half_precision(backend, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK", 4)
    some = {name: MASKS[name] for name in ("none", "window", "prefix by batch", "causal segments")}
    wide = results([each.astype(jnp.float32) for each in inputs(dtype=jnp.bfloat16)], some)
    assert_close(results(inputs(dtype=jnp.bfloat16), some, backend=backend), wide, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("backend", ["blockwise", "jax"])
def test_a_query_that_sees_nothing_gives_the_same_finite_numbers(backend, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK", 4)
    masks = {"nothing": NOTHING_SEEN, "nothing of the segment": AttentionMask(segments=(SEGMENTS[0] + 5, SEGMENTS[1]))}
    wanted = results(inputs(), masks)
    assert all(np.isfinite(array).all() for arrays in wanted.values() for array in arrays)
    assert_close(results(inputs(), masks, backend=backend), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_splash_gives_the_same(monkeypatch):
    module = haliax._compat.splash_attention()
    if module is None:
        pytest.skip("this version of JAX has no Splash Attention")
    monkeypatch.setattr(module, "make_splash_mha", partial(module.make_splash_mha, interpret=True))
    T, S, H2, G2, V = hax.make_axes(position=128, key_position=256, kv_heads=1, group=2, head_size=64)
    q, k, v = inputs((T, H2, V, G2, B), (B, H2, S, V))
    ids = [hax.arange(axis) // 50 for axis in (T, S)]
    for mask, options in (
        (AttentionMask(causal=True, starts=128), {"softcap": 2.0}),
        (AttentionMask(window=40, starts=7, segments=(ids[0].broadcast_axis(B), ids[1])), {"scale": 0.2}),
    ):
        spec, arrays = described(q, k, v, mask, **options)
        result, lse = splash.attention(spec, *arrays)
        wanted, logs = reference.attention(spec, *arrays)
        np.testing.assert_allclose(result, wanted, atol=1e-5)
        np.testing.assert_allclose(lse, logs, atol=1e-5)
        gradients = (module.backward(spec, *arrays, result, lse, result) for module in (splash, reference))
        for found, gradient in zip(*gradients, strict=True):
            np.testing.assert_allclose(found, gradient, atol=1e-4)


def described(*arguments, **options):
    """The spec and the arrays of an attention."""
    function = partial(attend, Key="head_size", KPos="key_position", mask=arguments[3], **options)
    jaxpr = jax.make_jaxpr(function)(*arguments[:3])
    equation = next(e for e in jaxpr.eqns if e.primitive.name == "attention")
    spec = equation.params["spec"]
    known = {"starts": arguments[3].starts, "window": arguments[3].window}
    known |= dict(zip(("query_segments", "key_segments"), arguments[3].segments or (), strict=False))
    masks = [getattr(known[name], "array", known[name]) for name in spec.masks]
    return spec, [each.array for each in arguments[:3]] + masks


def temporary_bytes(length, backend):
    T, S, H2 = hax.make_axes(position=length, key_position=length, heads=2)

    def loss(arrays):
        out = attend(*arrays, Key=D, KPos=S, mask=AttentionMask(causal=True), backend=backend)
        return (out**2).sum().scalar()

    types = jax.eval_shape(lambda: [hax.zeros(axes) for axes in ((H2, T, D), (H2, S, D), (H2, S, D))])
    programs = (jax.jit(loss), jax.jit(jax.grad(loss)))
    return [each.lower(types).compile().memory_analysis().temp_size_in_bytes for each in programs]


def test_memory_is_linear_in_the_length():
    short, long = (temporary_bytes(length, "blockwise") for length in (2048, 8192))
    for before, after in zip(short, long, strict=True):
        assert after < 4.2 * before
    for before, after in zip(temporary_bytes(2048, "reference"), temporary_bytes(8192, "reference"), strict=True):
        assert after > 12 * before  # and so the measure is one of this


def test_which_backend_is_chosen(monkeypatch):
    def spec_of(length, keys=None, dtype=jnp.bfloat16, **options):
        axes = (
            hax.make_axes(heads=2, position=length, head_size=64),
            hax.make_axes(heads=2, key_position=keys or length, head_size=64),
        )
        q, k = (jax.eval_shape(lambda a=a: hax.zeros(a, dtype=dtype)) for a in axes)
        options = {"mask": AttentionMask(causal=True), **options}
        function = partial(attend, Key="head_size", KPos="key_position", **options)
        jaxpr = jax.make_jaxpr(function)(q, k, k)
        equation = next(e for e in jaxpr.eqns if e.primitive.name == "attention")
        return equation.params["spec"], [var.aval for var in equation.invars[:3]]

    def name(found, platform, devices=1):
        backend = chosen(*found, platform, devices)
        return getattr(backend, "implementation", getattr(backend, "__name__", "").rpartition(".")[2])

    assert name(spec_of(512), "cpu") == "reference"
    assert name(spec_of(1024), "cpu") == "blockwise"
    assert name(spec_of(1, 100_000, mask=None), "cpu") == "reference"  # a step of decoding
    if jax.default_backend() != "gpu":
        assert name(spec_of(1024), "cuda") == "blockwise"  # there is no cuDNN
    monkeypatch.setattr(Library, "runs", lambda *_: True)
    assert name(spec_of(1024), "cuda") == "cudnn"
    assert name(spec_of(1024, mask=AttentionMask(causal=True, window=100)), "cuda") == "cudnn"
    assert name(spec_of(1024, dtype=jnp.float32), "cuda") == "blockwise"
    assert name(spec_of(1024, mask=AttentionMask(causal=True, window=jnp.array(3))), "cuda") == "blockwise"
    assert name(spec_of(1024, softcap=3.0), "cuda") == "blockwise"
    assert name(spec_of(1024, backend="jax"), "cpu") == "xla"
    assert name(spec_of(1024), "tpu", devices=8) == "blockwise"
    if haliax._compat.splash_attention() is not None:
        assert name(spec_of(1024), "tpu") == "splash"
        assert name(spec_of(1000), "tpu") == "blockwise"


def test_transformations():
    """Under `vmap`, `checkpoint`, `scan`, forward mode and twice the reverse, it is what the formula is."""
    q, k, v = inputs()
    mask = MASKS["causal segments"]

    def formula(q, k, v):
        seen = hnn.attention.causal_mask(P, K, q_start=2) & (SEGMENTS[0].broadcast_axis(K) == SEGMENTS[1])
        weights = hnn.attention.dot_product_attention_weights(D, K, q, k, mask=seen)
        return hax.dot(weights, v, axis=K).rearrange(q.axes)

    def function(q, k, v):
        return attend(q, k, v, Key=D, KPos=K, mask=mask)

    def squared(f):
        return lambda *arrays: (f(*arrays) ** 2).sum().scalar()

    def programs(f):
        loss = squared(f)
        every = (0, 1, 2)

        def looped(q, k, v):
            body = jax.checkpoint(lambda carry, _: (f(carry, k, v), None))
            return squared(lambda *_: jax.lax.scan(body, q, None, length=3)[0])(q)

        def along(q, k, v):
            return jax.jvp(jax.grad(loss, every), (q, k, v), (v_like, k, v))

        def by_group(q, k, v):
            one = hax.vmap(lambda q: f(q, k, v), G)
            return one(q)

        v_like = q * 0.5
        return [
            by_group(q, k, v).rearrange(QUERY),
            hax.vmap(jax.grad(loss, every), B)(q, k, v),
            hax.vmap(lambda k: jax.grad(lambda q, v: squared(f)(q, k, v), (0, 1))(q["batch", 0], v["batch", 0]), B)(k),
            jax.grad(looped, every)(q, k, v),
            along(q, k, v),
            jax.jvp(lambda *a: f(*a).array, (q, k, v), (v_like, k, v)),
            jax.grad(lambda *a: sum((g**2).sum().scalar() for g in jax.grad(loss, every)(*a)), every)(q, k, v),
            jax.jvp(lambda q: jax.jvp(lambda q: f(q, k, v).array, (q,), (v_like,))[1], (q,), (q,)),
        ]

    wanted, found = (jax.jit(lambda f=f: programs(f))() for f in (formula, function))
    for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)
    eager = jax.grad(squared(function))(q, k, v)
    np.testing.assert_allclose(eager.array, jax.grad(squared(formula))(q, k, v).array, atol=1e-5)


AXES = hax.make_axes(batch=2, heads=2, group=2, extra=3)


@given(st.data())
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shape_mask_and_order(monkeypatch, data):
    monkeypatch.setattr(blockwise, "BLOCK", data.draw(st.integers(1, 5), "block"))
    T, S, V = hax.make_axes(
        position=data.draw(st.integers(1, 6)), key_position=data.draw(st.integers(1, 11)), head_size=3
    )
    shared = data.draw(st.lists(st.sampled_from(AXES), unique=True, max_size=2), "shared")
    free = data.draw(st.lists(st.sampled_from([a for a in AXES if a not in shared]), unique=True, max_size=1), "free")
    q, k, v = (
        each.rearrange(data.draw(st.permutations(each.axes)))
        for each in inputs((*shared, *free, T, V), (*shared, S, V))
    )
    some = st.none() | st.integers(-2, 8)
    traced = data.draw(st.booleans(), "traced")

    def number(value):
        return value if value is None or not traced else jnp.array(value)

    mask = AttentionMask(
        causal=data.draw(st.booleans()),
        window=number(data.draw(some, "window")),
        prefix=number(data.draw(some, "prefix")),
        starts=number(data.draw(some, "starts")),
        segments=None
        if data.draw(st.booleans())
        else tuple(
            hax.named(data.draw(st.lists(st.integers(0, 1), min_size=a.size, max_size=a.size)), a) for a in (T, S)
        ),
    )
    options = {"softcap": data.draw(st.sampled_from([None, 1.5])), "scale": data.draw(st.sampled_from([None, 0.5]))}

    @eqx.filter_jit
    def both(arrays, mask):
        def found(backend):
            def loss(arrays):
                out = attend(*arrays, Key=V, KPos=S, mask=mask, backend=backend, **options)
                return (out**2).sum().scalar(), out

            return jax.value_and_grad(loss, has_aux=True)(arrays)

        return found("reference"), found("blockwise")

    reference, blocks = both((q, k, v), mask)
    for a, b in zip(jax.tree.leaves(reference), jax.tree.leaves(blocks), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_the_axes_may_be_in_any_order():
    q, k, v = inputs()
    expected = attend(q, k, v, Key=D, KPos=K, mask=MASKS["start"])
    for order, key_order, value_order in (
        ((D, G, H, P, B), (D, H, K, B), (H, K, D, B)),
        ((P, D, B, H, G), (K, B, D, H), (B, D, K, H)),
    ):
        for function in (lambda f: f, jax.jit):
            out = function(lambda *a: attend(*a, Key=D, KPos=K, mask=MASKS["start"]))(
                q.rearrange(order), k.rearrange(key_order), v.rearrange(value_order)
            )
            assert out.axes == order
            np.testing.assert_allclose(out.rearrange(QUERY).array, expected.array, atol=1e-6)


def test_it_is_the_formula_that_was_written_out_in_gpt2_to_the_bit():
    q, k, v = inputs()

    def written_out(q, k, v):
        scores = hax.dot(q, k, axis=D) / math.sqrt(D.size)
        causal = hax.arange(K).broadcast_axis(P) <= hax.arange(P)
        scores = hax.where(causal, scores.astype(jnp.float32), -1e9)
        return hax.dot(hnn.softmax(scores, axis=K).astype(q.dtype), v, axis=K)

    def function(q, k, v):
        return attend(q, k, v, Key=D, KPos=K, mask=AttentionMask(causal=True), backend="reference")

    def results(f):
        def loss(arrays):
            return (f(*arrays) ** 2).sum().scalar()

        return jax.jit(lambda arrays: (f(*arrays).rearrange(QUERY).array, jax.grad(loss)(arrays)))((q, k, v))

    for a, b in zip(jax.tree.leaves(results(written_out)), jax.tree.leaves(results(function)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_vectors_of_the_values_may_be_of_another_axis():
    V = hax.Axis("value_size", 5)
    q, k, v = inputs(value=(B, K, H, V))
    out = attend(q, k, v, Key=D, KPos=K)
    assert out.axes == (B, P, H, G, V)
    same_name = attend(q, k, v.rename({"value_size": "head_size"}), Key=D, KPos=K)
    assert same_name.axes == (B, P, H, G, D.resize(5))
    np.testing.assert_array_equal(out.array, same_name.array)


def test_keys_may_have_axes_that_the_queries_lack():
    q, k, v = inputs(query=(P, H, G, D))
    out = attend(q, k, v, Key=D, KPos=K)
    expected = attend(q.broadcast_axis(B), k, v, Key=D, KPos=K)
    np.testing.assert_array_equal(out.rearrange(expected.axes).array, expected.array)


def test_the_positions_of_the_queries_are_found_or_said():
    T, S, X = hax.make_axes(time=4, key_time=4, extra=2)
    q, k, v = inputs(query=(X, T, D), key=(S, D))
    mask = AttentionMask(causal=True)
    found = attend(q, k, v, Key=D, KPos=S, mask=mask)
    said = attend(q.rename({"time": "t"}), k, v, Key=D, KPos=S, mask=mask, QPos="t")
    np.testing.assert_array_equal(found.array, said.array)


def sharded_arrays():
    """Query, key and value, of a batch of 8."""
    wide = B.resize(8)
    return inputs((wide, P, H, G, D), (wide, K, H, D))


def summed(arrays):
    out = attend(*arrays, Key=D, KPos=K, mask=AttentionMask(causal=True, starts=2))
    return (out**2).sum().scalar()


def test_explicit_mesh_axes():
    arrays = sharded_arrays()
    loss, gradients = jax.jit(jax.value_and_grad(summed))(arrays)
    with jax.set_mesh(jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))):
        spec = jax.sharding.PartitionSpec("data")
        placed = [NamedArray(jax.device_put(each.array, spec), each.axes) for each in arrays]
        found, found_gradients = jax.jit(jax.value_and_grad(summed))(placed)
    assert [each.array.sharding.spec[0] for each in found_gradients] == ["data"] * 3
    np.testing.assert_allclose(found, loss, rtol=1e-5)
    for a, b in zip(found_gradients, gradients, strict=True):
        np.testing.assert_allclose(a.array, b.array, atol=1e-5)


def test_inside_shard_map():
    arrays = sharded_arrays()
    loss, gradients = jax.jit(jax.value_and_grad(summed))(arrays)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def local(*raw):
        named = [NamedArray(each, (B.resize(1), *whole.axes[1:])) for each, whole in zip(raw, arrays, strict=True)]
        own, found = jax.value_and_grad(summed)(named)
        return jax.lax.psum(own, "data"), [each.array for each in found]

    spec = jax.sharding.PartitionSpec
    mapped = jax.shard_map(local, mesh=mesh, in_specs=spec("data"), out_specs=(spec(), spec("data")))
    found, found_gradients = jax.jit(mapped)(*[each.array for each in arrays])
    np.testing.assert_allclose(found, loss, rtol=1e-5)
    for a, b in zip(found_gradients, gradients, strict=True):
        np.testing.assert_allclose(a, b.array, atol=1e-5)
