"""Lines as users write them, right and wrong, for the type checker; nothing here is run.

A line that ends in a comment "error" with rules of pyright must be flagged with exactly these, and no
other line at all. The right lines state the type of what they compute by `assert_type`.
"""

from typing import assert_type

import jax
import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn
from haliax import NamedArray
from haliax.axis import Axis

Batch, Embed, Mlp = Axis("batch", 2), Axis("embed", 3), Axis("mlp", 4)
x = hax.ones((Batch, Embed))
raw = jnp.ones(3)


# Attributes, methods and properties.
assert_type(x, NamedArray)
assert_type(x.axes, tuple[Axis, ...])
assert_type(x.shape, dict[str, int])
assert_type(x.sum("embed"), NamedArray)
assert_type(x.real, NamedArray)
assert_type(x.axis_size("embed"), int)
assert_type(x.axis_size(("batch", "embed")), tuple[int, ...])
assert_type(x.resolve_axis("embed"), Axis)
assert_type(x.resolve_axis(("batch", "embed")), tuple[Axis, ...])
assert_type(x.at["batch", 0].set(1.0), NamedArray)
x.summ()  # error: reportAttributeAccessIssue
_ = x.T  # error: reportAttributeAccessIssue
x.reshape(6)  # error: reportAttributeAccessIssue
x.array = raw  # fine for the checker; at run time an error that says what to do
x.has_axis(0)  # error: reportArgumentType
x.sum(0)  # error: reportArgumentType
len(x)  # error: reportArgumentType
for _ in x:  # error: reportGeneralTypeIssues
    pass

# Operators.
assert_type(x + 1, NamedArray)
assert_type(2 * x, NamedArray)
assert_type(x > 0, NamedArray)
assert_type(-x, NamedArray)
assert_type(divmod(x, 2), tuple[NamedArray, NamedArray])

# Indexing.
assert_type(x["batch", 0], NamedArray)
assert_type(x["batch", 0, Embed, 1:3], NamedArray)
assert_type(x[{"batch": 0}], NamedArray)
assert_type(x[{Batch: 0, "embed": slice(1, 3)}], NamedArray)
assert_type(x.take("embed", 0), NamedArray)
assert_type(x.at[{"batch": 0}].add(1.0), NamedArray)
assert_type(x.at["batch", 0, Embed, 1:3].get(), NamedArray)
x.at[0]  # error: reportArgumentType
x.at["batch"]  # error: reportArgumentType
x.at[0, 1].set(1.0)  # error: reportArgumentType
x[0]  # error: reportArgumentType
x["batch"]  # error: reportArgumentType
x[0, 1]  # error: reportArgumentType

# Elementwise functions.
assert_type(hax.sin(x), NamedArray)
assert_type(hax.sin(raw), jax.Array)
assert_type(hnn.relu(x), NamedArray)
assert_type(hnn.gelu(x), NamedArray)
assert_type(hax.maximum(x, 0.0), NamedArray)
assert_type(hax.maximum(0.0, x), NamedArray)
assert_type(hax.maximum(raw, 0.0), jax.Array)
assert_type(hax.divmod(x, 2), tuple[NamedArray, NamedArray])
assert_type(hax.where(x > 0, x, 0.0), NamedArray)
assert_type(hax.where(True, 0.0, x), NamedArray)
assert_type(hax.where(x > 0, fill_value=-1, new_axis=Axis("found", 3)), tuple[NamedArray, ...])
assert_type(hax.clip(x, 0, 1), NamedArray)
assert_type(hax.isclose(x, 1.0), NamedArray)
assert_type(hax.astype(x, jnp.bfloat16), NamedArray)
hax.sin("embed")  # error: reportCallIssue, reportArgumentType
hax.maximum(x)  # error: reportCallIssue
hax.where(x > 0, x)  # error: reportCallIssue

# Reductions, and functions along an axis.
assert_type(hax.sum(x, "embed"), NamedArray)
assert_type(hax.mean(x), NamedArray)
assert_type(hax.max(raw), jax.Array)
assert_type(hax.var(x, Embed), NamedArray)
assert_type(hax.argmax(x, "embed"), NamedArray)
assert_type(hax.cumsum(x, "embed"), NamedArray)
assert_type(hax.top_k(x, "embed", 2), tuple[NamedArray, NamedArray])
assert_type(hnn.softmax(x, "embed"), NamedArray)
assert_type(hnn.softmax(raw, 0), jax.Array)
assert_type(hnn.logsumexp(x, "embed"), NamedArray)
hax.sum(x, 0)  # error: reportCallIssue, reportArgumentType
hax.argmax(x, ("batch", "embed"))  # error: reportCallIssue, reportArgumentType
hax.sum(raw, "embed")  # error: reportCallIssue, reportArgumentType

