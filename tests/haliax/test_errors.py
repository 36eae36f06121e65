"""The literal text of every error of haliax, raised by its public functions, and that the user's line is attached."""

import contextvars
import sys
import unittest.mock
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typeguard

import haliax as hax
import haliax.nn as hnn
from haliax import errors, partitioning

Batch, Embed, Pos, Experts = hax.make_axes(batch=4, embed=8, position=128, experts=2)
KEY = jax.random.key(0)
MESH = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
x = hax.zeros((Batch, Embed))
y = hax.zeros((Batch, Pos))
z = hax.zeros(hax.make_axes(rows=2, columns=3, position=128))


class Layer(eqx.Module):
    weight: hax.NamedArray

    @staticmethod
    def init(*, key):
        return Layer(hax.random.normal(key, Embed))

    def __call__(self, carry, *args, **kwargs):
        return carry * self.weight


def mixture(inputs, sizes):
    return hnn.MoELinear.init(Experts, Embed, hax.Axis("mlp", 3), key=KEY)(inputs, sizes)


def attention(**options):
    return hnn.attention.dot_product_attention(Pos, Embed, x, hax.zeros((Pos, Embed)), y, **options)


def attend(**options):
    return hnn.attention.attend(z, y, y, Key=Pos, KPos=Batch, **options)


def loss(**options):
    return hnn.cross_entropy_loss(x, Embed, hax.zeros(Batch, dtype=int), **options)


def layers(kind):
    return kind.init(hax.Axis("layers", 3), Layer)(key=jax.random.split(KEY, 3))


def linear():
    return hnn.Linear.init(Embed, hax.make_axes(heads=2, size=4), key=KEY)


INSTEAD = "use `{}`, which goes by name, or pass `x.array`"
NO_NAMESAKE = "pass `x.array`, and name the result with `haliax.named`"


def traced_for_another_task():
    with hax.axis_mapping({"batch": "data"}):
        return contextvars.Context().run(jax.jit(hax.auto_sharded), x)


def without_safetensors():
    with unittest.mock.patch.dict(sys.modules, {"safetensors.numpy": None}):
        return hax.state_dict.load_state_dict("nowhere")


