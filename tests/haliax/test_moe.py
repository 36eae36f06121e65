"""The mixture-of-experts layer: grouped products against a loop over the tokens."""

import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
import haliax.nn as hnn

X, T, I, O = hax.make_axes(expert=3, token=8, features=4, out=5)  # noqa: E741
KEY = jax.random.key(0)
tokens = inputs.normal(0, (T, I))


def groups(*sizes):
    return hax.named(jnp.array(sizes, jnp.int32), "expert")


def one_by_one(layer, sizes, bias):
    """[token, out]: each token times the weight of its expert, plus its bias; zeros beyond the groups."""
    owners = np.repeat(np.arange(3), sizes)
    weights = np.asarray(layer.weight.rearrange((X, I, O)))
    rows = [np.asarray(tokens)[at] @ weights[owner] + bias[owner] for at, owner in enumerate(owners)]
    return np.stack(rows + [np.zeros(5)] * (8 - len(owners)))


@pytest.mark.parametrize("options", [{}, {"out_first": True}, {"use_bias": False}, {"use_gmm": True}], ids=str)
@pytest.mark.parametrize("sizes", [(3, 1, 4), (0, 8, 0), (1, 0, 2)], ids=str)
def test_against_a_loop(options, sizes):
    layer = hnn.MoELinear.init(X, I, O, key=KEY, **options)
    assert layer.weight.axes == ((X, O, I) if options.get("out_first") else (X, I, O))
    assert layer.out_first == options.get("out_first", False)
    assert float(jnp.abs(layer.weight.array).max()) <= 3 / 2
    result = layer(tokens, groups(*sizes))
    assert result.axes == (T, O)
    np.testing.assert_allclose(result, one_by_one(layer, sizes, np.zeros((3, 5))), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer(tokens.rearrange((I, T)), groups(*sizes), key=KEY), result)


def test_a_bias_for_each_expert():
    bias = hax.random.normal(jax.random.key(1), (X, O))
    layer = hnn.MoELinear(hnn.MoELinear.init(X, I, O, key=KEY).weight, bias, X, I, O)
    expected = one_by_one(layer, (2, 3, 1), np.asarray(bias))
    np.testing.assert_allclose(layer(tokens, groups(2, 3, 1)), expected, rtol=1e-4, atol=1e-5)


def test_gradient():
    layer = hnn.MoELinear.init(X, I, O, key=KEY)
    gradient = jax.jit(jax.grad(lambda layer: layer(tokens, groups(3, 1, 4)).sum().array))(layer)
    sums = np.asarray(tokens)
    expected = np.stack([sums[:3].sum(0), sums[3], sums[4:].sum(0)])[:, :, None] * np.ones(5)
    np.testing.assert_allclose(gradient.weight, expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(gradient.bias, np.full(5, 8.0))


def test_a_contraction_that_is_spread_over_the_mesh():
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    P = jax.sharding.PartitionSpec
    weights, sizes = jax.random.normal(KEY, (3, 4, 5)), jnp.array([3, 1, 4])
    spread = jax.shard_map(
        lambda a, b, c: hnn.linear.gmm_sharded(a, b, c, ar=True),
        mesh=mesh,
        in_specs=(P(None, "model"), P(None, "model"), P()),
        out_specs=P(),
    )
    whole = hnn.linear.gmm_sharded(tokens.array, weights, sizes)
    np.testing.assert_allclose(jax.jit(spread)(tokens.array, weights, sizes), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "sizes", "message"),
    [
        (hax.ones((T, X, I)), groups(3, 1, 4), "MoELinear needs `features` and one axis of tokens, not f32"),
        (hax.ones((T, O)), groups(3, 1, 4), r"MoELinear\(.*\): axis `features` is not in `inputs`, f32"),
        (
            tokens,
            hax.named(jnp.array([3, 5]), "expert"),
            r"MoELinear\(.*\) needs axis `expert` of size 3, but `group_sizes`, .*, has it with another size",
        ),
    ],
)
def test_errors(inputs, sizes, message):
    with pytest.raises(hax.AxisError, match=message):
        hnn.MoELinear.init(X, I, O, key=KEY)(inputs, sizes)