# Searching and comparing.
Found = Axis("found", 2)
assert_type(hax.unique(x, Found), NamedArray)
assert_type(hax.unique(x, Found, axis="embed", return_counts=True), tuple[NamedArray, ...])
assert_type(hax.unique(x, Found, return_index=True, return_inverse=True), tuple[NamedArray, ...])
assert_type(hax.unique_counts(x, Found).counts, NamedArray)
assert_type(hax.nonzero(x, size=Found), tuple[NamedArray, ...])
assert_type(hax.searchsorted(x["batch", 0], 1.0), NamedArray)
assert_type(hax.bincount(x["batch", 0], Found), NamedArray)
assert_type(hax.allclose(x, 1.0), bool | jax.Array)
assert_type(hax.array_equal(x, x), bool | jax.Array)
assert_type(hax.array_equiv(x, x), bool | jax.Array)
hax.unique(x)  # error: reportCallIssue
hax.unique(x, "found")  # error: reportArgumentType
hax.nonzero(x, size=2)  # error: reportArgumentType
hax.array_equal(x)  # error: reportCallIssue

# Making, contracting, reshaping.
assert_type(hax.zeros({"batch": 2}), NamedArray)
assert_type(hax.arange(Embed), NamedArray)
assert_type(hax.named(raw, "embed"), NamedArray)
assert_type(hax.random.normal(jax.random.key(0), (Batch, Embed)), NamedArray)
assert_type(hax.dot(x, x, axis="embed"), NamedArray)
assert_type(hax.einsum("b e, e m -> b m", x, x), NamedArray)
assert_type(hax.rearrange(x, ("embed", "batch")), NamedArray)
assert_type(hax.concatenate("batch", [x, x]), NamedArray)
assert_type(hax.flatten_axes(x, ("batch", "embed"), "both"), NamedArray)
assert_type(x.flatten_axes(("batch", "embed"), "both"), NamedArray)
assert_type(hax.flatten_axes(x.axes, ("batch", "embed"), "both"), tuple[Axis, ...])
hax.flatten_axes(x, 0, "both")  # error: reportCallIssue, reportArgumentType
hax.zeros("batch")  # error: reportArgumentType
hax.zeros((2, 3))  # error: reportArgumentType
Axis("embed", 2.5)  # error: reportArgumentType


# Loops and maps.
def step(carry: NamedArray, row: NamedArray) -> tuple[NamedArray, jax.Array]:
    return carry + row, row.array


def doubled(row: NamedArray) -> NamedArray:
    return row * 2


def added(carry: NamedArray, row: NamedArray) -> NamedArray:
    return carry + row


assert_type(hax.scan(step, "embed")(x["embed", 0], x), tuple[NamedArray, jax.Array])
assert_type(hax.fold(added, "embed")(x["embed", 0], x), NamedArray)
assert_type(hax.map(doubled, "embed")(x), NamedArray)
assert_type(hax.vmap(doubled, "embed")(x), NamedArray)


def counted(carry: jax.Array, row: NamedArray, *, by: int = 1) -> jax.Array:
    return carry + by * row.size


assert_type(hax.fold(counted, "embed")(jnp.zeros(()), x, by=2), jax.Array)
hax.fold(lambda carry, row: carry + row, "embed")(x["embed", 0], x).sum("batch")
hax.scan(lambda carry, row: (carry + row, carry), "embed")(x["embed", 0], x)[0].sum("batch")
assert_type(hax.vmap(hnn.relu, "embed")(x), NamedArray)
assert_type(hax.vmap(doubled, ("batch", "embed"))(x), NamedArray)
hax.map(lambda row: row.array, "embed")(x)
hax.vmap(lambda row, n: row * n, "embed", args=(True, None))(x, 2)
hax.scan(step, "embed")(x["embed", 0], x, x)  # error: reportCallIssue
hax.scan(step, "embed")("carry", x)  # error: reportArgumentType
hax.fold(added, "embed")(x["embed", 0])  # error: reportCallIssue
hax.fold(counted, "embed")(jnp.zeros(()), x, bye=2)  # error: reportCallIssue
hax.map(doubled, "embed")(x, x)  # error: reportCallIssue
hax.map(doubled, "embed")(raw)  # error: reportArgumentType
hax.vmap(doubled, "embed")("row")  # error: reportArgumentType
hax.scan(doubled, "embed")  # error: reportArgumentType
hax.vmap(doubled, 0)  # error: reportArgumentType


# Compiled functions.
@hax.named_jit
def scaled(array: NamedArray, by: float) -> NamedArray:
    return array * by


@hax.named_jit(axis_resources={"batch": "data"})
def count(array: NamedArray) -> jax.Array:
    return array.sum().array


assert_type(scaled(x, 2.0), NamedArray)
assert_type(count(x), jax.Array)
assert_type(hax.named_jit(doubled)(x), NamedArray)
scaled(x)  # error: reportCallIssue
scaled(x, by="two")  # error: reportArgumentType
count(2)  # error: reportArgumentType

# Layers.
layer = hnn.Linear.init(Embed, Mlp, key=jax.random.key(0))
assert_type(layer(x), NamedArray)
layer(raw)  # error: reportArgumentType
