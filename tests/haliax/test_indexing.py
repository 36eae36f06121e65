"""Indexing, updating and mutable references by name, against `jnp`."""

import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typeguard
from jax.experimental import pallas

import haliax as hax
from haliax.ref import NamedRef

A, B, C, Q, J = hax.make_axes(a=2, b=3, c=4, i=2, j=3)
x = inputs.counting((A, B, C), np.float32)
raw = x.array
i = hax.named(jnp.array([0, 2]), Q)
j = hax.named(jnp.array([0, 1, 1]), J)
ij = hax.named(jnp.array([[0, 2, 1], [1, 1, 0]]), (Q, J))
along_b = hax.named(jnp.array([3, 0, 1]), B)
along_a = hax.named(jnp.array([0, 2]), A)
one = hax.named(jnp.array(1), ())
mask = hax.named(jnp.array([True, False, True]), B)
zeros = np.zeros((2, 1, 4), np.float32)


def names(array):
    return " ".join(f"{axis.name}={axis.size}" for axis in array.axes)


# An index, the axes of the result, and the same with positions.
READS = {
    "integer": (lambda: x["a", 1], "b=3 c=4", lambda: raw[1]),
    "negative integer": (lambda: x["b", -1], "a=2 c=4", lambda: raw[:, -1]),
    "numpy integers": (lambda: x["b", np.int32(-1), "c", np.uint8(2)], "a=2", lambda: raw[:, -1, 2]),
    "every axis": (lambda: x["a", 1, "b", 2, "c", 3], "", lambda: raw[1, 2, 3]),
    "mapping": (lambda: x[{"a": 1, B: 2}], "c=4", lambda: raw[1, 2]),
    "axis": (lambda: x[A, 1], "b=3 c=4", lambda: raw[1]),
    "nothing": (lambda: x[{}], "a=2 b=3 c=4", lambda: raw),
    "one after the other": (lambda: x["a", 0]["c", 1:3]["b", 1], "c=2", lambda: raw[0, 1, 1:3]),
    "slice": (lambda: x["b", 0:2, "c", 1:], "a=2 b=2 c=3", lambda: raw[:, 0:2, 1:]),
    "steps": (lambda: x["b", ::-1, "c", ::2], "a=2 b=3 c=2", lambda: raw[:, ::-1, ::2]),
    "slice beyond the end": (lambda: x["b", 1:9], "a=2 b=2 c=4", lambda: raw[:, 1:9]),
    "empty slice": (lambda: x["b", 2:1], "a=2 b=0 c=4", lambda: raw[:, 2:1]),
    "array ends": (lambda: x["b", jnp.array(0) : one], "a=2 b=1 c=4", lambda: raw[:, 0:1]),
    "ds": (lambda: x["b", hax.ds(1, 2)], "a=2 b=2 c=4", lambda: raw[:, 1:3]),
    "dslice by an axis": (lambda: x["b", hax.dslice(one, Q)], "a=2 b=2 c=4", lambda: raw[:, 1:3]),
    "dblock": (lambda: x["c", hax.dblock(1, 2)], "a=2 b=3 c=2", lambda: raw[:, :, 2:4]),
    "two ds": (lambda: x["b", hax.ds(1, 2), "c", hax.ds(0, 2)], "a=2 b=2 c=2", lambda: raw[:, 1:3, :2]),
    "ds beyond the end": (lambda: x["b", hax.ds(2, 2)], "a=2 b=2 c=4", lambda: np.concatenate([raw[:, 2:], zeros], 1)),
    "ds of pallas": (lambda: x["b", pallas.ds(0, 2, 2)], "a=2 b=2 c=4", lambda: raw[:, ::2]),
    "array": (lambda: x["b", ij], "a=2 i=2 j=3 c=4", lambda: raw[:, ij.array]),
    "array and integer apart": (lambda: x["a", 0, "c", i], "i=2 b=3", lambda: raw[0, :, i.array]),
    "array and slice": (lambda: x["b", i, "c", 1:3], "a=2 i=2 c=2", lambda: raw[:, i.array, 1:3]),
    "outer product": (lambda: x["b", i, "c", j], "a=2 i=2 j=3", lambda: raw[:, i.array[:, None], j.array[None]]),
    "walked together": (lambda: x["b", ij, "c", j], "a=2 i=2 j=3", lambda: raw[:, ij.array, j.array]),
    "with an axis of the array": (lambda: x["c", along_b], "a=2 b=3", lambda: raw[:, np.arange(3), along_b.array]),
    "under its own name": (lambda: x["b", i.rename({"i": "b"})], "a=2 b=2 c=4", lambda: raw[:, i.array]),
    "scalar arrays": (lambda: x["b", one, "a", jnp.array(-1)], "c=4", lambda: raw[-1, 1]),
    "out of range, found late": (lambda: x["b", jnp.array(3)], "a=2 c=4", lambda: np.full((2, 4), np.nan)),
    "some out of range": (lambda: x["b", i + 1]["i", 1], "a=2 c=4", lambda: np.full((2, 4), np.nan)),
    "unnamed vector": (lambda: x["b", jnp.array([0, 1, 1, 2])], "a=2 b=4 c=4", lambda: raw[:, np.array([0, 1, 1, 2])]),
    "list": (lambda: x["b", [2, 0]], "a=2 b=2 c=4", lambda: raw[:, np.array([2, 0])]),
    "no elements": (lambda: x["b", hax.zeros(Q.resize(0), jnp.int32)], "a=2 i=0 c=4", lambda: raw[:, :0]),
    "mask": (lambda: x["b", mask, "c", 0], "a=2 b=2", lambda: raw[:, ::2, 0]),
    "mask of another name": (lambda: x["b", mask.rename({"b": "kept"})], "a=2 kept=2 c=4", lambda: raw[:, ::2]),
    "unnamed mask": (lambda: x["b", np.array([True, False, True])], "a=2 b=2 c=4", lambda: raw[:, ::2]),
    "index": (lambda: hax.index(x, slices={"b": i}), "a=2 i=2 c=4", lambda: raw[:, i.array]),
    "take": (lambda: x.take("b", ij), "a=2 i=2 j=3 c=4", lambda: raw[:, ij.array]),
    "take one": (lambda: hax.take(x, axis="b", index=np.int64(-1)), "a=2 c=4", lambda: raw[:, -1]),
    "take a scalar": (lambda: x.take("b", one), "a=2 c=4", lambda: raw[:, 1]),
    "take along": (lambda: x.take("c", along_a), "a=2 b=3", lambda: np.stack([raw[0, :, 0], raw[1, :, 2]])),
    "take along, and more": (
        lambda: x.take("c", hax.named(jnp.array([[0, 1, 2], [3, 2, 1]]), ("i", "b"))),
        "i=2 a=2 b=3",
        lambda: np.stack([raw[:, np.arange(3), np.array(row)] for row in ([0, 1, 2], [3, 2, 1])]),
    ),
    "slice to a new axis": (lambda: x.slice("c", hax.Axis("d", 2), 1), "a=2 b=3 d=2", lambda: raw[:, :, 1:3]),
    "slice to a new name": (lambda: x.slice(C, "d", start=-2, length=2), "a=2 b=3 d=2", lambda: raw[:, :, 2:]),
    "slice to an axis": (lambda: x.slice("c", start=1, length=hax.Axis("d", 2)), "a=2 b=3 d=2", lambda: raw[:, :, 1:3]),
    "slices": (lambda: x.slice({"b": 1, "c": one}, {"b": 2, "c": Q}), "a=2 b=2 i=2", lambda: raw[:, 1:3, 1:3]),
    "slices by keyword": (
        lambda: hax.slice(x, start={"b": 1}, length={"b": 2, "c": 1}),
        "a=2 b=2 c=4",
        lambda: raw[:, 1:3],
    ),
}