CASES = {
    "absent": (
        lambda: x.sum("embd"),
        "axis `embd` is not in f32[batch=4, embed=8]; did you mean `embed`?",
    ),
    "absent, nothing near": (
        lambda: x.sum("vocab"),
        "axis `vocab` is not in f32[batch=4, embed=8]",
    ),
    "rename of an absent axis": (
        lambda: x.rename({"batches": "b"}),
        "axis `batches` is not in f32[batch=4, embed=8]; did you mean `batch`?",
    ),
    "dot over an absent axis": (
        lambda: hax.dot(x, y, axis="positon"),
        "axis `positon` is not in f32[batch=4, embed=8] and f32[batch=4, position=128]; did you mean `position`?",
    ),
    "another size": (
        lambda: x.sum(hax.Axis("embed", 9)),
        "axis `embed` was asked for with size 9, but it has another size in f32[batch=4, embed=8]: give "
        "the name alone, or resize the axis",
    ),
    "two sizes": (
        lambda: y + hax.zeros(Pos.resize(64)),
        "axis `position` has two sizes: 128 in f32[batch=4, position=128] and 64 in f32[position=64]: "
        "slice or rename one of them",
    ),
    "two sizes in dot": (
        lambda: hax.dot(y, hax.zeros((Pos.resize(64), Embed)), axis="position"),
        "axis `position` has two sizes: 128 in f32[batch=4, position=128] and 64 in f32[position=64, "
        "embed=8]: slice or rename one of them",
    ),
    "not broadcastable": (
        lambda: x * y,
        "cannot broadcast f32[batch=4, embed=8] and f32[batch=4, position=128]: none has all axes of the "
        "others; say which you want with `broadcast_axis` or `broadcast_to`, or rename an axis",
    ),
    "unnamed": (
        lambda: x + np.zeros((3, 4, 8), np.float32),
        "cannot broadcast f32[batch=4, embed=8] with the unnamed f32[_=3, _=4, _=8]: name its axes with `haliax.named`",
    ),
    "neither an array nor a number": (
        lambda: x + "embed",
        "add takes arrays and numbers, not str ('embed')",
    ),
    "where with half of it": (
        lambda: hax.where(x > 0, x),
        "where(condition, x, y) or where(condition, fill_value=..., new_axis=...): give both x and y, or neither",
    ),
    "twice": (
        lambda: hax.zeros((Embed, Embed)),
        "duplicate axis `embed` in [embed=8, embed=8]: rename one of them",
    ),
    "twice after a rename": (
        lambda: x.rename({"batch": "embed"}),
        "duplicate axis `embed` in [embed=4, embed=8]: rename one of them",
    ),
    "shape in another order": (
        lambda: hax.NamedArray(jnp.ones((8, 4)), (Batch, Embed)),
        "an array of shape (8, 4) cannot have the axes [batch=4, embed=8]: give them in the order of the dimensions",
    ),
    "shape": (
        lambda: hax.NamedArray(jnp.ones((4, 9)), (Batch, Embed)),
        "an array of shape (4, 9) cannot have the axes [batch=4, embed=8]: their sizes differ",
    ),
    "rank": (
        lambda: hax.named(jnp.ones((8, 4)), "batch"),
        "an array of shape (8, 4) cannot have the axes [batch]: give one for each dimension",
    ),
    "a size is needed": (
        lambda: hax.zeros("batch"),
        "axis `batch` needs a size here: give Axis('batch', size)",
    ),
    "a name that is none": (
        lambda: hax.Axis(4, 8),
        "the name of an axis must be a string, not 4: write Axis(name, size)",
    ),
    "a negative size": (
        lambda: hax.Axis("batch", -1),
        "axis `batch` cannot have size -1: sizes must be at least 0",
    ),
    "an annotation that is none": (
        lambda: hax.NamedArray["batch ... embed ..."],
        '\'batch ... embed ...\' does not describe axes: write "batch ... embed", ("batch", ..., "embed") '
        'or, for any order, {"batch", "embed", ...}, with names and at most one `...`',
    ),
    "an order that forgets an axis": (
        lambda: x.rearrange(("embed",)),
        "the order [embed] of [batch=4, embed=8] leaves out `batch`: name it, or put `...` for the others",
    ),
    "nothing found": (
        lambda: hax.util.index_where(lambda axis: axis == Pos, x.axes),
        "no element satisfies the predicate",
    ),
    "beyond the target": (
        lambda: x.broadcast_to((Batch, Pos)),
        "f32[batch=4, embed=8] cannot become [batch=4, position=128], which lacks `embed`: reduce or index that first",
    ),
    "does not divide": (
        lambda: hax.rearrange(x, "b (three: a three) -> b a three", three=3),
        "axis `embed` of size 8 cannot be cut into parts of 3: 8 is not divisible by 3",
    ),
    "unflatten": (
        lambda: x.unflatten_axis("embed", hax.make_axes(a=3, b=2)),
        "axis `embed` has size 8, and [a=3, b=2] have 6 elements in total: give sizes that multiply to 8",
    ),
    "split": (
        lambda: x.split("embed", hax.make_axes(a=3, b=2)),
        "the parts of axis `embed` have 5 elements in total, but the axis has 8: give sizes that sum to 8",
    ),
    "stack": (
        lambda: hax.stack("new", [x, y]),
        "stack needs the same axes everywhere, not f32[batch=4, embed=8] and f32[batch=4, position=128]: "
        "rename, slice or broadcast one of them",
    ),
    "one stride for each axis": (
        lambda: hnn.max_pool((Embed,), x, stride=(2, 2)),
        "(2, 2) must be one value for each of the axes `embed`",
    ),
    "the same axis in and out": (
        lambda: hnn.Linear.init(Embed, Embed, key=KEY),
        "Linear has `embed` both in In and Out, and one array cannot have it twice: give Out another name, "
        'Axis.alias("embed_out"), and rename the result',
    ),
    "tokens of a mixture": (
        lambda: mixture(hax.zeros((Batch, Pos, Embed)), hax.zeros(Experts, dtype=int)),
        "MoELinear needs `embed` and one axis of tokens, not f32[batch=4, position=128, embed=8]: merge "
        "the others with `flatten_axes`",
    ),
    "attention over an axis of the query": (
        lambda: hnn.attention.dot_product_attention(Pos, Batch, y, y, y),
        "attention over `position`, which both the query f32[batch=4, position=128] and the key "
        'f32[batch=4, position=128] have: rename it in the keys and values, rename({"position": '
        '"key_position"}), and attend over that',
    ),
    "not named": (
        lambda: hax.sort(jnp.ones(3), "batch"),
        "sort needs a NamedArray, not ArrayImpl (f32[_=3]): name it with `haliax.named`",
    ),
    "axis of an unnamed array": (
        lambda: hax.sum(jnp.ones(3), axis="batch"),
        "sum was given an axis by name, but f32[_=3] has none: use `haliax.named` first",
    ),
    "not an axis": (
        lambda: x.sum(0),
        "an axis is an Axis or a name, not int (0): give its name",
    ),
    "not a scalar": (
        lambda: x.scalar(),
        "f32[batch=4, embed=8] is not a scalar: reduce its axes first",
    ),
    "a loss with axes": (
        lambda: hax.grad(lambda x: x * x)(x),
        "a gradient needs a loss without axes, not f32[batch=4, embed=8]: reduce `batch`, `embed` first, "
        "with `.mean()` or `.sum()`",
    ),
    "a named loss for JAX": (
        lambda: jax.grad(lambda x: x.sum("batch"))(x),
        "jax.grad takes an array for a loss, not the NamedArray f32[embed=8]: reduce `embed` first, and return "
        "`loss.scalar()`, or call haliax.grad or haliax.value_and_grad instead",
    ),
    "a slice of jax.vmap": (
        lambda: jax.vmap(lambda row: row + 1)(x),
        "the axes [batch=4, embed=8] are not those of the array, whose shape is (8,): it was sliced without its names, "
        "as jax.vmap, jax.lax.map, jax.lax.scan and eqx.filter_vmap do. To map over `batch` by name, use "
        'haliax.vmap(f, "batch"), haliax.map(f, "batch"), haliax.scan(f, "batch") or haliax.nn.Stacked; '
        'or name what is left: haliax.named(x, ("embed",))',
    ),
    "a slice of which nobody knows": (
        lambda: jax.vmap(lambda row: row + 1)(hax.zeros({"a": 2, "b": 2})),
        "the axes [a=2, b=2] are not those of the array, whose shape is (2,): it was sliced without its names, "
        "as jax.vmap, jax.lax.map, jax.lax.scan and eqx.filter_vmap do. To map by name, use "
        "haliax.vmap(f, axis), haliax.map(f, axis), haliax.scan(f, axis) or haliax.nn.Stacked; "
        "or name what is left: haliax.named(x, (...))",
    ),
    "a result of jax.vmap": (
        lambda: jax.vmap(lambda number: x * number)(jnp.ones(3)) + 1,
        "the axes [batch=4, embed=8] are not those of the array, whose shape is (3, 4, 8): it was given dimensions "
        "without names, as the results of jax.vmap, jax.lax.scan and jax.jacobian are. Map by name (haliax.vmap, "
        "haliax.map, haliax.scan), or name them all: haliax.named(x, (...))",
    ),
    "a part": (
        lambda: jax.jit(lambda x: jax.tree.map(lambda array: array[:1], x) + 1)(x),
        "the axes [batch=4, embed=8] are not those of the array, whose shape is (1, 8): it was sliced without its "
        "names, as jax.shard_map and jax.tree.map do. Slice by name, or name what there is: "
        'haliax.named(x, ("batch", "embed"))',
    ),
    "an argument with axes": (
        lambda: hax.jax_utils.ensure_scalar(x, name="shift"),
        "shift must be a scalar, not f32[batch=4, embed=8]: reduce its axes first",
    ),
    "one axis only": (
        lambda: hax.wrap.wrap_reduction_call(
            jnp.argmax, x, ("batch", "embed"), None, single_axis_only=True, supports_where=False
        ),
        "argmax only supports a single axis, not `batch`, `embed`: call it once for each",
    ),
    "no mask": (
        lambda: hax.wrap.wrap_reduction_call(
            jnp.argmax, x, "batch", x > 0, single_axis_only=True, supports_where=False
        ),
        "argmax takes no `where`: fill the elements that do not count, with `haliax.where`",
    ),
    "no keepdims": (
        lambda: x.sum("embed", keepdims=True),
        "sum has no keepdims, since f32[batch=4, embed=8] is broadcast by name: leave it out, or use `broadcast_axis`",
    ),
    "not a vector": (
        lambda: hax.bincount(hax.zeros((Batch, Embed), dtype=int), Pos),
        "bincount needs an array with one axis, not i32[batch=4, embed=8]: flatten it first",
    ),
    "immutable": (
        lambda: setattr(x, "array", 1),
        "a NamedArray is immutable: `array` cannot be set; build a new one",
    ),
    "no arrays": (
        lambda: hax.dot(axis="embed"),
        "dot needs at least one NamedArray",
    ),
    "dot without an axis": (
        lambda: hax.dot(x, x),
        "dot of f32[batch=4, embed=8] and f32[batch=4, embed=8] does not say which axes to sum over: give "
        "axis=..., or axis=None for all of them",
    ),
    "matmul": (
        lambda: x @ y,
        "@ does not say which axis of f32[batch=4, embed=8] and f32[batch=4, position=128] to sum over: "
        "write haliax.dot(a, b, axis=...)",
    ),
    "random parameters": (
        lambda: hax.random.gamma(KEY, Batch),
        "random.gamma takes key, shape, a, dtype",
    ),
    "targets": (
        lambda: hnn.cross_entropy_loss(x, Embed, hax.zeros(Batch)),
        "the targets f32[batch=4] of logits f32[batch=4, embed=8] lack the axis `embed`, so they must be "
        "integers: give classes as integers, or probabilities with the axis `embed`",
    ),
    "dropout of integers": (
        lambda: hnn.dropout(hax.arange(Embed), 0.5, inference=False, key=KEY),
        "dropout needs floating point numbers, not i32[embed=8]: convert it with `astype`",
    ),
    "dropout without a key": (
        lambda: hnn.Dropout(0.5)(x),
        "dropout needs a random key: pass key=..., or inference=True to drop nothing",
    ),
    "names of a static field": (
        lambda: hax.field(static=True, axis_names=("batch",)),
        "a static field holds no array, so it has no axis_names ('batch',): drop one of the two",
    ),
    "index out of range": (
        lambda: x["batch", 4],
        "index 4 is out of range for axis `batch` of f32[batch=4, embed=8]",
    ),
    "slice out of range": (
        lambda: x.slice("batch", start=3, length=2),
        "the slice from 3 of length 2 is out of range for axis `batch` of f32[batch=4, embed=8]",
    ),
    "slice without a length": (
        lambda: x.slice("batch", start=3),
        "a slice of axis `batch` of f32[batch=4, embed=8] needs a length: give length=..., or an Axis as new_axis",
    ),
    "traced end of a slice": (
        lambda: jax.jit(lambda x, end: x["batch", 0:end])(x, 2),
        "the ends of a slice of axis `batch` are traced, and the size of the result must be known: write "
        'x["batch", haliax.ds(start, length)]',
    ),
    "index of another kind": (
        lambda: x["batch", 1.5],
        "axis `batch` cannot be indexed with 1.5: give an integer, a slice, a haliax.ds, or an array of "
        "integers or booleans, named if it has several dimensions",
    ),
    "an axis is indexed twice": (
        lambda: x["batch", 0, "batch", 1],
        'axis `batch` is indexed twice in one subscript: index it once, or in two steps, x["batch", …]["batch", …]',
    ),
    "an axis is indexed twice in a mapping": (
        lambda: x[{"batch": 0, Batch: 1}],
        'axis `batch` is indexed twice in one subscript: index it once, or in two steps, x["batch", …]["batch", …]',
    ),
    "an axis is updated twice": (
        lambda: x.at["batch", 0, "batch", 1].set(0),
        'axis `batch` is indexed twice in one subscript: index it once, or in two steps, x["batch", …]["batch", …]',
    ),
    "half a size": (
        lambda: hax.Axis("a", 2.5),
        "the size of axis `a` must be an integer, not float (2.5)",
    ),
    "a whole float": (
        lambda: hax.Axis("a", 2.0),
        "the size of axis `a` must be an integer, not float (2.0): write Axis('a', 2)",
    ),
    "a boolean size": (
        lambda: hax.Axis("a", True),
        "the size of axis `a` must be an integer, not bool (True)",
    ),
    "a size that is text": (
        lambda: hax.make_axes(a="3"),
        "the size of axis `a` must be an integer, not str ('3')",
    ),
    "an array for a size": (
        lambda: hax.Axis("a", jnp.ones(3)),
        "the size of axis `a` must be an integer, not ArrayImpl (f32[_=3])",
    ),
    "a traced size": (
        lambda: jax.jit(lambda n: hax.zeros(hax.Axis("a", n)))(3),
        "the size of axis `a` is traced, and the shapes of a compiled function must be known: pass the size as a "
        "Python integer, static under jit",
    ),
    "transposed": (
        lambda: x.T,
        "a NamedArray has no attribute `T` (f32[batch=4, embed=8]): dimensions go by name, so there is seldom a need "
        'to reorder; `x.rearrange((..., "embed"))` does',
    ),
    "reshaped": (
        lambda: x.reshape(32),
        'a NamedArray has no attribute `reshape` (f32[batch=4, embed=8]): `x.flatten_axes(("embed", …), new)` merges '
        'axes and `x.unflatten_axis("embed", axes)` splits one',
    ),
    "squeezed": (
        lambda: x.squeeze(),
        'a NamedArray has no attribute `squeeze` (f32[batch=4, embed=8]): `x["embed", 0]` drops an axis of size 1',
    ),
    "expanded": (
        lambda: x.unsqueeze(0),
        "a NamedArray has no attribute `unsqueeze` (f32[batch=4, embed=8]): `x.broadcast_axis(axis)` adds an axis; "
        "elementwise functions broadcast by name without",
    ),
    "the number of dimensions": (
        lambda: x.dim(),
        "a NamedArray has no attribute `dim` (f32[batch=4, embed=8]): `x.ndim` is the number of axes",
    ),
    "a function that is no method": (
        lambda: x.sinh(),
        "a NamedArray has no attribute `sinh` (f32[batch=4, embed=8]): use `haliax.sinh(x, …)`",
    ),
    "a function of nn that is no method": (
        lambda: x.relu(),
        "a NamedArray has no attribute `relu` (f32[batch=4, embed=8]): use `haliax.nn.relu(x, …)`",
    ),
    "a shape by number": (
        lambda: x.shape[0],
        "the shape {'batch': 4, 'embed': 8} goes by name, not by 0: write x.shape[\"batch\"], or x.array.shape for the "
        "sizes in order",
    ),
    "a part of a shape": (
        lambda: x.shape[:1],
        "the shape {'batch': 4, 'embed': 8} goes by name, not by slice(None, 1, None): write x.shape[\"batch\"], or "
        "x.array.shape for the sizes in order",
    ),
    "a shape by an absent name": (
        lambda: x.shape["embd"],
        "there is no axis `embd` in the shape {'batch': 4, 'embed': 8}; did you mean `embed`?",
    ),
    "length": (
        lambda: len(x),
        'f32[batch=4, embed=8] has no length, since no axis comes first: x.axis_size("batch") is the size of an axis, '
        "x.ndim the number of axes, and x.size the number of elements",
    ),
    "iteration": (
        lambda: list(x),
        'f32[batch=4, embed=8] cannot be iterated over, since no axis comes first: x.unbind("batch") gives the slices '
        "along an axis, and haliax.scan, fold and map loop over one",
    ),
    "membership of a name": (
        lambda: "batch" in x,
        '"batch" in f32[batch=4, embed=8] says nothing: x.has_axis("batch") asks for an axis',
    ),
    "membership of a number": (
        lambda: 3 in x,
        "f32[batch=4, embed=8] is not searched by `in`: write (x == value).any()",
    ),
    **{
        f"given to {function}": (
            call,
            f"{function} does not know axis names, and was given f32[batch=4, embed=8]: {fix}",
        )
        for function, call, fix in (
            ("jnp.sin", lambda: jnp.sin(x), INSTEAD.format("haliax.sin")),
            ("jnp.add", lambda: jnp.add(x, 1), INSTEAD.format("haliax.add")),
            ("jnp.sum", lambda: jax.jit(jnp.sum)(x), INSTEAD.format("haliax.sum")),
            ("jnp.where", lambda: jnp.where(x, x, x), INSTEAD.format("haliax.where")),
            ("jnp.concatenate", lambda: jnp.concatenate([x, x]), INSTEAD.format("haliax.concatenate")),
            ("jnp.zeros_like", lambda: jnp.zeros_like(x), INSTEAD.format("haliax.zeros_like")),
            ("jnp.array", lambda: jnp.array([x, x]), NO_NAMESAKE),
            ("jnp.median", lambda: jnp.median(x), NO_NAMESAKE),
            ("jnp.linalg.norm", lambda: jnp.linalg.norm(x), NO_NAMESAKE),
            ("jax.nn.relu", lambda: jax.nn.relu(x), INSTEAD.format("haliax.nn.relu")),
            ("jax.nn.softmax", lambda: jax.nn.softmax(x), INSTEAD.format("haliax.nn.softmax")),
            ("jax.lax.sin", lambda: jax.lax.sin(x), INSTEAD.format("haliax.sin")),
            ("jax.lax.reduce_sum", lambda: jax.lax.reduce_sum(x, (0,)), NO_NAMESAKE),
            ("np.concatenate", lambda: np.concatenate([x, x]), INSTEAD.format("haliax.concatenate")),
            ("np.stack", lambda: np.stack([x, x]), INSTEAD.format("haliax.stack")),
            ("np.transpose", lambda: np.transpose(x), NO_NAMESAKE),
            ("np.linalg.norm", lambda: np.linalg.norm(x), NO_NAMESAKE),
            ("np.add.reduce", lambda: np.add.reduce(x), NO_NAMESAKE),
        )
    },
    "another carry": (
        lambda: hax.scan(lambda c, row: ({"h": c["h"].rename({"batch": "b"})}, None), "embed")({"h": x["embed", 0]}, x),
        "scan over `embed`: `carry['h']` is f32[batch=4] before a step and f32[b=4] after it: "
        "return what the step was given, with the same axes and dtype, or start with what it returns",
    ),
    "a carry of another dtype": (
        lambda: hax.fold(lambda c, row: c.astype(int), "embed")(x["embed", 0], x),
        "fold over `embed`: `carry` is f32[batch=4] before a step and i32[batch=4] after it: "
        "return what the step was given, with the same axes and dtype, or start with what it returns",
    ),
    "a carry that is lost": (
        lambda: hax.fold(lambda c, row: {"g": c["h"]}, "embed")({"h": x["embed", 0]}, x),
        "fold over `embed`: `carry['h']` is f32[batch=4] before a step and missing after it: "
        "return what the step was given, with the same axes and dtype, or start with what it returns",
    ),
    "a carry in another container": (
        lambda: hax.fold(lambda c, row: [c[0]], "embed")((x["embed", 0],), x),
        "fold over `embed`: the carry has one structure before a step and another after it (tuple, list): "
        "return the same kinds of containers",
    ),
    "no output beside the carry": (
        lambda: hax.scan(lambda c, row: c, "embed")(x["embed", 0], x),
        "scan needs a function that returns (carry, output), not NamedArray: without an output, use `fold`",
    ),
    "Linear": (
        lambda: linear()(y),
        "Linear(In=embed, Out=(heads, size)): axis `embed` is not in `inputs`, f32[batch=4, position=128]",
    ),
    "Linear of another size": (
        lambda: linear()(hax.zeros(Embed.resize(9))),
        "Linear(In=embed, Out=(heads, size)) needs axis `embed` of size 8, but `inputs`, f32[embed=9], has it with "
        "another size: slice it, or build the layer for that size",
    ),
    "Linear of an unnamed array": (
        lambda: linear()(jnp.ones((4, 8))),
        "Linear(In=embed, Out=(heads, size)): `inputs` must be a NamedArray, not ArrayImpl (f32[_=4, _=8]): "
        "name it with `haliax.named`",
    ),
    "MoELinear": (
        lambda: mixture(hax.zeros((Batch, Pos)), hax.zeros(Experts, dtype=int)),
        "MoELinear(Experts=experts, In=embed, Out=mlp): axis `embed` is not in `inputs`, f32[batch=4, position=128]",
    ),
    "MLP": (
        lambda: hnn.MLP.init(Embed, Pos, 4, 1, key=KEY)(y),
        "MLP(In=embed, Out=position): axis `embed` is not in `x`, f32[batch=4, position=128]",
    ),
    "LayerNorm": (
        lambda: hnn.LayerNorm.init(Embed)(y),
        "LayerNorm(axis=embed): axis `embed` is not in `x`, f32[batch=4, position=128]",
    ),
    "RmsNorm": (
        lambda: hnn.RmsNorm.init(Embed)(y),
        "RmsNorm(axis=embed): axis `embed` is not in `x`, f32[batch=4, position=128]",
    ),
    "Embedding": (
        lambda: hnn.Embedding.init(Pos, Embed, key=KEY)(x),
        "Embedding: `input_ids` must be integer indices, not f32[batch=4, embed=8]: convert them with `astype(int)`",
    ),
    "unembed": (
        lambda: hnn.Embedding.init(Pos, Embed, key=KEY).unembed(y),
        "Embedding(Vocab=position, Embed=embed): axis `embed` is not in `input_embeds`, f32[batch=4, position=128]",
    ),
    "Conv": (
        lambda: hnn.Conv.init(("height",), Embed, Pos, 3, key=KEY)(x),
        "Conv(In=embed, Out=position): axis `height` is not in `inputs`, f32[batch=4, embed=8]",
    ),
    "pool": (
        lambda: hnn.max_pool(hax.Axis("height", 2), x),
        "pool(Window=height): axis `height` is not in `inputs`, f32[batch=4, embed=8]",
    ),
    "a list of arrays for numpy": (
        lambda: np.mean([x, x], axis=0),
        "np.mean would drop the names of f32[batch=4, embed=8]: stack a list of arrays with `haliax.stack`, "
        "or pass `x.array`",
    ),
    "a list of arrays for numpy's linear algebra": (
        lambda: np.linalg.norm([x, x]),
        "np.linalg.norm would drop the names of f32[batch=4, embed=8]: stack a list of arrays with `haliax.stack`, "
        "or pass `x.array`",
    ),
    "attention with a mask of another axis": (
        lambda: attention(mask=hax.ones(hax.make_axes(position=128, z=2), dtype=bool)),
        "dot_product_attention: `mask`, bool[position=128, z=2], has axis `z`, which is not in the scores, "
        "f32[batch=4, position=128]: index, reduce or rename it",
    ),
    "attention with a misspelt mask": (
        lambda: attention(mask=hax.ones({"batch": 4, "positio": 128}, dtype=bool)),
        "dot_product_attention: `mask`, bool[batch=4, positio=128], has axis `positio`, which is not in the scores, "
        "f32[batch=4, position=128]; did you mean `position`?",
    ),
    "attention with a bias of another size": (
        lambda: attention(bias=hax.zeros({"position": 3})),
        "dot_product_attention: axis `position` has size 3 in `bias`, f32[position=3], and size 128 in the scores, "
        "f32[batch=4, position=128]: slice or rename one of them",
    ),
    "attention with an unnamed bias": (
        lambda: attention(bias=jnp.ones(128)),
        "dot_product_attention: `bias` must be a NamedArray, not ArrayImpl (f32[_=128]): name it with `haliax.named`",
    ),
    "attention with a mask that is none": (
        lambda: attention(mask="causal"),
        "dot_product_attention: `mask` must be a NamedArray, not str ('causal'): name it with `haliax.named`",
    ),
    "attention with an unnamed query": (
        lambda: hnn.attention.dot_product_attention(Pos, Embed, x.array, hax.zeros((Pos, Embed)), y),
        "dot_product_attention: `query` must be a NamedArray, not ArrayImpl (f32[_=4, _=8]): "
        "name it with `haliax.named`",
    ),
    "attention with keys of another batch": (
        lambda: hnn.attention.dot_product_attention(
            Pos, Embed, x, hax.zeros({"batch": 2, "position": 128, "embed": 8}), y
        ),
        "dot_product_attention: axis `batch` has size 2 in `key`, f32[batch=2, position=128, embed=8], and size 4 in "
        "`query`, f32[batch=4, embed=8]: slice or rename one of them",
    ),
    "attention with values of another batch": (
        lambda: hnn.attention.dot_product_attention(
            Pos, Embed, x, hax.zeros((Pos, Embed)), hax.zeros({"batch": 2, "position": 128})
        ),
        "dot_product_attention: axis `batch` has size 2 in `value`, f32[batch=2, position=128], and size 4 in "
        "the weights, f32[batch=4, position=128]: slice or rename one of them",
    ),
    "a loss with targets of another size": (
        lambda: hnn.cross_entropy_loss(x, Embed, hax.zeros({"batch": 2}, dtype=int)),
        "cross_entropy_loss: axis `batch` has size 2 in `targets`, i32[batch=2], and size 4 in `logits`, "
        "f32[batch=4, embed=8]: slice or rename one of them",
    ),
    "a loss with targets of another axis": (
        lambda: hnn.cross_entropy_loss(x, Embed, hax.zeros(Pos, dtype=int)),
        "cross_entropy_loss: `targets`, i32[position=128], has axis `position`, which is not in `logits`, "
        "f32[batch=4, embed=8]: index, reduce or rename it",
    ),
    "a loss with probabilities of another size": (
        lambda: hnn.cross_entropy_loss(x, Embed, hax.zeros({"batch": 4, "embed": 9})),
        "cross_entropy_loss: axis `embed` has size 9 in `targets`, f32[batch=4, embed=9], and size 8 in `logits`, "
        "f32[batch=4, embed=8]: slice or rename one of them",
    ),
    "a binary loss with targets of another size": (
        lambda: hnn.binary_cross_entropy_loss(x, hax.zeros({"batch": 2})),
        "binary_cross_entropy_loss: axis `batch` has size 2 in `targets`, f32[batch=2], and size 4 in `logits`, "
        "f32[batch=4, embed=8]: slice or rename one of them",
    ),
    "a loss that counts another batch": (
        lambda: loss(where=hax.ones({"batch": 2}, dtype=bool)),
        "cross_entropy_loss: axis `batch` has size 2 in `where`, bool[batch=2], and size 4 in the loss, f32[batch=4]: "
        "slice or rename one of them",
    ),
    "a loss that counts another axis": (
        lambda: loss(where=hax.ones((Batch, Pos), dtype=bool)),
        "cross_entropy_loss: `where`, bool[batch=4, position=128], has axis `position`, which is not in the loss, "
        "f32[batch=4]: index, reduce or rename it",
    ),
    "a loss that counts by numbers": (
        lambda: loss(where=hax.ones(Batch)),
        "cross_entropy_loss: `where` must be boolean, not f32[batch=4]: compare it, as in `where > 0`",
    ),
    "a loss that counts by position": (
        lambda: loss(where=jnp.ones(3, bool)),
        "cross_entropy_loss: `where` must be a NamedArray, not ArrayImpl (bool[_=3]): name it with `haliax.named`",
    ),
    "a loss reduced over an absent axis": (
        lambda: loss(reduction_axis="bath"),
        "cross_entropy_loss: axis `bath` is not in `loss`, f32[batch=4]; did you mean `batch`?",
    ),
    "a loss reduced by no function": (
        lambda: loss(reduction="mean"),
        "cross_entropy_loss: `reduction` must be a function such as haliax.mean, or None, not str ('mean')",
    ),
    "a mean that counts another size": (
        lambda: x.mean("embed", where=hax.ones({"embed": 3}, dtype=bool)),
        "mean: axis `embed` has size 3 in `where`, bool[embed=3], and size 8 in the array, f32[batch=4, embed=8]: "
        "slice or rename one of them",
    ),
    "a sum that counts by numbers": (
        lambda: x.sum("embed", where=1),
        "sum: `where` must be boolean, not 1: compare it, as in `where > 0`",
    ),
    "layers with an argument of another size": (
        lambda: layers(hnn.Stacked).fold(x, hax.zeros({"layers": 4, "batch": 4})),
        "Stacked.fold over `layers` of size 3, but f32[layers=4, batch=4] at args[0] has it with another size: "
        "slice or rename it there",
    ),
    "layers in a list with an argument of another size": (
        lambda: layers(hnn.BlockSeq).scan(x, mask={"m": hax.zeros({"layers": 4})}),
        "BlockSeq.scan over `layers` of size 3, but f32[layers=4] at kwargs['mask']['m'] has it with another size: "
        "slice or rename it there",
    ),
    "layers with an unnamed argument of another size": (
        lambda: layers(hnn.Stacked).vmap(jnp.ones(4)),
        "Stacked.vmap over `layers` of size 3 maps the first dimension of an unnamed array, but f32[_=4] at args[0] "
        "has another size there: name its axes",
    ),
    "layers made with too many keys": (
        lambda: hnn.Stacked.init(hax.Axis("layers", 3), Layer)(key=jax.random.split(KEY, 4)),
        "Stacked.init over `layers` of size 3 maps the first dimension of an unnamed array, but key<fry>[_=4] at "
        "kwargs['key'] has another size there: name its axes",
    ),
    "layers that change their carry": (
        lambda: layers(hnn.Stacked).fold_via(lambda layer, carry: carry.sum("batch"))(x),
        "Stacked.fold over `layers`: `carry` is f32[batch=4, embed=8] before a step and f32[embed=8] after it: "
        "return what the step was given, with the same axes and dtype, or start with what it returns",
    ),
    "layers without an output": (
        lambda: layers(hnn.BlockSeq).scan(x),
        "BlockSeq.scan needs a function that returns (carry, output), not NamedArray: without an output, use `fold`",
    ),
    "layers with different outputs": (
        lambda: layers(hnn.BlockSeq).scan_via(lambda layer, c: (hax.concatenate("batch", [c, c]), {"c": c}))(x),
        "BlockSeq.scan over `layers`: `output['c']` is f32[batch=4, embed=8] of layer 0 and f32[batch=8, embed=8] of "
        "layer 1: return the same axes from every layer, so that they can be stacked",
    ),
    "layers by a name alone": (
        lambda: hnn.BlockSeq.init("layers", Layer),
        "axis `layers` needs a size here: give Axis('layers', size)",
    ),
    "attend by an unknown backend": (
        lambda: attend(backend="flash"),
        "attend: backend 'flash' is not one of auto, reference, blockwise, jax, splash",
    ),
    "attend by a backend that cannot": (
        lambda: attend(backend="jax", softcap=2.0),
        "attend: backend 'jax' cannot do this: it has no softcap; leave the choice to backend=\"auto\"",
    ),
    "attend with a mask of the queries": (
        lambda: attend(mask=hax.ones({"rows": 2}, dtype=bool)),
        "attend: `mask`, bool[rows=2], lacks `batch`: a mask says which keys are seen; if it is of the positions of "
        'the queries, and these are those of the keys, rename it, rename({...: "batch"})',
    ),
    "attend with a mask of numbers": (
        lambda: attend(mask=hax.ones(Batch)),
        "attend: `mask` must be boolean, not f32[batch=4]: True where attention is allowed, as in `mask > 0`",
    ),
    "attend with an axis that no query has": (
        lambda: attend(mask=hnn.attention.AttentionMask(causal=True, starts=hax.zeros(Embed, dtype=int))),
        "attend: `mask.starts`, i32[embed=8], has axis `embed`, which is not in the queries, "
        "[rows=2, columns=3]: index, reduce or rename it",
    ),
    "attend without saying which axis is the position": (
        lambda: attend(mask=hnn.attention.AttentionMask(causal=True)),
        "attend: the mask goes by position, and of the axes that only the query f32[rows=2, columns=3, position=128] "
        'has `rows`, `columns` are all a candidate: say which one it is, QPos="..."',
    ),
    "attention without the axis of the vectors": (
        lambda: hnn.attention.dot_product_attention(Pos, Embed, y, x, x),
        "dot_product_attention: axis `embed` is not in `query`, f32[batch=4, position=128]",
    ),
    "attention without the positions of the keys": (
        lambda: hnn.attention.dot_product_attention(Pos, Embed, x, x, x),
        "dot_product_attention: axis `position` is not in `key`, f32[batch=4, embed=8]",
    ),
    "attention without the positions of the values": (
        lambda: hnn.attention.dot_product_attention(Pos, Embed, x, hax.zeros((Pos, Embed)), x),
        "dot_product_attention: axis `position` is not in `value`, f32[batch=4, embed=8]",
    ),
    "cross entropy": (
        lambda: hnn.cross_entropy_loss(x, "vocab", hax.zeros(Batch, dtype=int)),
        "cross_entropy_loss: axis `vocab` is not in `logits`, f32[batch=4, embed=8]",
    ),
    "cross entropy of an unnamed array": (
        lambda: hnn.cross_entropy_loss(x, Embed, jnp.zeros(4, int)),
        "cross_entropy_loss: `targets` must be a NamedArray, not ArrayImpl (i32[_=4]): name it with `haliax.named`",
    ),
    "no names in an index": (
        lambda: x[0],
        'cannot index with 0: use names, x["batch", 0] or x[{"batch": 0}], with integers, slices or integer arrays',
    ),
    "mask of another size": (
        lambda: x["batch", jnp.ones(3, bool)],
        "a mask for axis `batch` needs one dimension, of size 4, but it is bool[_=3]: for masks of several "
        "axes use `haliax.where`",
    ),
    "traced mask": (
        lambda: jax.jit(lambda x, mask: x["batch", mask])(x, jnp.ones(4, bool)),
        "axis `batch` is indexed with the traced mask bool[_=4], and the size of the result must be known: "
        "use `haliax.where`, or the argument `where` of a reduction",
    ),
    "class out of range": (
        lambda: hnn.one_hot(8, Embed),
        "8 is not a class of `embed`, which has 8: 0 to 7, or from the end -8 to -1",
    ),
    "layer": (
        lambda: hnn.Stacked.init(Batch, Layer)(key=KEY).get_layer(4),
        "there is no layer 4: `batch` has 4, 0 to 3",
    ),
    "unused alias": (
        lambda: hax.rearrange(x, "batch embed -> embed batch", bath=4),
        '`bath` is given by keyword, but is not a word of the pattern "batch embed -> embed batch"; '
        "did you mean `batch`?: leave it out",
    ),
    "contradictory alias": (
        lambda: hax.rearrange(x, "b e -> e b", b=hax.Axis("batch", 5)),
        '`b=batch(5)` contradicts the pattern "b e -> e b", in which `b` is batch(4): give that axis, or leave it out',
    ),
    "leading dimension inside a tree": (
        lambda: hax.vmap(lambda x: x, Batch)({"w": jnp.ones((5, 2))}),
        "vmap over `batch` of size 4 maps the first dimension of an unnamed array, but f32[_=5, _=2] at args[0]['w'] "
        "has another size there: name its axes, or exclude it with `default` or `args`",
    ),
    "pattern": (
        lambda: x.rearrange("b e -> b e -> e"),
        'the pattern "b e -> b e -> e" cannot be read: it needs one `->`',
    ),
    "pattern with another rank": (
        lambda: x.rearrange("b -> b"),
        'the pattern "b -> b" lists 1 axes in order, but the array is f32[batch=4, embed=8]: put `...` for '
        "the others, or braces to go by name",
    ),
    "pattern that forgets an axis": (
        lambda: x.rearrange("b e -> b"),
        'the right side of "b e -> b" leaves out `embed` of f32[batch=4, embed=8]: '
        "name it, or put `...` for the others",
    ),
    "vmap over an absent axis": (
        lambda: hax.vmap(lambda x: x, "bath")(x),
        "vmap over `bath`, which no argument has: it was given f32[batch=4, embed=8]; did you mean `batch`?",
    ),
    "scan over an absent axis": (
        lambda: hax.fold(lambda c, x: c, hax.Axis("layers", 3))(0.0, x),
        "fold over `layers`, which no argument has: it was given f32[batch=4, embed=8]",
    ),
    "leading dimension": (
        lambda: hax.vmap(lambda x: x, Batch)(jnp.ones((5, 2))),
        "vmap over `batch` of size 4 maps the first dimension of an unnamed array, but f32[_=5, _=2] at args[0] "
        "has another size there: name its axes, or exclude it with `default` or `args`",
    ),
    "checkpoint policy": (
        lambda: hax.ScanCheckpointPolicy.from_bool_or_str("ofload"),
        "there is no checkpoint policy `ofload`: give True, False, a ScanCheckpointPolicy or one of "
        "offload, recompute, full, save_all, nested; did you mean `offload`?",
    ),
    "state dict without a name": (
        lambda: hax.state_dict.to_state_dict(jnp.ones(3)),
        "an array by itself has no name in a state dict: give a prefix",
    ),
    "state dict without an entry": (
        lambda: hax.state_dict.from_state_dict({"a": x}, {"b": np.ones((4, 8))}),
        "the state dict has no `a`",
    ),
    "state dict with another shape": (
        lambda: hax.state_dict.from_state_dict({"a": x}, {"a": np.ones((8, 4))}),
        "`a` of the state dict has shape (8, 4), where (4, 8) is expected",
    ),
    "no safetensors": (
        lambda: without_safetensors(),
        "state dict files need the package `safetensors`: pip install safetensors",
    ),
    "two quantizations": (
        lambda: hax.quantization.QuantizationConfig(fp8=True, int8=True),
        "a layer computes in fp8 or in int8, not in both: give one of fp8=True, int8=True",
    ),
    "no mapping": (
        lambda: partitioning.pspec_for(x),
        "pspec_for needs an axis mapping: give one, or call it within `haliax.axis_mapping(...)`",
    ),
    "no mesh": (
        lambda: partitioning.physical_axis_size("batch", {"batch": "data"}),
        "physical_axis_size needs a mesh: call it within `haliax.partitioning.set_mesh(mesh)`",
    ),
    "mesh axis": (
        lambda: partitioning.sharding_for_axis(Batch, {"batch": "modle"}, MESH),
        "the mesh has no axis `modle` (it has `data`, `model`); did you mean `model`?",
    ),
    "does not divide over devices": (
        lambda: hax.shard(hax.zeros(Batch.resize(5)), {"batch": "model"}, MESH),
        "axis `batch` of size 5 cannot be sharded over `model`, which has 2 devices: 5 is not divisible by 2; "
        "round_axis_for_partitioning makes it 6",
    ),
    "an alias that is no word": (
        lambda: hax.einsum("b e -> b", x, emb="embed"),
        '`emb` is given by keyword, but is not a word of the pattern "b e -> b": leave it out',
    ),
    "an alias of another axis": (
        lambda: hax.einsum("b e -> b", x, b=hax.Axis("batch", 9)),
        '`b=batch(9)` contradicts the pattern "b e -> b", in which `b` is batch(4): give that axis, or leave it out',
    ),
    "traced for another task": (
        lambda: traced_for_another_task(),
        "a function of jax.jit is traced under no axis mapping, while JAX remembers it for that of another asyncio "
        "task or thread, which may get this layout later: compile it with haliax.named_jit, or do not `await` "
        "within axis_mapping(...)",
    ),
    "misspelt in a mapping": (
        lambda: hax.shard(x, {"embd": ("data", "model")}, MESH),
        "no array has the axis `embd`, which the mapping shards over `data` and `model`, so nothing is "
        "sharded by it; did you mean `embed`?",
    ),
    "fsdp": (
        lambda: hax.fsdp({"embed": "data"}),
        "fsdp needs compute_mapping: write fsdp(function, parameter_mapping, compute_mapping)",
    ),
    "option of jit": (
        lambda: hax.named_jit(static_argnums=0),
        "named_jit does not take static_argnums: leaves that are not arrays are static already",
    ),
    "static without a hash": (
        lambda: hax.named_jit(lambda x, names: x)(x, {"batch"}),
        "named_jit compiles for the value of each leaf that is not an array, and set has no hash: {'batch'}",
    ),
}


