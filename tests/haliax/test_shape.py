"""Functions of shape and indexing, against jnp."""

import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
from haliax.ops import shape

A, B, C = hax.make_axes(a=2, b=3, c=4)
x = inputs.counting((A, B, C), np.float32)


def primitives(function, *args):
    return [equation.primitive.name for equation in jax.make_jaxpr(function)(*args).eqns]


def test_rename():
    assert x.rename({"a": "b", "b": "a"}).axes == (hax.Axis("b", 2), hax.Axis("a", 3), C)
    assert x.rename({A: A.alias("z")}).axes[0].name == "z"


@pytest.mark.parametrize(
    ("order", "names"),
    [
        (("c", "a", "b"), "c a b"),
        ((..., "a"), "b c a"),
        (("b", ...), "b a c"),
        (("c", ..., "a"), "c b a"),
        ((C, A, B), "c a b"),
        ((..., "b", ...), "a b c"),
    ],
)
def test_rearrange(order, names):
    result = x.rearrange(order)
    assert [axis.name for axis in result.axes] == names.split()
    assert np.array_equal(result.rearrange((A, B, C)), x)


def test_flatten_and_unflatten():
    flat = x.flatten_axes(("a", "b"), "ab")
    assert flat.axes == (hax.Axis("ab", 6), C)
    assert np.array_equal(flat.unflatten_axis("ab", (A, B)), x)
    swapped = x.flatten_axes(("b", "a"), "ba")
    assert np.array_equal(swapped, jnp.transpose(x.array, (1, 0, 2)).reshape(6, 4))
    assert x.flatten_axes(("a", "c"), "ac").axes == (hax.Axis("ac", 8), B)
    assert x.flatten("all").axes == (hax.Axis("all", 24),)


def test_unbind_is_slices():
    parts = x.unbind("b")
    assert [part.axes for part in parts] == [(A, C)] * 3
    assert np.array_equal(parts[1], x.array[:, 1])
    assert "gather" not in primitives(lambda x: x.unbind("b"), x)


def test_joining():
    assert np.array_equal(hax.stack("d", x.unbind("b")), jnp.moveaxis(x.array, 1, 0))
    first, second = x.split("c", hax.make_axes(c=1, d=3))
    joined = hax.concatenate("c", [first, second.rename({"d": "c"}).rearrange(("c", ...))])
    assert joined.axes == x.axes and np.array_equal(joined, x)


def test_pad_roll_repeat_tile_triangles():
    assert hax.pad_left(x, "c", C.resize(6)).axes[-1].size == 6
    assert np.array_equal(
        hax.pad(x, {"c": (1, 2)}, constant_values=7), np.pad(x.array, [(0, 0)] * 2 + [(1, 2)], constant_values=7)
    )
    assert np.array_equal(hax.roll(x, 1, "b"), jnp.roll(x.array, 1, 1))
    assert np.array_equal(hax.repeat(x, 2, "b"), jnp.repeat(x.array, 2, 1))
    assert np.array_equal(hax.tile(x, {"b": 2}), jnp.tile(x.array, (1, 2, 1)))
    assert np.array_equal(hax.tril(x, "b", "c"), jnp.tril(x.array))
    assert np.array_equal(hax.triu(x, "b", "c", 1), jnp.triu(x.array, 1))
    assert np.array_equal(hax.tril(x, "c", "b"), np.tril(np.swapaxes(x.array, 1, 2)))