@pytest.mark.parametrize("name", READS)
def test_reads(name):
    read, axes, expected = READS[name]
    result = read()
    assert names(result) == axes
    np.testing.assert_array_equal(result, expected())


@pytest.mark.parametrize("start", range(-3, 5))
def test_a_traced_dslice_reads_zeros_beyond_the_end(start):
    first = start + 3 if start < 0 else start
    expected = np.concatenate([raw, np.zeros((2, 4, 4), np.float32)], 1)[:, min(first, 3) : min(first, 3) + 2]
    result = jax.jit(lambda x, cut: x["b", cut])(x, hax.ds(start, 2))
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(x["b", hax.ds(start, 2)], expected)
    longer = jax.jit(lambda x, start: x["b", hax.ds(start, 5)])(x, start)
    np.testing.assert_array_equal(longer["b", 0:2], expected)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.bool_, jnp.float32])
@pytest.mark.parametrize("number", [0, -1, 2, -3])
def test_a_traced_integer_is_a_slice_that_is_checked(dtype, number):
    array = x.astype(dtype)
    result, taken = jax.jit(lambda x, number: (x["b", number], x.take("b", number)))(array, number)
    expected = jnp.take(array.array, number, axis=1, mode="fill")
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(taken, expected)


def test_static_indices_are_slices():
    def primitives(function):
        return {equation.primitive.name for equation in jax.make_jaxpr(function)(x, 1).eqns}

    assert primitives(lambda x, _: (x["a", 0], x.take("b", 1))) == {"slice", "squeeze"}
    assert "gather" not in primitives(lambda x, _: x.unbind("c"))
    assert primitives(lambda x, _: x.slice({"a": 0, "b": -1}, {"a": 1, "b": 1})) == {"slice"}
    assert "gather" not in primitives(lambda x, n: (x["b", n], x["b", hax.ds(n, 2)], x.slice("b", start=n, length=2)))