def is_wording(name, value):
    """Whether this is a function of the module that words an error or a warning."""
    given = getattr(value, "__annotations__", {}).get("return", "")
    return not name.startswith("_") and (str(given).endswith("Error") or name.startswith("warn_"))


WORDINGS = {name: value for name, value in vars(errors).items() if is_wording(name, value)}


@pytest.fixture(scope="module")
def raised():
    """For each case the exception, and the functions that worded it."""
    called = []

    def noting(name):
        def noted(*args, **kwargs):
            called.append(name)
            return WORDINGS[name](*args, **kwargs)

        return noted

    found = {}
    with pytest.MonkeyPatch.context() as patch, typeguard.suppress_type_checks(), warnings.catch_warnings():
        warnings.simplefilter("error", hax.AxisWarning)
        for name in WORDINGS:
            patch.setattr(errors, name, noting(name))
        for name, (call, _) in CASES.items():
            called.clear()
            with pytest.raises(Exception) as caught:
                call()
            found[name] = caught.value, tuple(called)
    return found


@pytest.mark.parametrize("name", CASES)
def test_text(raised, name):
    error, _ = raised[name]
    assert error.args == (CASES[name][1],)


def test_every_wording_has_a_case(raised):
    assert set(WORDINGS) - {name for _, called in raised.values() for name in called} == set()


