"""Trees, small helpers, debugging, and the names that published code imports."""

import importlib

import equinox as eqx
import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
import haliax.nn as hnn
from haliax import debug, jax_utils, tree, tree_util, util, wrap

A, B = hax.make_axes(a=2, b=3)
x = inputs.counting((A, B), np.float32)


def test_trees():
    assert tree.leaves({"x": x, "y": 1})[0] is x
    assert tree.map(lambda leaf: leaf.axes, {"x": x}) == {"x": (A, B)}
    leaves, structure = tree.flatten([x, 2])
    assert tree.unflatten(structure, leaves)[0] is x and tree.structure([x, 2]) == structure


def test_resize_axis():
    longer = tree_util.resize_axis({"x": x, "y": 3}, "b", 5, key=jax.random.key(0))
    assert longer["x"].axes == (A, B.resize(5)) and np.array_equal(longer["x"]["b", 0:3], x) and longer["y"] == 3
    assert tree_util.resize_axis(x, B, 2).tolist() == [[0, 1], [3, 4]]
    assert tree_util.resize_axis(x, B, 4)["b", 3].tolist() == [1, 4]
    assert tree_util.resize_axis({"x": x}, "a", 3)["x"]["a", 2].tolist() == [1.5, 2.5, 3.5]
    drawn = tree_util.resize_axis(x, "b", 400, jax.random.key(0))["b", 3:400]
    assert np.abs(drawn.array - x.array.mean(1)[:, None]).max() <= 2 * x.array.std(1).max()
    np.testing.assert_allclose(drawn.mean("b"), x.array.mean(1), atol=0.2)
    with pytest.raises(ValueError, match="another size"):
        tree_util.resize_axis(x, B.resize(9), 2)


def test_scan_aware_tree_map_sees_the_layers_of_stacked():
    Layers = hax.Axis("layers", 2)

    class Layer(eqx.Module):
        weight: hax.NamedArray

    def stacked(key):
        return hnn.Stacked.init(Layers, lambda key: Layer(hax.random.normal(key, (A, B))))(key=jax.random.key(key))

    model, other, seen = {"x": x, "blocks": stacked(0)}, {"x": x, "blocks": stacked(1)}, []

    def total(leaf, more):
        seen.append(leaf.axes)
        return (leaf + more).sum("a")

    result = tree.scan_aware_map(total, model, other)
    assert seen == [(A, B), (A, B)] and result["x"].axes == (B,)
    weights = [m["blocks"].stacked.weight.array for m in (model, other)]
    assert result["blocks"].stacked.weight.axes == (Layers, B)
    np.testing.assert_allclose(result["blocks"].stacked.weight, sum(weights).sum(1), rtol=1e-5)
    whole = tree_util.scan_aware_tree_map(lambda m: 1, model, is_leaf=lambda node: isinstance(node, hnn.Stacked))
    assert whole == {"x": 1, "blocks": 1}


def test_hashable_partition():
    leaves, static = tree_util.hashable_partition({"x": x, "name": "n"}, eqx.is_array)
    assert leaves["name"] is None and leaves["x"] is not None
    assert hash(static) == hash(tree_util.hashable_partition({"x": x + 1, "name": "n"}, eqx.is_array)[1])
    assert tree_util.hashable_combine(leaves, static)["name"] == "n"