def test_dslice():
    cut = hax.ds(start=1, length=B)
    assert (cut.start, cut.size, cut.to_slice()) == (1, 3, slice(1, 4)) and cut == hax.dslice(one, 3)
    assert hax.dblock(idx=2, size=3) == hax.ds.block(2, 3) == hax.ds(6, 3)
    assert jax.tree.leaves(cut) == [1]


# An update, and the same with positions.
c = np.arange(4, dtype=np.float32)
UPDATES = {
    "integer": (lambda: x.at["b", 0].set(7), lambda: raw.at[:, 0].set(7)),
    "mapping": (lambda: x.at[{"b": -1, "c": 1}].add(1), lambda: raw.at[:, -1, 1].add(1)),
    "broadcast by name": (lambda: x.at["b", 0:2].set(hax.arange(C)), lambda: raw.at[:, 0:2].set(c)),
    "another order": (lambda: x.at["b", 1].add(hax.ones((C, A))), lambda: raw.at[:, 1].add(1)),
    "multiply": (lambda: x.at["b", 0].multiply(3), lambda: raw.at[:, 0].multiply(3)),
    "mul": (lambda: x.at["b", 0].mul(3), lambda: raw.at[:, 0].multiply(3)),
    "divide": (lambda: x.at["b", 0].divide(2), lambda: raw.at[:, 0].divide(2)),
    "power": (lambda: x.at["b", 0].power(2), lambda: raw.at[:, 0].power(2)),
    "min": (lambda: x.at["b", 1].min(5), lambda: raw.at[:, 1].min(5)),
    "max": (lambda: x.at["b", 1].max(5), lambda: raw.at[:, 1].max(5)),
    "apply": (lambda: x.at["b", 1].apply(jnp.sin), lambda: raw.at[:, 1].apply(jnp.sin)),
    "twice": (lambda: x.at["b", hax.named(jnp.array([1, 1]), Q)].add(hax.arange(Q)), lambda: raw.at[:, 1].add(1)),
    "outer product": (lambda: x.at["b", i, "c", j].add(1), lambda: raw.at[:, i.array[:, None], j.array[None]].add(1)),
    "with an axis of the array": (
        lambda: x.at["c", along_b].set(hax.arange(B)),
        lambda: raw.at[:, np.arange(3), along_b.array].set(jnp.arange(3)),
    ),
    "mask": (lambda: x.at["b", mask].set(0), lambda: raw.at[:, ::2].set(0)),
    "everything": (lambda: x.at[{}].add(1), lambda: raw + 1),
    "ds": (lambda: x.at["b", hax.ds(1, 2)].set(hax.arange(B.resize(2))), lambda: raw.at[:, 1].set(0).at[:, 2].set(1)),
    "ds beyond the end": (lambda: x.at["b", hax.ds(2, 2)].set(0), lambda: raw.at[:, 2].set(0)),
    "out of range, found late": (lambda: x.at["b", i + 1].set(0), lambda: raw.at[:, 1].set(0)),
    "drop": (lambda: x.at["b", 3].set(0, mode="drop"), lambda: raw),
    "clip": (lambda: x.at["b", i + 1].set(0, mode="clip"), lambda: raw.at[:, 1:].set(0)),
    "promised": (
        lambda: x.at["b", i].set(0, unique_indices=True, indices_are_sorted=True),
        lambda: raw.at[:, ::2].set(0),
    ),
    "get": (lambda: x.at["b", i].get(), lambda: raw[:, i.array]),
    "get with a mode": (lambda: x.at["b", i + 1].get(mode="clip"), lambda: raw[:, 1:]),
    "get with a fill": (lambda: x.at["b", i + 1].get(fill_value=7), lambda: raw[:, 1:].at[:, 1].set(7)),
    "get out of range": (lambda: x.at["b", 3].get(mode="fill", fill_value=7), lambda: jnp.full((2, 4), 7.0)),
    "slice": (lambda: x.updated_slice({"b": 1}, hax.zeros((A, Q.alias("b"), C))), lambda: raw.at[:, 1:].set(0)),
    "slice from the end": (lambda: x.updated_slice({"c": -2}, hax.zeros(Q.alias("c"))), lambda: raw.at[..., 2:].set(0)),
    "slice of length one": (lambda: x.updated_slice({"b": one, "c": 1}, hax.ones(A)), lambda: raw.at[:, 1, 1].set(1)),
    "slices that start apart": (
        lambda: x.updated_slice({"c": along_b}, hax.zeros((A, B, Q.alias("c")))),
        lambda: raw.at[:, 0, 2:].set(0).at[:, 1, :2].set(0).at[:, 2, 1:3].set(0),
    ),
}