def test_every_error_is_placed(raised):
    for error, _ in raised.values():
        if not isinstance(error, Warning):
            assert error.__notes__[0].startswith("test_errors.py:")


def test_the_users_line_is_attached():
    with pytest.raises(hax.AxisError) as caught:
        x.sum("embd")  # here
    (note,) = caught.value.__notes__
    assert note.startswith("test_errors.py:") and note.endswith('x.sum("embd")  # here')


def test_the_numbers_of_an_array_are_never_in_an_error():
    big = hax.random.normal(KEY, hax.make_axes(row=300, column=300))
    for call in (
        lambda: big.scalar(),
        lambda: big["row", 300],
        lambda: big + jnp.ones((2, 2)),
        lambda: big.sum("rows"),
    ):
        with pytest.raises(Exception) as caught:
            call()
        assert len(str(caught.value)) < 200 and "row=300" in str(caught.value)


def test_the_numbers_are_given_where_they_are_asked_for():
    for numbers in (np.asarray(x), jnp.asarray(x), jnp.array(x), np.array(x, np.float64)):
        assert isinstance(numbers, np.ndarray | jax.Array) and numbers.shape == (4, 8)
    assert jnp.asarray([x.sum(), 1.0]).shape == (2,)
    assert np.allclose(x, 0) and np.array_equal(x, np.zeros((4, 8))) and np.ndim(x) == 2


