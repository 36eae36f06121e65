"""Values that a transformation of plain JAX gave a dimension more or less: every use of them is an error."""

import copy
import inspect
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

import haliax as hax
import haliax.nn as hnn
from haliax.core import stale as known
from haliax.core.stale import StaleAxes
from haliax.ops import methods

STALE = "are not those of the array, whose shape is"
A, B, E = hax.make_axes(a=2, b=3, e=4)


@pytest.fixture(scope="module")
def x():
    return hax.named(jnp.arange(1.0, 25).reshape(2, 3, 4), (A, B, E))


@pytest.fixture(scope="module")
def stale(x):
    return jax.tree.map(lambda array: array[0], x)


# Ways in which functions that take arrays are called.
FORMS = (
    lambda f, v: f(v),
    lambda f, v: f(v, v),
    lambda f, v: f(v, 1),
    lambda f, v: f(v, "b"),
    lambda f, v: f("b", v),
    lambda f, v: f(v, v, axis="b"),
    lambda f, v: f(v, v, v),
    lambda f, v: f([v, v]),
    lambda f, v: f("b", [v, v]),
    lambda f, v: f(v, "b", "c"),
    lambda f, v: f(v, {"b": "c"}),
    lambda f, v: f(v, {"b": 0}),
    lambda f, v: f(v, ("b", "e"), "c"),
    lambda f, v: f(v, "b", {"c": 3}),
    lambda f, v: f(v, "a b e -> b a e"),
    lambda f, v: f("a b e -> b a e", v),
    lambda f, v: f(v, {"b": (1, 1)}),
    lambda f, v: f(v, "b", v),
    lambda f, v: f(v, "b", hax.Axis("c", 2)),
    lambda f, v: f(v, "b", 0, 1),
    lambda f, v: f(v, v, "b"),
    lambda f, v: f(jax.random.key(0), v.axes),
    lambda f, v: f(jax.random.key(0), v),
    lambda f, v: f(jax.random.key(0), v, "b"),
    lambda f, v: f(jax.random.key(0), 0.5, v.axes),
    lambda f, v: f(v.axes),
    lambda f, v: f(v.axes, 1.0),
    lambda f, v: f(v, "b", 2.0),
    lambda f, v: f(v, v["b", 0] if isinstance(v.axes, tuple) else v, v),
)
# What needs no names, or gives them: not a use.
ALLOWED = {"named", "is_named_array", "tree_checkpoint_name", "new_ref", "freeze", "get", "swap", "enable_jax_grad"}
ALLOWED |= {"axis_name", "axis_size", "ensure_tuple", "index_where", "updated_slice"}


def functions():
    for module, names in ((hax, vars(hax)), (hax.nn, vars(hnn)), (hax.random, vars(hax.random))):
        for name in names:
            value = getattr(module, name)
            if not name.startswith("_") and inspect.isfunction(value) and value.__module__.startswith("haliax"):
                yield f"{module.__name__}.{name}", value


FUNCTIONS = dict(functions())


def outcome(form, function, value):
    try:
        return form(function, value), None
    except Exception as error:
        return None, error


def leaves(tree):
    return [leaf for leaf in jax.tree.leaves(tree, is_leaf=hax.is_named_array) if isinstance(leaf, hax.NamedArray)]


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.split(".")[-1] not in ALLOWED])
def test_no_function_takes_stale_axes(name, x, stale):
    function = FUNCTIONS[name]
    for number, form in enumerate(FORMS):
        fine, wrong = outcome(form, function, x)
        if wrong is not None or not leaves(fine):  # not how it is called
            continue
        result, error = outcome(form, function, stale)
        if error is not None or any(leaf is not stale for leaf in leaves(result)) or not leaves(result):
            assert STALE in str(error), (name, number)


def test_the_forms_reach_nearly_every_function(x):
    reached = {name for name, f in FUNCTIONS.items() if any(outcome(form, f, x)[1] is None for form in FORMS)}
    assert len(reached) > 200