@pytest.mark.parametrize("name", UPDATES)
def test_updates(name):
    update, expected = UPDATES[name]
    np.testing.assert_allclose(update(), expected(), rtol=1e-6)


def test_traced_updates_and_their_gradients():
    update = jax.jit(lambda x, n: x.at["b", hax.ds(n, 2), "c", n].set(0.0))
    assert np.array_equal(update(x, 1), raw.at[:, 1:, 1].set(0))
    gradient = hax.grad(lambda x: (x.at["b", 0].multiply(2.0)["b", i]).sum())(x)
    assert np.array_equal(gradient, jnp.zeros_like(raw).at[:, 0].set(2).at[:, 2].set(1))


# A mistake, and what it raises: as published code expects it, and often more.
MISTAKES = {
    "integer": (lambda: x["b", 3], IndexError),
    "negative": (lambda: x["b", -4], ValueError),
    "take": (lambda: x.take("b", 3), IndexError),
    "list": (lambda: x["b", [0, 3]], IndexError),
    "update": (lambda: x.at["b", 3].set(0), IndexError),
    "slice": (lambda: x.slice("b", start=2, length=2), IndexError),
    "updated slice": (lambda: x.updated_slice({"b": 2}, hax.zeros((A, Q.alias("b"), C))), ValueError),
    "no length": (lambda: x.slice("b", start=1), ValueError),
    "ds before the start": (lambda: x["b", hax.ds(-4, 2)], IndexError),
    "absent axis": (lambda: x["z", 0], ValueError),
    "axis of another size": (lambda: x[hax.Axis("a", 7), 0], ValueError),
    "no names": (lambda: x[0], ValueError),
    "ellipsis": (lambda: x[...], ValueError),
    "odd": (lambda: x["a", 0, "b"], ValueError),
    "float": (lambda: x["b", 1.0], ValueError),
    "bool": (lambda: x["b", True], ValueError),
    "axis as an index": (lambda: x["b", Q], ValueError),
    "matrix without names": (lambda: x["b", jnp.zeros((2, 2), int)], ValueError),
    "floats": (lambda: x["b", hax.zeros(Q)], ValueError),
    "mask of another size": (lambda: x["c", mask], IndexError),
    "traced mask": (lambda: jax.jit(lambda m: x["b", m])(mask), IndexError),
    "traced slice": (lambda: jax.jit(lambda n: x["b", n : n + 1])(1), IndexError),
    "update with another axis": (lambda: x.at["b", 0].set(hax.zeros(Q)), ValueError),
    "update of another size": (lambda: x.at["b", 0:2].set(hax.zeros(B)), ValueError),
    "no place": (lambda: x.at.set(0), AttributeError),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    call, error = MISTAKES[name]
    with pytest.raises(error):
        call()


def test_ref_is_read_and_written_by_name():
    ref = hax.new_ref(x)
    assert (ref.axes, ref.shape, ref.ndim, ref.dtype) == (x.axes, x.shape, 3, x.dtype)
    assert ref.resolve_axis("b") == B and repr(ref) == "NamedRef(f32[a=2, b=3, c=4])"
    ref["a", 0, "b", i] = hax.arange(C)
    ref[{"b": hax.ds(1, 1)}] = -1.0
    now = raw.at[0, ::2].set(c).at[:, 1].set(-1)
    assert np.array_equal(ref[...], now)
    assert np.array_equal(hax.swap(ref, ("c", 0), hax.ones((B, A))), now[..., 0])
    assert np.array_equal(hax.get(ref, ("c", 0)), np.ones((2, 3)))
    assert np.array_equal(hax.freeze(ref), now.at[..., 0].set(1))


VIEWS = {
    "integer": ({"a": 0}, "b=3 c=4", raw[0]),
    "slice": ({"b": slice(0, 3, 2)}, "a=2 b=2 c=4", raw[:, ::2]),
    "slice of a slice": (({"c": slice(1, 4)}, {"c": slice(1, 3)}), "a=2 b=3 c=2", raw[..., 2:]),
    "backwards": (({"b": slice(None, None, -1)}, {"b": 0}), "a=2 c=4", raw[:, 2]),
    "ds of a slice": (({"c": slice(1, 4)}, {"c": hax.ds(1, 2)}), "a=2 b=3 c=2", raw[..., 2:]),
    "array": ({"b": i}, "a=2 i=2 c=4", raw[:, ::2]),
    "slice of an array": (({"b": ij}, {"i": 1, "j": slice(1, 3)}), "a=2 j=2 c=4", raw[:, np.array([1, 0])]),
    "array of a slice": (({"c": slice(1, 4)}, {"c": i}), "a=2 b=3 i=2", raw[..., 1::2]),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_a_ref(name):
    selectors, axes, expected = VIEWS[name]
    ref = hax.new_ref(x)
    view = ref
    for selector in selectors if isinstance(selectors, tuple) else [selectors]:
        view = view.slice(selector)
    assert names(view) == axes and np.array_equal(view.value(), expected)
    view[...] = 0.0
    assert view.unsliced().axes == x.axes
    assert np.array_equal(ref.value(), jnp.where(jnp.isin(raw, expected), 0, raw))


def test_refs_in_compiled_functions_and_loops():
    ref = hax.new_ref(hax.zeros((B, C)))

    @jax.jit
    def write(ref, n):
        ref.slice({"b": hax.ds(n, 2)})["b", 1, "c", n] = 5.0
        return ref["b", hax.ds(n, 2)]

    assert np.array_equal(write(ref, 1), jnp.zeros((2, 4)).at[1, 1].set(5))

    def step(n, row):
        ref["b", n] = row
        return n + 1, None

    hax.scan(step, B)(jnp.int32(0), hax.arange((A, B))["a", 1] * 1.0)
    assert np.array_equal(ref[...], np.broadcast_to([[3], [4], [5]], (3, 4)))

    def loss(x):
        ref = hax.new_ref(x)
        ref["b", 0] = ref["b", 0] * 3.0
        return hax.freeze(ref).sum()

    assert np.array_equal(hax.grad(loss)(x), jnp.ones_like(raw).at[:, 0].set(3))
    view = jax.tree.map(lambda leaf: leaf, ref.slice({"b": one}))
    assert isinstance(view, NamedRef) and np.array_equal(view.value(), np.full(4, 4.0))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: hax.new_ref(jnp.ones(3)), TypeError),
        (lambda: hax.new_ref(x)["z", 0], ValueError),
        (lambda: hax.new_ref(x)["a", 2], IndexError),
        (lambda: hax.new_ref(x)[0], ValueError),
        (lambda: hax.new_ref(x).slice({"a": 0})["a", 0], ValueError),
        (lambda: hax.new_ref(x).__setitem__(("a", 0), hax.ones(Q)), ValueError),
    ],
)
def test_mistakes_with_refs(call, error):
    with typeguard.suppress_type_checks(), pytest.raises(error):
        call()
