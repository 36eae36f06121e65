"""dot: against einsum, and the program that it makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax

B, P, Q, H, K, E = hax.make_axes(batch=2, position=3, key_position=4, head=5, key=6, embed=7)


def normal(seed, *axes):
    return hax.random.normal(jax.random.key(seed), axes)


@pytest.mark.parametrize(
    ("left", "right", "axis", "result", "equation"),
    [
        ((B, P, E), (E, H, K), E, (B, P, H, K), "bpe,ehk->bphk"),
        ((B, P, H, K), (B, Q, H, K), K, (B, P, H, Q), "bphk,bqhk->bphq"),
        ((B, H, P, Q), (B, Q, H, K), Q, (B, H, P, K), "bhpq,bqhk->bhpk"),
        ((B, P, H, K), (H, K, E), (H, K), (B, P, E), "bphk,hke->bpe"),
        ((B, P), (B, P), None, (), "bp,bp->"),
        ((B, P), (H,), (), (B, P, H), "bp,h->bph"),
        ((B, P), (P,), (), (B, P), "bp,p->bp"),
        ((P, B), (H, B), (), (P, B, H), "pb,hb->pbh"),
        ((B, P), (H,), (P,), (B, H), "bp,h->bh"),
        ((B, P), (P, H), (P, H), (B,), "bp,ph->b"),
    ],
)
def test_dot_is_einsum_in_natural_order(left, right, axis, result, equation):
    a, b = normal(0, *left), normal(1, *right)
    c = hax.dot(a, b, axis=axis)
    assert c.axes == result
    np.testing.assert_allclose(c, jnp.einsum(equation, a.array, b.array), rtol=1e-4, atol=1e-5)


def attention(query, key, value, mask):
    scores = hax.dot(query, key, axis=K) * 0.5 + 1
    weights = hax.nn.softmax(hax.where(mask, scores, -1e9), Q)
    weights = weights / weights.sum(Q)
    return hax.dot(weights.astype(jnp.float32), value, axis=Q)


def test_a_product_is_transposed_only_if_its_order_is_asked_for():
    query, key, value = normal(0, P, H, K), normal(1, Q, H, K), normal(2, Q, H, K)
    mask = hax.nn.attention.causal_mask(P, Q)

    def primitives(function):
        jaxpr = jax.make_jaxpr(function)(query, key, value, mask)
        return [e.primitive.name for e in jaxpr.eqns if e.primitive.name in ("dot_general", "transpose")]

    assert primitives(lambda *a: attention(*a).sum().array) == ["dot_general", "dot_general"]
    assert primitives(lambda *a: hax.dot(*a[:2], axis=K).array) == ["dot_general", "transpose"]
    eagerly, traced = attention(query, key, value, mask), jax.jit(attention)(query, key, value, mask)
    assert eagerly.axes == traced.axes == (P, H, K)
    np.testing.assert_allclose(eagerly, traced, rtol=1e-4, atol=1e-5)


def test_a_product_held_in_another_order_is_a_named_array_like_any_other():
    a, b = normal(0, P, H, K), normal(1, Q, H, K)
    expected = jnp.einsum("phk,qhk->phq", a.array, b.array)
    seen = {}

    def use(a, b):
        c = hax.dot(a, b, axis=K)
        seen.update(axes=c.axes, shape=c.shape, dtype=c.dtype, raw=c.array.shape, repr=repr(c))
        with pytest.raises(AttributeError, match="'NamedArray' object has no attribute 'nothing'"):
            _ = c.nothing
        same, _ = jax.lax.scan(lambda carry, _: (carry, None), c, None, 1)
        return {
            "same": same,
            "taken": c["head", 0],
            "sum": c + jax.tree.map(lambda leaf: leaf, c),
            "positive": c.sum(P, where=c > 0),
            "beside": hax.add(c.sum(Q), c),
            "standard": hax.nn.standardize(c, Q),
            "exponents": hax.nn.logsumexp(c, H),
        }

    out = jax.jit(use)(a, b)
    assert seen == {
        "axes": (P, H, Q),
        "shape": {"position": P.size, "head": H.size, "key_position": Q.size},
        "dtype": jnp.float32,
        "raw": (P.size, H.size, Q.size),
        "repr": seen["repr"],
    }
    assert seen["repr"].startswith(f"f32[position={P.size}, head={H.size}, key_position={Q.size}]")
    c = hax.named(expected, (P, H, Q))
    for name, value in {
        "same": c,
        "taken": c["head", 0],
        "sum": c + c,
        "positive": c.sum(P, where=c > 0),
        "beside": c.sum(Q) + c,
        "standard": hax.nn.standardize(c, Q),
        "exponents": hax.nn.logsumexp(c, H),
    }.items():
        assert out[name].axes == value.axes, name
        np.testing.assert_allclose(out[name], value, rtol=1e-3, atol=1e-4)


def test_dot_is_one_dot_general_without_reshapes():
    a, b = normal(0, B, P, H, K), normal(1, H, K, E)
    jaxpr = jax.make_jaxpr(lambda a, b: hax.dot(a, b, axis=("head", "key")))(a, b)
    assert [equation.primitive.name for equation in jaxpr.eqns] == ["dot_general"]


def test_several_operands_and_out_axes():
    a, b, c = normal(0, B, E), normal(1, E, H), normal(2, H, K)
    d = hax.dot(a, b, c, axis=(E, H), out_axes=(K, ...))
    assert d.axes == (K, B)
    np.testing.assert_allclose(d, jnp.einsum("be,eh,hk->kb", a.array, b.array, c.array), rtol=1e-4, atol=1e-4)
    assert np.allclose(hax.dot(a, axis=E), a.array.sum(1))


@pytest.mark.parametrize("spelling", [E, "embed", (E,), ["embed"], {"embed": 7}])
def test_spellings(spelling):
    a, b = normal(0, B, E), normal(1, E, H)
    for c in (hax.dot(a, b, axis=spelling), hax.dot(spelling, a, b), a.dot(b, axis=spelling), a.dot(spelling, b)):
        assert c.axes == (B, H)
        np.testing.assert_allclose(c, a.array @ b.array, rtol=1e-4, atol=1e-4)


def test_more_than_two_keep_the_order_of_the_operands():
    a, b, c = normal(0, B, P, E), normal(1, E, H), normal(2, H)
    d = hax.dot(a, b, c, axis="embed")
    assert d.axes == (B, P, H)
    np.testing.assert_allclose(d, jnp.einsum("bpe,eh,h->bph", a.array, b.array, c.array), rtol=1e-4, atol=1e-4)
    assert hax.dot(None, a, b).axes == hax.dot(a, b, axis=None).axes == ()


def test_the_product_may_be_replaced():
    seen = []

    def recorded(first, second, dimension_numbers, precision=None, preferred_element_type=None, **_):
        seen.append((dimension_numbers, precision, preferred_element_type))
        return jax.lax.dot_general(first, second, dimension_numbers)

    a, b = normal(0, B, E), normal(1, E, H)
    for call in (
        lambda: hax.dot(a, b, axis=E, dot_general=recorded, precision="highest", preferred_element_type=jnp.float32),
        lambda: hax.einsum("b e, e h -> b h", a, b, _dot_general=recorded),
    ):
        np.testing.assert_allclose(call(), a.array @ b.array, rtol=1e-4, atol=1e-4)
    assert seen[0] == ((((1,), (0,)), ((), ())), "highest", jnp.float32) and len(seen) == 2


def test_dtypes():
    a, b = normal(0, B, E).astype(jnp.bfloat16), normal(1, E, H)
    assert hax.dot(a, b, axis=E).dtype == jnp.float32
    assert hax.dot(a, b.astype(jnp.bfloat16), axis=E).dtype == jnp.bfloat16
    assert hax.dot(a, b.astype(jnp.bfloat16), axis=E, preferred_element_type=jnp.float32).dtype == jnp.float32