m = inputs.counting((A, B))
raw, flat = x.array, m.array
# A function that changes axes, the axes of the result, and the same in `jnp`.
CHANGES = {
    "rename by axis": (lambda: x.rename({A: "z"}), "z=2 b=3 c=4", lambda: raw),
    "flatten apart": (
        lambda: x.flatten_axes(("c", "a"), "ca"),
        "ca=8 b=3",
        lambda: raw.transpose(2, 0, 1).reshape(8, 3),
    ),
    "flatten one": (lambda: x.flatten_axes("b", "d"), "a=2 d=3 c=4", lambda: raw),
    "flatten none": (lambda: m.flatten_axes((), "one"), "one=1 a=2 b=3", lambda: flat[None]),
    "flatten a scalar": (lambda: hax.named(5, ()).flatten("one"), "one=1", lambda: jnp.array([5])),
    "ravel": (lambda: hax.ravel(x, new_axis_name=hax.Axis("all", 24)), "all=24", lambda: raw.ravel()),
    "unflatten by a mapping": (
        lambda: x.unflatten_axis("c", {"d": 2, "e": 2}),
        "a=2 b=3 d=2 e=2",
        lambda: raw.reshape(2, 3, 2, 2),
    ),
    "unflatten to nothing": (lambda: m["a", 0:1].unflatten_axis("a", ()), "b=3", lambda: flat[0]),
    "stack": (lambda: hax.stack("s", [m, m.rearrange(("b", "a"))]), "s=2 a=2 b=3", lambda: jnp.stack([flat, flat])),
    "stack of nothing": (lambda: hax.stack("s", []), "s=0", lambda: jnp.zeros(0)),
    "concatenate": (
        lambda: hax.concatenate("b", (m, m["b", 0:1])),
        "a=2 b=4",
        lambda: jnp.concatenate([flat, flat[:, :1]], 1),
    ),
    "concatenate to an axis": (
        lambda: hax.concatenate(A.resize(4), [m, m]),
        "a=4 b=3",
        lambda: jnp.concatenate([flat, flat]),
    ),
    "concatenate promotes": (
        lambda: hax.concatenate("a", [m, m * 1.0]),
        "a=4 b=3",
        lambda: jnp.concatenate([flat, flat * 1.0]),
    ),
    "roll several": (lambda: hax.roll(x, (1, 2), ("b", "c")), "a=2 b=3 c=4", lambda: jnp.roll(raw, (1, 2), (1, 2))),
    "roll by a named scalar": (
        lambda: hax.roll(x, hax.named(-1, ()), "c"),
        "a=2 b=3 c=4",
        lambda: jnp.roll(raw, -1, 2),
    ),
    "pad": (lambda: hax.pad(m, pad_width={A: (1, 0), "b": (0, 2)}), "a=3 b=5", lambda: jnp.pad(flat, ((1, 0), (0, 2)))),
    "pad with a mode": (
        lambda: hax.pad(m, {"b": (1, 1)}, mode="reflect"),
        "a=2 b=5",
        lambda: jnp.pad(flat, ((0, 0), (1, 1)), "reflect"),
    ),
    "pad left": (
        lambda: hax.pad_left(m, B, hax.Axis("z", 5), 7),
        "a=2 z=5",
        lambda: jnp.pad(flat, ((0, 0), (2, 0)), constant_values=7),
    ),
    "repeat each": (
        lambda: hax.repeat(m, jnp.array([1, 2]), "a"),
        "a=3 b=3",
        lambda: jnp.repeat(flat, jnp.array([1, 2]), 0),
    ),
    "repeat, traced": (
        lambda: jax.jit(lambda n: hax.repeat(m, n, A, total_repeat_length=3))(jnp.array([1, 2])),
        "a=3 b=3",
        lambda: jnp.repeat(flat, jnp.array([1, 2]), 0),
    ),
    "tile": (lambda: hax.tile(m, {A: 2, "b": 2}), "a=4 b=6", lambda: jnp.tile(flat, (2, 2))),
    "tile to new axes": (lambda: hax.tile(m, reps={"s": 2, "a": 2}), "s=2 a=4 b=3", lambda: jnp.tile(flat, (2, 2, 1))),
    "zero-size": (lambda: hax.concatenate("b", [m["b", 0:0], m["b", 3:9]]), "a=2 b=0", lambda: flat[:, :0]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes(name):
    change, axes, plain = CHANGES[name]
    result, expected = change(), plain()
    assert " ".join(f"{axis.name}={axis.size}" for axis in result.axes) == axes
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def test_flattening_some_axes_and_back():
    for kept, axes in ((("a", "c"), (hax.Axis("m", 8), B)), (("c", "b"), (A, hax.Axis("m", 12))), ((), None)):
        flat, back = hax.core.flatten_all_axes_but(x, "m", kept)
        assert flat.axes == (axes or (hax.Axis("m", 1), *x.axes))
        assert back(flat).axes == x.axes and np.array_equal(back(flat * 2), 2 * x.array)
    flat, back = hax.core.flatten_all_axes_but(x, "m", "b", reorder_to_front=True)
    assert flat.axes == (hax.Axis("m", 3), A, C) and np.array_equal(back(flat), x)
    flat, back = shape.flatten_others(x, ("b",), "m")
    assert flat.axes == (hax.Axis("m", 8), B) and back(flat).axes == (A, C, B)
    assert hax.flatten_axes((A, B, C), ("a", "c"), "ac") == (hax.Axis("ac", 8), B)


def test_broadcasting():
    vector = hax.arange(C)
    assert vector.broadcast_axis((A, B)).axes == (A, B, C)
    assert vector.broadcast_to((C, A)).axes == (C, A)
    assert [y.axes for y in hax.broadcast_arrays(x, vector)] == [(A, B, C)] * 2
    both = hax.broadcast_arrays(hax.zeros(A), vector, require_subset=False)
    assert [y.axes for y in both] == [(A, C)] * 2


def test_indexing():
    raw = x.array
    assert np.array_equal(x["a", 1], raw[1])
    assert np.array_equal(x["a", -1, "c", 1:3], raw[-1, :, 1:3])
    assert x["a", -1, "c", 1:3].axes == (B, C.resize(2))
    assert np.array_equal(x[{"b": slice(None, None, 2)}], raw[:, ::2])
    assert np.array_equal(x[{"b": slice(None, None, -1)}], raw[:, ::-1])
    assert np.array_equal(x["c", hax.ds(1, 2)], raw[..., 1:3])
    traced = jax.jit(lambda x, i: x["c", hax.ds(i, 2)])(x, 1)
    assert traced.axes == (A, B, C.resize(2)) and np.array_equal(traced, raw[..., 1:3])
    assert np.array_equal(x["c", hax.dblock(1, 2)], raw[..., 2:])
    assert np.array_equal(x["a", np.int64(1)], raw[1])


def test_indexing_with_arrays():
    raw = x.array
    i = hax.named(jnp.array([[0, 2], [1, 1]]), ("q", "r"))
    assert x.take("b", i).axes == (A, *i.axes, C)
    assert np.array_equal(x.take("b", i), raw[:, i.array])
    assert x["b", i, "c", 0].axes == (A, *i.axes)
    row, column = hax.named(jnp.array([0, 1, 1]), "n"), hax.named(jnp.array([2, 0, 1]), "n")
    assert np.array_equal(x["a", row, "b", column], raw[row.array, column.array])
    along = hax.argmax(-x, "c")
    assert np.array_equal(x.take("c", along), raw.min(-1)) and x.take("c", along).axes == (A, B)
    assert x.take("b", [0, 1]).axes == (A, B.resize(2), C)
    assert np.isnan(x.take("b", hax.named(jnp.array([3]), "n"))).all()


def test_updates():
    raw = x.array
    assert np.array_equal(x.at["a", 0].set(1.0), raw.at[0].set(1.0))
    assert np.array_equal(x.at["c", 1:3, "a", 1].add(hax.arange(B)), raw.at[1, :, 1:3].add(jnp.arange(3.0)[:, None]))
    i = hax.named(jnp.array([0, 0]), "n")
    assert np.array_equal(x.at["b", i].add(1.0), raw.at[:, i.array].add(1.0))
    assert np.array_equal(x.at["b", 0].multiply(3.0), raw.at[:, 0].multiply(3.0))
    update = hax.ones((A, C.resize(2)))
    assert np.array_equal(x.updated_slice({"b": 1, "c": 2}, update), raw.at[:, 1, 2:].set(1.0))


def test_slice():
    assert np.array_equal(hax.slice(x, "c", start=1, length=2), x.array[..., 1:3])
    assert hax.slice(x, "c", hax.Axis("d", 2), 1).axes == (A, B, hax.Axis("d", 2))
    assert np.array_equal(hax.slice(x, {"a": 1, "c": 2}, length={"a": 1, "c": 2}), x.array[1:, :, 2:])


def test_creation():
    assert np.array_equal(hax.arange(C, start=2, step=3), 2 + 3 * np.arange(4))
    assert hax.arange(C).dtype == jnp.int32 and hax.arange(C, step=0.5).dtype == jnp.float32
    assert np.array_equal(hax.full((A,), 7), [7, 7])
    assert hax.zeros_like(x).axes == hax.ones_like(x).axes == x.axes
    np.testing.assert_allclose(hax.linspace(C, start=0.0, stop=1.0), np.linspace(0, 1, 4), rtol=1e-6)
    assert np.array_equal(hax.nn.one_hot(hax.arange(A), B), np.eye(2, 3))


def test_where_and_clip():
    mask = hax.arange(C) < 2
    assert np.array_equal(hax.where(mask, x, 0.0), jnp.where(mask.array, x.array, 0.0))
    assert np.array_equal(hax.clip(x, 3, hax.arange(C) + 5), jnp.clip(x.array, 3, jnp.arange(4) + 5))
    assert hax.isclose(x, x).array.all()