@pytest.mark.parametrize(
    "name", [name for name in methods.attached() if name not in ("__rmatmul__", "__array_ufunc__")]
)
def test_no_method_takes_stale_axes(name, x, stale):
    if isinstance(methods.attached()[name], property):
        if name not in ("__jax_array__", "at"):
            with pytest.raises(hax.AxisError, match=STALE):
                getattr(stale, name)
        return

    def method(*args, **kwargs):
        return getattr(hax.NamedArray, name)(*args, **kwargs)

    for form in FORMS[:10]:
        fine, wrong = outcome(form, method, x)
        if wrong is not None or fine is NotImplemented or not leaves(fine):
            continue
        result, error = outcome(form, method, stale)
        assert STALE in str(error) or result is stale, name


USES = {
    "softmax under lax.map": lambda x: jax.lax.map(lambda v: hnn.softmax(v, "b"), x),
    "mean under vmap": lambda x: jax.vmap(lambda v: v.mean("a"))(x),
    "sum with itself": lambda x: jax.vmap(lambda v: v + v)(x),
    "a negative": lambda x: jax.vmap(lambda v: -v)(x),
    "scan": lambda x: jax.lax.scan(lambda c, v: (c, v.sum("b")), 0, x),
    "fori over slices": lambda x: jax.lax.fori_loop(0, 2, lambda i, c: c + x.take("a", i) + slice_of(x, i), x["a", 0]),
    "filter_vmap": lambda x: eqx.filter_vmap(lambda v: v.sum())(x),
    "vmap in vmap": lambda x: jax.vmap(lambda v: hax.vmap(lambda w: w, "b")(v))(x),
    "jit in vmap": lambda x: jax.vmap(jax.jit(lambda v: v * 2))(x),
    "named_jit in vmap": lambda x: jax.vmap(hax.named_jit(lambda v: v * 2))(x),
    "grad in vmap": lambda x: jax.vmap(hax.grad(lambda v: v.sum()))(x),
    "shape": lambda x: jax.vmap(lambda v: v.shape)(x),
    "ndim": lambda x: jax.vmap(lambda v: v.ndim)(x),
    "size": lambda x: jax.vmap(lambda v: v.size)(x),
    "axes one by one": lambda x: jax.vmap(lambda v: [axis.name for axis in v.axes])(x),
    "an index": lambda x: jax.vmap(lambda v: v["b", 0])(x),
    "at": lambda x: jax.vmap(lambda v: v.at["b", 0].set(1.0))(x),
    "numpy": lambda x: np.sin(jax.tree.map(lambda array: array[0], x)),
    "numpy in front": lambda x: np.ones(()) + jax.tree.map(lambda array: array[0], x),
    "bool": lambda x: bool(jax.tree.map(lambda array: array[0], x)),
    "float": lambda x: float(jax.tree.map(lambda array: array[0, 0, 0], x)),
    "scalar": lambda x: jax.tree.map(lambda array: array[0, 0, 0], x).scalar(),
    "axes given on": lambda x: jax.vmap(lambda v: hax.zeros(v.axes))(x),
    "a name too many": lambda x: jax.vmap(lambda v: hax.named(v.array, v.axes))(x),
    "random": lambda x: hax.random.normal(jax.random.key(0), jax.tree.map(lambda array: array[0], x).axes),
    "a reference": lambda x: hax.new_ref(jax.tree.map(lambda array: array[0], x)).value(),
    "a view": lambda x: hax.new_ref(jax.tree.map(lambda array: array[0], x))["b", 0],
    "a mask": lambda x: hnn.attention.causal_mask(*jax.tree.map(lambda array: array[0], x).axes[:2]),
    "loss": lambda x: jax.vmap(lambda v: hnn.cross_entropy_loss(v, "e", v))(x),
    "a stacked result": lambda x: jax.vmap(lambda n: x * n)(jnp.ones(5)).sum("a"),
    "a result of scan": lambda x: jax.lax.scan(lambda c, _: (c, x), 0, None, length=5)[1] + 1,
    "jacobian": lambda x: jax.jacobian(lambda x: x.sum("a").array)(x) + 1,
    "jacobian of a NamedArray": lambda x: jax.jacobian(lambda x: x.sum("a"))(x) + 1,
    "hessian": lambda x: jax.hessian(lambda x: (x * x).sum().scalar())(x) + 1,
    "shape structs": lambda x: jax.eval_shape(jax.vmap(lambda v: v), x) + jax.eval_shape(lambda: slice_of(x, 0)),
    "inside of hax.vmap": lambda x: hax.vmap(lambda v: jax.tree.map(lambda array: array[0], v), "a")(x),
    "state dict": lambda x: hax.state_dict.to_state_dict({"x": jax.tree.map(lambda array: array[0], x)}),
    "argmax": lambda x: jax.vmap(lambda v: v.argmax())(x),
    "shard": lambda x: hax.shard(slice_of(x, 0), {"a": "data"}, jax.make_mesh((2,), ("data",))),
    "part of an axis": lambda x: jax.tree.map(lambda array: array[:1], x) + 1,
    "part of an axis, of a known structure": lambda x: jax.tree.map(lambda array: array[:1], x + 0).sum("b"),
    "part of an axis in a module": lambda x: sliced(hnn.Linear.init(B, E, key=jax.random.key(0)))(x),
    "part of an axis, of its size": lambda x: jax.tree.map(lambda array: array[:1], x).size,
    "more of an axis": lambda x: jax.tree.map(lambda array: jnp.concatenate([array, array]), x).rename({"a": "c"}),
    "other sizes": lambda x: jax.tree.map(lambda array: array.T, x) * 2,
    "part of an axis out of jit": lambda x: jax.jit(lambda v: jax.tree.map(lambda array: array[:1], v))(x).mean(),
    "resize": lambda x: hax.tree_util.resize_axis(jax.tree.map(lambda array: array[0], x), "b", 7),
}