def test_keys():
    assert jax_utils.maybe_rng_split(None, 3) == [None] * 3
    key = jax.random.key(0)
    assert jax_utils.maybe_rng_split(key, 3).shape == (3,) and jax_utils.maybe_rng_split(key, 1)[0] == key
    assert jax_utils.shaped_rng_split(key, ()) == key and jax_utils.shaped_rng_split(key).shape == (2,)
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
    with pytest.raises(TypeError, match=r"^shift must be a scalar, not f32\[a=2, b=3\]"):
        jax_utils.ensure_scalar(x, name="shift")
    assert jax_utils.is_jax_array_like(x) and not jax_utils.is_jax_array_like(1.0)
    assert jax_utils.to_jax_shape(A) == (2,) and jax_utils.to_jax_shape({"a": 2, "b": 3}) == (2, 3)
    assert jax_utils.filter_eval_shape(lambda x, note: (x, note), x, "n")[1] == "n"
    assert not jax_utils.is_in_jit() and jax.jit(lambda: jnp.asarray(jax_utils.is_in_jit()))()
    assert jax_utils.broadcast_prefix({"a": 1}, {"a": [5, 6]}) == {"a": [1, 1]}
    assert jax_utils.named_call(lambda x: x + 1, name="plus")(1) == 2
    assert util.maybe_untuple((1,)) == 1 and util.maybe_untuple((1, 2)) == (1, 2) and util.maybe_untuple([1]) == [1]
    assert util.is_named_array(x) and util.is_jax_or_hax_array_like(np.ones(2)) and not util.is_named_array(1)
    assert repr(util.UNSPECIFIED) == "UNSPECIFIED" and hax.partitioning.ResourceAxis.DATA == "data"


class Colour(metaclass=util.StringHolderEnum):
    RED = "red"
    GREEN = "green"


def test_string_holder():
    assert Colour.RED == "red" and list(Colour) == ["red", "green"] and "green" in Colour


def test_wrapping_functions():
    def function(x):
        """Its doc."""

    def wrapper(x):
        return x + 1

    assert util.safe_wraps(function)(wrapper)(1) == 2 and wrapper.__doc__ == "Its doc."
    assert util.safe_update_wrapper(lambda: 1, jax.tree_util.Partial(function))() == 1


@pytest.mark.parametrize("blocks", [1, 2, 3, 6])
@pytest.mark.parametrize("reverse", [False, True])
def test_multilevel_scan(blocks, reverse):
    def step(carry, x):
        return carry + x["x"], carry * x["y"]

    xs = {"x": jnp.arange(6.0), "y": jnp.arange(12.0).reshape(6, 2)}
    expected = jax.lax.scan(step, 0.0, xs, reverse=reverse)
    result = jax_utils.multilevel_scan(step, 0.0, xs, blocks, 6, reverse=reverse)
    jax.tree.map(np.testing.assert_allclose, result, expected)
    with pytest.raises(ValueError, match="^a nested loop of size 6 cannot be cut into parts of 4"):
        jax_utils.multilevel_scan(step, 0.0, xs, 4, 6)


def test_one_host():
    tree = {"x": x, "n": np.arange(3)}
    result = jax_utils.broadcast_one_to_all(tree)
    assert np.array_equal(result["x"], x) and result["x"].axes == x.axes
    jax_utils.assert_equal({"n": np.arange(3)}, "they differ")
    jax_utils.sync_global_devices("here")


def test_describing(capsys):
    assert debug.describe_array(hax.NamedArray(np.ones(2), (A,))) == "f64[a=2]"
    mesh = jax.make_mesh((2, 4), ("data", "model"))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    placed = jax.device_put(x, sharding)
    assert debug.describe_array(placed) == "f32[a=2, b=3] a->data, b->unsharded"
    debug.visualize_shardings({"x": placed, "n": 3})
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == "['n']: 3"
        and lines[1] == "['x']: f32[a=2, b=3] a->data, b->unsharded"
        and "CPU 0" in "".join(lines)
    )
    both = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "model"), None))
    debug.visualize_named_sharding(hax.make_axes(a=8, b=2, c=2), both)
    assert capsys.readouterr().out == "a->data+model, b->unsharded, c->unsharded\n"


def test_diagnosing():
    class Wrong(eqx.Module):
        one: jax.Array
        two: list
        three: jax.Array = eqx.field(static=True)

    shared = jnp.ones(2)
    with pytest.warns(UserWarning, match="static"):
        wrong = Wrong(shared, [shared], jnp.ones(3))
    with pytest.raises(debug.ModuleProblems) as caught:
        debug.diagnose_common_issues(wrong)
    assert caught.value.static_arrays == [".three"]
    assert [places for _, places in caught.value.reused_arrays] == [[".one", ".two[0]"]]
    assert str(caught.value) == (
        "f32[_=2] appears more than once, and each copy would be trained by itself: .one, .two[0]\n"
        "a static field holds an array, which is not trained and makes jit recompile: .three"
    )
    assert debug.diagnose_common_issues(hnn.Linear.init(A, B, key=jax.random.key(0))) is None
    assert not debug.ModuleProblems()