JOINING = (
    *("append", "array_split", "block", "broadcast_arrays", "choose", "column_stack", "concatenate", "dstack"),
    *("expand_dims", "hstack", "insert", "meshgrid", "repeat", "reshape", "split", "stack", "tile", "vstack"),
    *("median", "percentile", "sum", "std", "union1d", "unwrap", "moveaxis", "linalg.norm", "linalg.qr", "fft.fft"),
)


@pytest.mark.parametrize("name", JOINING)
def test_no_function_of_numpy_that_takes_lists_drops_names(name):
    function = np
    for part in name.split("."):
        function = getattr(function, part)
    refused = []
    for arguments in (([x, x],), ([x, x], 0), (x, x), (x, 0), (x, 0, 1), ([x, x], 0, 1), (x, [x, x])):
        try:
            with typeguard.suppress_type_checks():
                result = function(*arguments)
        except Exception as error:
            refused.append(error)
        else:
            leaves = jax.tree.leaves(result, is_leaf=hax.is_named_array)
            assert all(isinstance(leaf, hax.NamedArray) or np.ndim(leaf) == 0 for leaf in leaves), arguments
    assert any(isinstance(error, hax.NamedTypeError) for error in refused)


def test_numpy_gets_lists_of_scalars_and_compares_numbers():
    assert np.mean([x.sum(), 2.0]) == 1.0 and np.max([x.sum(), x.max()]) == 0
    np.testing.assert_allclose([x, x], np.zeros((2, 4, 8)))
    np.testing.assert_array_equal(x, x.array)