def sliced(tree):
    return jax.tree.map(lambda array: array[:1], tree, is_leaf=eqx.is_array)


def slice_of(x, number):
    return jax.tree.map(lambda array: array[number], x)


@pytest.mark.parametrize("name", USES)
def test_uses(name, x):
    with pytest.raises(hax.AxisError, match=STALE):
        USES[name](x)


MODULES = {
    "linear": lambda: hnn.Linear.init(B, E, key=jax.random.key(0)),
    "norm": lambda: hnn.LayerNorm.init(B),
    "embedding": lambda: hnn.Embedding.init(hax.Axis("v", 5), B, key=jax.random.key(0)),
    "mlp": lambda: hnn.MLP.init(B, E, 8, 2, key=jax.random.key(0)),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_whose_parameters_are_stripped(name):
    module = MODULES[name]()
    given = hax.named(jnp.arange(3), "n") if name == "embedding" else hax.ones(B)
    with pytest.raises(hax.AxisError, match=STALE + r"(.|\n)*haliax.nn.Stacked"):
        jax.tree.map(lambda array: array[0], module, is_leaf=eqx.is_array)(given)


def test_an_ensemble_works_under_the_map_that_made_it():
    keys = jax.random.split(jax.random.key(0), 3)
    ensemble = eqx.filter_vmap(lambda key: hnn.Linear.init(B, E, key=key))(keys)
    results = eqx.filter_vmap(lambda layer: layer(hax.ones(B)).array)(ensemble)
    assert results.shape == (3, 4)
    with pytest.raises(hax.AxisError, match=STALE):
        ensemble(hax.ones(B))


def test_shards_are_stale(x):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("data")

    def run(body):
        return jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=spec)(x)

    with pytest.raises(hax.AxisError, match=r"whose shape is \(1, 3, 4\)(.|\n)*jax.shard_map"):
        run(lambda v: v.sum("b"))
    doubled = run(lambda v: jax.tree.map(lambda array: array * 2, v))
    assert doubled.axes == x.axes and np.array_equal((doubled + 0).array, 2 * x.array)