def test_field():
    class Module(eqx.Module):
        weight: jax.Array = hax.field(axis_names=("a", "b"), converter=jnp.asarray)
        size: int = hax.field(static=True, default=3, metadata={"note": 1})

    weight, size = (Module.__dataclass_fields__[name].metadata for name in ("weight", "size"))
    assert weight["axis_names"] == ("a", "b") and size["axis_names"] is None and size["note"] == 1
    assert Module([1, 2]).weight.shape == (2,) and jax.tree.leaves(Module(1))[1:] == []
    text = r"^a static field holds no array, so it has no axis_names \('a',\): drop one of the two"
    with pytest.raises(ValueError, match=text):
        hax.field(static=True, axis_names=("a",))


raw = x.array
# A call of a function of plain arrays, the axes of the result, and its numbers.
WRAPPED = {
    "unary": (lambda: hax.wrap_elemwise_unary(jnp.round, x / 4, decimals=1), "a b", lambda: jnp.round(raw / 4, 1)),
    "unary of numbers": (lambda: hax.wrap_elemwise_unary(jnp.negative, 2.0), None, lambda: -2.0),
    "binary": (
        lambda: hax.wrap_elemwise_binary(jnp.hypot)(x, hax.arange(B)),
        "a b",
        lambda: jnp.hypot(raw, jnp.arange(3)),
    ),
    "reduction": (lambda: hax.wrap_reduction_call(jnp.median, x, "b"), "a", lambda: jnp.median(raw, 1)),
    "over all": (lambda: hax.wrap_reduction_call(jnp.median, x, None), "", lambda: jnp.median(raw)),
    "options": (lambda: hax.wrap_reduction_call(jnp.std, x, B, ddof=1), "a", lambda: jnp.std(raw, 1, ddof=1)),
    "where": (lambda: hax.wrap_reduction_call(jnp.sum, x, ("a",), x > 1), "b", lambda: [3, 4, 7]),
    "of numbers": (lambda: hax.wrap_reduction_call(jnp.sum, raw, None), None, lambda: 15.0),
    "one axis": (
        lambda: hax.wrap_reduction_call(jnp.argmax, x, "b", single_axis_only=True, supports_where=False),
        "a",
        lambda: [2, 2],
    ),
    "axiswise": (
        lambda: hax.wrap_axiswise_call(jnp.flip, x, ("a", "b"), single_axis_only=False),
        "a b",
        lambda: raw[::-1, ::-1],
    ),
    "along one": (
        lambda: hax.wrap_axiswise_call(jnp.cumsum, x, B, single_axis_only=True),
        "a b",
        lambda: raw.cumsum(1),
    ),
    "along none": (
        lambda: hax.wrap_axiswise_call(jnp.cumsum, x, None, single_axis_only=True),
        None,
        lambda: raw.cumsum(),
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_functions_of_ones_own(name):
    call, axes, expected = WRAPPED[name]
    result = call()
    np.testing.assert_allclose(result, expected(), rtol=1e-6)
    if axes is None:
        assert not isinstance(result, hax.NamedArray)
    else:
        assert [axis.name for axis in result.axes] == axes.split()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: hax.wrap_reduction_call(jnp.argmax, x, ("a", "b"), single_axis_only=True),
            "single axis, not `a`, `b`",
        ),
        (
            lambda: hax.wrap_axiswise_call(jnp.cumsum, x, ("a", "b"), single_axis_only=True),
            "single axis, not `a`, `b`",
        ),
        (lambda: hax.wrap_reduction_call(jnp.argmax, x, "a", x > 1, supports_where=False), "argmax takes no `where`"),
        (lambda: hax.wrap_reduction_call(jnp.sum, x, "z"), "axis `z` is not in"),
    ],
)
def test_mistakes_with_functions_of_ones_own(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_unwrapping():
    assert wrap.unwrap_namedarrays() == () and wrap.unwrap_namedarrays(x, 2) == (x.array, 2)


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
