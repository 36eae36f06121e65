"""Where a program means what it means in the published library (1.3), which was run beside this one to find out."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import haliax as hax
import haliax.nn as hnn
from haliax import state_dict as sd

H, W, D = hax.make_axes(h=4, w=5, d=6)
x = hax.arange((H, W, D))
Batch, Pos, Embed, Mlp = hax.make_axes(b=2, p=3, e=4, m=5)
y, w = hax.arange((Batch, Pos, Embed)) * 1.0, hax.arange((Embed, Mlp)) * 1.0
KEY = jax.random.key(1)


def names(array):
    return [axis.name for axis in array.axes]


@pytest.mark.parametrize(
    "number, expected", [(-1, [0, 0, 0, 1]), (-4, [1, 0, 0, 0]), (np.int32(-2), [0, 0, 1, 0]), (3, [0, 0, 0, 1])]
)
def test_one_hot_of_a_number_counts_from_the_end(number, expected):
    assert hnn.one_hot(number, hax.Axis("position", 4)).tolist() == expected


def test_one_hot_of_an_array_gives_zeros_out_of_range():
    Four = hax.Axis("position", 4)
    assert hnn.one_hot(hax.named([-1, 0, 7, -100], "i"), Four).sum("position").tolist() == [0, 1, 0, 0]
    assert hnn.one_hot(hax.named(jnp.int32(-1), ()), Four).tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="or from the end -4 to -1"):
        hnn.one_hot(-5, Four)
    with pytest.raises(TypeError, match="one_hot needs a NamedArray"):
        hnn.one_hot(jnp.array([0, 1]), Four)


@pytest.mark.parametrize("order", ["ijk", "ikj", "jik", "jki", "kij", "kji"])
def test_several_index_arrays_give_the_largest_last(order):
    sizes = {"i": 4, "j": 3, "k": 2}
    one, two, three = (hax.arange(hax.Axis(name, sizes[name])) for name in order)
    assert names(x["h", one, "w", two, "d", three]) == ["k", "j", "i"]
    assert names(hax.broadcast_arrays(one, two, three, require_subset=False)[0]) == ["k", "j", "i"]
    found = x["h", one, "w", two, "d", three].rearrange(tuple(order))
    assert np.array_equal(found, x.array[np.ix_(one.array, two.array, three.array)])


def test_index_arrays_apart_and_slices():
    i, j = hax.arange(hax.Axis("i", 2)), hax.arange(hax.Axis("j", 3))
    assert names(x["d", j, "h", i]) == names(x["h", i, "d", j]) == ["i", "j", "w"]
    assert np.array_equal(x["d", j, "h", i], np.transpose(x.array[:2, :, :3], (0, 2, 1)))
    assert names(x["h", hax.ds(1, 2), "d", hax.ds(2, 3)]) == ["h", "w", "d"]
    traced = jax.jit(lambda start: x["d", hax.ds(start, 2), "h", hax.ds(start, 3)])(1)
    assert np.array_equal(traced, x.array[1:4, :, 1:3])


def test_triangles_put_their_axes_last():
    assert names(hax.tril(x, "h", "w")) == ["d", "h", "w"]
    assert names(hax.triu(x, "d", "h")) == ["w", "d", "h"]
    assert np.array_equal(hax.tril(x, "w", "h", 1), np.tril(np.transpose(x.array, (2, 1, 0)), 1))


def test_broadcast_axis_keeps_an_order_that_fits():
    New = hax.Axis("n", 2)
    assert names(x.broadcast_axis((W, D))) == ["h", "w", "d"]
    assert names(x.broadcast_axis((New, W, D))) == ["n", "h", "w", "d"]
    assert names(x.broadcast_axis((D, W))) == ["d", "w", "h"]
    assert names(x.broadcast_axis((W, New))) == ["w", "n", "h", "d"]


@pytest.mark.parametrize("axis", [H, W, D])
def test_categorical_draws_the_same_with_the_axes_given(axis):
    logits = hax.random.normal(jax.random.key(5), (H, W, D))
    others = tuple(own for own in (H, W, D) if own != axis)
    expected = hax.random.categorical(KEY, logits, axis)
    assert np.array_equal(hax.random.categorical(KEY, logits, axis, shape=others), expected)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: hax.einsum("b p e, e m -> b m", y, w, mlp=Mlp), "`mlp` is given by keyword, but is no word"),
        (lambda: hax.einsum("-> h w", y, h=hax.Axis("b", 99), w="p"), r"`h=b\(99\)` contradicts"),
        (lambda: hax.einsum("{h w} -> h w", y, h=hax.Axis("b", 99), w="p"), r"`h=b\(99\)` contradicts"),
        (lambda: hax.einsum("h w e -> h w", y, h=hax.Axis("b", 99)), r"`h=b\(99\)` contradicts"),
        (lambda: hax.einsum("b p e, e m -> b m", y, w, e="m"), "`e=m` contradicts"),
        (lambda: hax.einsum("b p e, e m -> b m", y, w, e=7), "`e=7` contradicts"),
        (lambda: hax.rearrange(y, "b p e -> e b p", q=3), "`q` is given by keyword, but is no word"),
        (lambda: hax.rearrange(y, "x p e -> e x p", x="e"), "`x=e` contradicts"),
        (lambda: hax.rearrange(y, "b p (e: h d) -> b p h d", h=2, e=hax.Axis("e", 5)), r"`e=e\(5\)` contradicts"),
        (lambda: hax.rearrange(y, "b p e -> (t: b p) e", t=hax.Axis("t", 5)), r"`t=t\(5\)` contradicts"),
    ],
)
def test_an_alias_that_does_not_fit_is_an_error(call, text):
    with pytest.raises(hax.AxisError, match=text):
        call()


def test_an_alias_that_fits():
    assert hax.einsum("h p e, e m -> h m", y, w, h=Batch, e=4).shape == {"b": 2, "m": 5}
    assert names(hax.rearrange(y, "{E} -> ... E", E="e")) == ["b", "p", "e"]


@pytest.mark.parametrize(
    "pattern, order",
    [
        ("{p} -> ... p ...", "b p e"),
        ("b ... -> ... b ...", "b p e"),
        ("{b ... e ...} -> e ... b ...", "e b p"),
        ("{p b} -> ... (q: p b) ...", "q e"),
        ("{... p ...} -> p ...", "p b e"),
    ],
)
def test_rearrange_with_several_ellipses(pattern, order):
    result = hax.rearrange(y, pattern)
    assert names(result) == order.split()
    assert result.sum().item() == y.sum().item() and result.size == y.size


def test_einsum_with_several_ellipses():
    expected = hax.dot(y, w, axis="e")
    for pattern in ("{e}, {e} -> ... m ...", "{e ...}, {e ...} -> ... p ...", "{... e ...}, {e} -> ..."):
        result = hax.einsum(pattern, y, w)
        assert set(names(result)) == {"b", "p", "m"}
        np.testing.assert_array_equal(result.rearrange(expected.axes), expected)
    assert names(hax.einsum("-> ... m ... p ...", y, w)) == ["b", "m", "p", "e"]
    with pytest.raises(ValueError, match="`...` is there twice among axes in order: use braces"):
        hax.einsum("... e ... -> ...", y)


def test_an_unnamed_index_takes_the_name_of_the_axis_that_it_indexes():
    found = y["e", jnp.array([0, 1, 2])]  # as many as there are positions, and yet not along them
    assert found.shape == {"b": 2, "p": 3, "e": 3}
    assert y["e", hax.named([0, 1, 2], "p")].shape == {"b": 2, "p": 3}


def test_a_loop_error_says_which_leaf():
    tree = {"a": hax.ones((H, D)), "b": [hax.ones((hax.Axis("h", 3), D))]}
    with pytest.raises(hax.AxisError, match=r"f32\[h=3, d=6\] at args\[0\]\['b'\]\[0\] has it"):
        hax.scan(lambda carry, part: (carry, part), H)(0.0, tree)
    with pytest.raises(hax.AxisError, match=r"f32\[_=3, _=2\] at kwargs\['tree'\]\['c'\] has another size there"):
        hax.vmap(lambda tree: tree, H)(tree={"a": tree["a"], "c": jnp.ones((3, 2))})
    with pytest.raises(TypeError, match=r"\['weight'\]"):
        hax.scan(lambda carry, _: ({"weight": carry["weight"].sum()}, None), H)({"weight": hax.ones(D)}, hax.arange(H))


class Mapped(eqx.Module):  # no ModuleWithStateDictSerialization
    inner: hnn.Linear
    scale: hax.NamedArray | None

    def _state_dict_key_map(self):
        return {"inner": None, "scale": "gain"}


def test_any_module_says_the_keys_of_its_fields(tmp_path):
    module = Mapped(hnn.Linear.init(Embed, Mlp, key=KEY), hax.ones(Mlp))
    arrays = sd.to_state_dict(module, "block")
    assert list(arrays) == ["block.weight", "block.bias", "block.gain"]
    back = sd.from_state_dict(jax.tree.map(jnp.zeros_like, module), arrays, "block")
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(module), strict=True))
    pytest.importorskip("safetensors")
    sd.save_state_dict({**arrays, "block.gone": None}, tmp_path / "file.safetensors")
    assert set(sd.load_state_dict(tmp_path / "file.safetensors")) == set(arrays)


def test_a_mup_output_layer_is_written_with_its_scale():
    layer = hnn.Linear.init(Embed, Mlp, key=KEY, reparam_cls=hnn.Linear.output_reparam())
    arrays = sd.to_torch_compatible_state_dict(layer)
    np.testing.assert_allclose(arrays["weight"], layer.weight.array / 4, rtol=1e-6)
    np.testing.assert_allclose(y.array @ arrays["weight"].T, layer(y).array, rtol=1e-5)
    back = sd.from_torch_compatible_state_dict(layer, arrays)
    np.testing.assert_allclose(back.weight.array, layer.weight.array, rtol=1e-6)


class Unnamed(eqx.Module):
    weight: jax.Array = hax.field(axis_names=("embed", "mlp"))
    other: jax.Array
    inner: hax.NamedArray


def test_pspec_for_honours_the_names_of_fields():
    module = Unnamed(jnp.ones((8, 4)), jnp.ones(3), hax.ones(hax.Axis("mlp", 4)))
    mapping = {"embed": "data", "mlp": "model"}
    specs = hax.partitioning.pspec_for({"m": [module]}, mapping, preserve_existing_shardings=False)["m"][0]
    assert (specs.weight, specs.other, specs.inner) == (P("data", "model"), P(None), P("model"))
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    shardings = hax.partitioning.infer_resource_partitions(module, mapping, mesh=mesh)
    assert shardings.weight.spec == P("data", "model")
