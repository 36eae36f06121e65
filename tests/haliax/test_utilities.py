"""Trees, small helpers, debugging, and the names that published code imports."""

import importlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
import haliax.nn as hnn
from haliax import debug, jax_utils, tree, tree_util, util

A, B = hax.make_axes(a=2, b=3)
x = hax.arange((A, B)) * 1.0


def test_trees():
    assert tree.leaves({"x": x, "y": 1})[0] is x
    assert tree.map(lambda leaf: leaf.axes, {"x": x}) == {"x": (A, B)}
    leaves, structure = tree.flatten([x, 2])
    assert tree.unflatten(structure, leaves)[0] is x and tree.structure([x, 2]) == structure


def test_resize_axis():
    longer = tree_util.resize_axis({"x": x, "y": 3}, "b", 5, key=jax.random.key(0))
    assert longer["x"].axes == (A, B.resize(5)) and np.array_equal(longer["x"]["b", 0:3], x) and longer["y"] == 3
    assert tree_util.resize_axis(x, B, 2).tolist() == [[0, 1], [3, 4]]
    assert tree_util.resize_axis(x, B, 4)["b", 3].tolist() == [0, 0]


def test_hashable_partition():
    leaves, static = tree_util.hashable_partition({"x": x, "name": "n"}, eqx.is_array)
    assert hash(static) == hash(tree_util.hashable_partition({"x": x + 1, "name": "n"}, eqx.is_array)[1])
    assert tree_util.hashable_combine(leaves, static)["name"] == "n"


def test_keys():
    assert jax_utils.maybe_rng_split(None, 3) == [None] * 3
    assert jax_utils.maybe_rng_split(jax.random.key(0), 3).shape == (3,)
    assert jax_utils.shaped_rng_split(jax.random.key(0), (2, 3)).shape == (2, 3)
    assert jax_utils.is_single_key(jax.random.key(0)) and jax_utils.is_single_key(jax.random.PRNGKey(0))
    assert not jax_utils.is_single_key(jax.random.split(jax.random.key(0), 2))


def test_filter_checkpoint():
    layer = hnn.MLP.init(A, B, 4, 2, key=jax.random.key(0))
    checkpointed = jax_utils.filter_checkpoint(lambda layer, x: (layer(x), "note"))
    result, note = checkpointed(layer, hax.ones(A))
    assert note == "note" and np.allclose(result, layer(hax.ones(A)))
    assert "remat" in str(jax.make_jaxpr(lambda x: checkpointed(layer, x)[0])(hax.ones(A)))


def test_small_helpers():
    assert jax_utils.is_scalarish(3) and jax_utils.is_scalarish(jnp.ones(())) and not jax_utils.is_scalarish(x)
    assert jax_utils.ensure_scalar(hax.named(jnp.ones(()), ())).shape == ()
    assert not jax_utils.is_in_jit() and jax.jit(lambda: jnp.asarray(jax_utils.is_in_jit()))()
    assert jax_utils.broadcast_prefix({"a": 1}, {"a": [5, 6]}) == {"a": [1, 1]}
    assert jax_utils.named_call(lambda x: x + 1, name="plus")(1) == 2
    assert util.maybe_untuple((1,)) == 1 and util.maybe_untuple((1, 2)) == (1, 2)
    assert util.is_named_array(x) and util.is_jax_or_hax_array_like(np.ones(2)) and not util.is_named_array(1)
    assert repr(util.UNSPECIFIED) == "UNSPECIFIED" and hax.partitioning.ResourceAxis.DATA == "data"


def test_debugging(capsys):
    assert debug.describe_array(hax.NamedArray(np.ones(2), (A,))) == "f64[a=2]"
    debug.visualize_shardings({"x": x})
    assert capsys.readouterr().out.startswith("['x']: f32[a=2, b=3]")

    class Wrong(eqx.Module):
        one: jax.Array
        two: list
        three: jax.Array = eqx.field(static=True)

    shared = jnp.ones(2)
    with pytest.warns(UserWarning, match="static"):
        wrong = Wrong(shared, [shared], jnp.ones(3))
    problems = debug.diagnose_common_issues(wrong)
    assert problems.reused_arrays == [("f32[_=2]", [".one", ".two[0]"])] and problems.static_arrays == [".three"]
    assert not debug.diagnose_common_issues(hnn.Linear.init(A, B, key=jax.random.key(0)))


def test_functions_of_ones_own():
    from haliax import wrap

    double = wrap.wrap_elemwise_unary(lambda x: 2 * x)
    assert np.array_equal(double(x), 2 * x.array)
    assert wrap.wrap_reduction_call(jnp.median)(x, "b").axes == (A,)
    assert wrap.wrap_axiswise_call(jnp.flip)(x, "b").axes == (A, B)


PUBLISHED = {
    "haliax.axis": "Axis axis_name axis_size concat_axes eliminate_axes index_where make_axes resolve_axis union_axes",
    "haliax.core": "NamedArray named broadcast_axis broadcast_to check_shape flatten_all_axes_but take unbind",
    "haliax.hof": "fold map scan vmap",
    "haliax.jax_utils": "Static filter_checkpoint is_jax_array_like maybe_rng_split named_call shaped_rng_split",
    "haliax.nn.attention": "causal_mask dot_product_attention dot_product_attention_weights mask_to_bias",
    "haliax.nn.scan": "BlockFoldable BlockSeq ModuleInit Stacked",
    "haliax.ops": "allclose clip isclose pad pad_left searchsorted trace tril triu unique where",
    "haliax.partitioning": "ResourceAxis WrappedCallable auto_sharded axis_mapping fsdp named_jit pspec_for shard",
    "haliax.specialized_fns": "top_k",
    "haliax.state_dict": "from_state_dict load_state_dict save_state_dict to_state_dict with_prefix",
    "haliax.tree_util": "hashable_combine hashable_partition resize_axis tree_map",
    "haliax.util": "ensure_tuple is_named_array safe_wraps StringHolderEnum",
}


@pytest.mark.parametrize("module", PUBLISHED)
def test_published_names(module):
    found = importlib.import_module(module)
    assert [name for name in PUBLISHED[module].split() if not hasattr(found, name)] == []
