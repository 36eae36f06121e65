"""Mistakes that are easily made and say nothing elsewhere: here each is an error, a warning, or works."""

import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import haliax as hax
import haliax.nn as hnn
from haliax import partitioning

Batch, Embed = hax.make_axes(batch=4, embed=8)
x = inputs.normal(0, (Batch, Embed))


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def test_a_misspelt_axis_in_a_mapping_warns(mesh):
    with hax.set_mesh(mesh), pytest.warns(hax.AxisWarning, match="no array has the axis `embd`.*did you mean `embed`"):
        hax.named_jit(lambda x: x, {"batch": "data", "embd": "model"})(x)
    with hax.set_mesh(mesh), pytest.warns(hax.AxisWarning), hax.axis_mapping({"bacth": "data"}):
        hax.auto_sharded(x)


def test_a_misspelt_mesh_axis_is_an_error(mesh):
    with hax.set_mesh(mesh), pytest.raises(hax.AxisError, match="did you mean `data`"):
        hax.shard(x, {"batch": "dta"})


def test_rename_of_an_absent_axis_is_an_error():
    with pytest.raises(hax.AxisError, match="did you mean `batch`"):
        x.rename({"bach": "b"})


@pytest.mark.parametrize("index", [4, -5, np.int64(4), slice(0, 2, None)])
def test_an_index_out_of_range_is_an_error_and_does_not_clamp(index):
    if isinstance(index, slice):
        assert x["batch", index].axes[0].size == 2
        return
    with pytest.raises(IndexError, match="out of range for axis `batch`"):
        x["batch", index]


def test_an_index_that_is_found_out_of_range_when_it_runs_reads_as_nan():
    assert np.isnan(np.asarray(jax.jit(lambda x, i: x["batch", i])(x, 4))).all()
    chosen = hax.named(jnp.array([0, 9]), "chosen")
    assert np.isnan(np.asarray(x["batch", chosen]["chosen", 1])).all()


def test_an_error_does_not_print_the_array():
    big = hax.zeros(hax.make_axes(row=500, column=500))
    for wrong in (lambda: big.scalar(), lambda: bool(big), lambda: big["row", 500], lambda: big + jnp.ones((3, 3))):
        with pytest.raises(ValueError) as caught:
            wrong()
        assert "f32[row=500, column=500]" in str(caught.value) and len(str(caught.value)) < 200


def test_loops_over_a_missing_axis_are_errors():
    Layers = hax.Axis("layers", 3)
    for wrong in (
        lambda: hax.scan(lambda c, x: (c, x), Layers)(0.0, x),
        lambda: hax.fold(lambda c, x: c, Layers)(0.0, x),
        lambda: hax.map(lambda x: x, Layers)(x),
        lambda: hax.vmap(lambda x: x, Layers)(x),
    ):
        with pytest.raises(hax.AxisError, match="`layers`, which no argument has"):
            wrong()


def test_grad_takes_a_loss_that_is_a_named_array():
    gradient = hax.grad(lambda x: (x * x).sum())(x)
    assert gradient.axes == x.axes and np.allclose(gradient, 2 * x.array)
    value, gradient = hax.value_and_grad(lambda x: hax.mean(x))(x)
    assert value.axes == () and np.allclose(gradient, 1 / 32)
    with pytest.raises(TypeError, match="needs a loss without axes"):
        hax.grad(lambda x: x.sum("batch"))(x)


def test_numpy_gets_the_numbers():
    for numbers in (np.asarray(x), np.array(x), np.stack([x, x])[1]):
        assert numbers.dtype == np.float32 and np.array_equal(numbers, x.array)
    assert np.asarray(x, dtype=np.float64).dtype == np.float64


def test_numpy_integers_are_integers():
    two = np.int64(2)
    Two = hax.Axis("two", two)
    assert Two == hax.Axis("two", 2) and hash(Two) == hash(hax.Axis("two", 2)) and type(Two.size) is int
    assert hax.arange(Two).axes == (hax.Axis("two", 2),)
    assert np.array_equal(x["batch", two], x.array[2])
    assert x["batch", np.int32(1) : two].axes[0].size == 1
    assert x["batch", hax.ds(two, 2)].axes[0].size == 2
    assert np.array_equal(hax.roll(x, two, "batch"), np.roll(x.array, 2, 0))
    traced = hax.named_jit(lambda x, number: x["batch", number] * number)
    assert np.array_equal(traced(x, two), x.array[2] * 2)
    assert np.array_equal(traced(x, np.int64(1)), x.array[1])


def test_linear_with_one_name_in_and_out_says_what_to_do():
    with pytest.raises(hax.AxisError, match=r"Axis.alias\(\"embed_out\"\), and rename the result"):
        hnn.Linear.init(Embed, Embed, key=jax.random.key(0))


def test_what_named_jit_returns_is_never_stale(mesh):
    returned = hax.named_jit(lambda x, note: {"x": x, "note": note})
    notes = ("a", "b", "a", 1, True, 1.0, 0.0, -0.0)
    assert [repr(returned(x, note)["note"]) for note in notes] == [repr(note) for note in notes]

    laid_out = hax.named_jit(lambda x: hax.auto_sharded(x + 1))
    other = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    for used in (mesh, other, mesh):
        for mapping in ({"batch": "data"}, {"embed": "model"}, {}):
            with hax.set_mesh(used), hax.axis_mapping(mapping):
                result = laid_out(x)
                expected = partitioning.sharding_for_axis(x.axes)
                assert result.array.sharding.is_equivalent_to(expected, 2)