def test_functions_of_numpy_that_mean_the_same_go_by_name():
    assert np.mean(x, axis="embed").axes == (Batch,) and np.where(x > 0, x, 1).axes == x.axes
    assert np.exp(x).axes == x.axes and np.std(x).axes == ()
    with typeguard.suppress_type_checks(), pytest.raises(hax.NamedTypeError, match="an axis is an Axis or a name"):
        np.sum(x, axis=0)


def test_an_absent_attribute_is_absent():
    assert not any(hasattr(x, name) for name in ("T", "reshape", "sinh", "nothing", "_private"))
    assert (
        str(pytest.raises(AttributeError, lambda: x.nothing).value) == "'NamedArray' object has no attribute 'nothing'"
    )


def test_a_shape_is_a_dict():
    assert x.shape == {"batch": 4, "embed": 8} and repr(x.shape) == "{'batch': 4, 'embed': 8}" == str(x.shape)
    assert jax.tree.map(lambda size: 2 * size, x.shape) == {"batch": 8, "embed": 16}
    assert hax.zeros(x.shape).axes == x.axes and x.shape.get(0) is None


def test_what_is_caught_with_other_libraries_is_caught_here():
    """AxisErrors are ValueErrors; where arrays of `jnp` raise another error, or JAX does, that is caught too."""
    assert issubclass(hax.AxisError, ValueError)
    for kind, call in (
        (IndexError, lambda: x["batch", 4]),
        (TypeError, lambda: float(x)),
        (AttributeError, lambda: setattr(x, "axes", ())),
        (KeyError, lambda: partitioning.sharding_for_axis(Batch, {"batch": "modle"}, MESH)),
    ):
        with pytest.raises(kind):
            call()