def test_what_is_no_use(x, stale):
    assert isinstance(stale.axes, StaleAxes) and repr(stale) == "f32[a=2, b=3, e=4] of shape (3, 4)"
    assert str({"x": stale}) and eqx.tree_pformat({"x": stale}) == "{'x': f32[a=2, b=3, e=4] of shape (3, 4)}"
    assert stale.array.shape == (3, 4) and stale.dtype == jnp.float32 and np.asarray(stale).shape == (3, 4)
    assert hax.named(stale, ("b", "e")).sum("b").axes == (E,)
    assert jax.tree.structure(stale) == jax.tree.structure(x) and hash(jax.tree.structure(stale))
    assert jax.tree.map(lambda whole, part: whole[0] - part, x, stale).array.shape == (3, 4)
    assert np.array_equal(jax.tree.map(lambda array: array[None].repeat(2, 0), stale) * 0, x * 0)
    for other in (copy.deepcopy(stale), pickle.loads(pickle.dumps(stale))):
        with pytest.raises(hax.AxisError, match=STALE):
            other + 1
    with hax.enable_shape_checks(False):
        assert jax.tree.map(lambda array: array[0], x).axes == x.axes


def test_sizes_are_known_for_as_many_axes_as_there_are(monkeypatch):
    monkeypatch.setattr(known, "_MOST_KNOWN", 3)
    for size in range(1, 12):
        array = hax.zeros({"a": size, "b": 2})
        for _ in range(5):
            hax.NamedArray.tree_unflatten(array.axes, [array.array])
        again = jax.tree.map(lambda leaf: leaf + 1, jax.tree.map(lambda leaf: leaf, array))
        assert type(again.axes) is tuple and again.axes == array.axes and len(known._kept_alive) <= 3
        with pytest.raises(hax.AxisError, match=STALE):
            jax.tree.map(lambda leaf: leaf[:, :1], array) + 1


def test_values_that_pass_through_are_whole_again(x):
    for function in (
        lambda v: v,
        lambda v: jax.tree.map(lambda array: array + 0, v),
        lambda v: jax.lax.cond(True, lambda w: w, lambda w: w, v),
        lambda v: jax.jit(lambda w: w)(v),
        lambda v: eqx.combine(*eqx.partition(v, eqx.is_array)),
    ):
        for mapped in (jax.vmap(function)(x), jax.lax.map(function, x), eqx.filter_vmap(function)(x)):
            assert type(mapped.axes) is tuple and np.array_equal(mapped + 0, x)
    carried, rows = jax.lax.scan(lambda c, row: (c + x, row), x, x)
    assert np.array_equal(carried, 3 * x) and np.array_equal(rows - x, 0 * x)
    assert np.array_equal(jax.vmap(lambda n: (x * n).array)(jnp.arange(3.0))[2], 2 * x)
    raw = jax.jacobian(lambda x: x.sum("a").array)(x).array
    assert raw.shape == (3, 4, 2, 3, 4)
    assert jax.jacobian(lambda x: x.sum("a"))(x).array.array.shape == (3, 4, 2, 3, 4)


def test_other_children_go_on_working(x):
    for child in (None, 1.5, True, "text", PartitionSpec("data"), object(), jax.ShapeDtypeStruct((2, 3, 4), jnp.int32)):
        held = jax.tree.unflatten(jax.tree.structure(x), [child])
        assert held.axes == x.axes and type(held.axes) is tuple and held.array is child
    optimizer = optax.adafactor(1e-2)
    updates, _ = optimizer.update(x, optimizer.init(x), x)
    assert np.isfinite(np.asarray(updates + 0)).all() and updates.axes == x.axes
