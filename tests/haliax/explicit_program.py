"""Run by `test_explicit_meshes.py` on 8 CPU devices: what comes out under Explicit meshes, beside one device.

The first argument says what to run: `model`, or `ops` for one operation after the other.
"""

import contextlib
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import haliax as hax
import haliax.nn as hnn
from haliax.partitioning import named_jit

B, T, E, V, H, S, M, L = hax.make_axes(batch=8, position=16, embed=16, vocab=32, heads=4, size=4, mlp=32, layers=2)
MESH = jax.make_mesh((4, 2), ("data", "model"))  # Explicit, as by default
PARAMETERS = {"embed": "data", "mlp": "model", "heads": "model", "vocab": "model"}
COMPUTE = {"batch": "data", "mlp": "model", "heads": "model", "vocab": "model"}


class Block(eqx.Module):
    q: hnn.Linear
    k: hnn.Linear
    v: hnn.Linear
    o: hnn.Linear
    mlp: hnn.MLP
    norm: hnn.LayerNorm

    @staticmethod
    def init(*, key):
        keys = jax.random.split(key, 5)
        inward = [hnn.Linear.init(E, (H, S), key=key) for key in keys[:3]]
        outward = hnn.Linear.init((H, S), E, key=keys[3])
        return Block(*inward, outward, hnn.MLP.init(E, E, M, 1, key=keys[4]), hnn.LayerNorm.init(E))

    def __call__(self, x):
        h, K = self.norm(x), T.alias("key_position")
        k, v = (layer(h).rename({"position": "key_position"}) for layer in (self.k, self.v))
        mask = hnn.attention.causal_mask(T, K)
        x = x + self.o(hnn.attention.dot_product_attention(K, S, self.q(h), k, v, mask=mask))
        return hax.auto_sharded(x + self.mlp(x))


class Model(eqx.Module):
    embedding: hnn.Embedding
    blocks: hnn.Stacked
    head: hnn.Linear

    @staticmethod
    def init(key):
        first, second, third = jax.random.split(key, 3)
        blocks = hnn.Stacked.init(L, Block)(key=jax.random.split(second, L.size))
        return Model(hnn.Embedding.init(V, E, key=first), blocks, hnn.Linear.init(E, V, key=third))

    def loss(self, ids):
        logits = self.head(self.blocks.fold(self.embedding(ids)))
        targets, last = hnn.one_hot(hax.roll(ids, -1, T), V), hnn.one_hot(-1, T, dtype=bool)
        return hnn.cross_entropy_loss(logits, V, targets, where=(~last).broadcast_axis(B)).scalar()


def compare(name, result, expected):
    for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-3, atol=1e-5, err_msg=name)
    print("same:", name, flush=True)


def spec(array):
    return jax.typeof(array.array).sharding.spec


def run_model():
    step = jax.value_and_grad(Model.loss)
    model = Model.init(jax.random.PRNGKey(0))
    ids = hax.random.randint(jax.random.PRNGKey(1), (B, T), 0, V.size)
    expected = jax.jit(step)(model, ids)
    with hax.set_mesh(MESH):
        at_rest = {"in_axis_resources": PARAMETERS, "out_axis_resources": PARAMETERS}
        made = named_jit(Model.init, axis_resources=COMPUTE, out_axis_resources=PARAMETERS)(jax.random.PRNGKey(0))
        compare("init", made, model)
        result = named_jit(step, axis_resources=COMPUTE, **at_rest)(made, ids)
        compare("FSDP and TP", result, expected)
        assert spec(result[1].head.weight) == spec(made.head.weight) == jax.P("model", "data")
        sharded = hax.shard(ids, COMPUTE)
        compare("without axis mapping", jax.jit(step)(made, sharded), expected)
        compare("data parallel, without axis mapping", jax.jit(step)(model, sharded), expected)


X_AXES = hax.make_axes(a=8, b=16)
C = hax.Axis("c", 4)
INDEX = hax.named(jnp.array([1, 2]), "i")


def operations(x, y, v, ids):
    """Operations that JAX cannot derive a sharding of, for some of the layouts below."""
    A, Bee = X_AXES
    d = y.rename({"a": "d"})
    yield "add", lambda: x + y
    yield "where", lambda: hax.where(x > 0, x, y)
    yield "clip", lambda: hax.clip(x, v * 0 - 1, v * 0 + 1)
    yield "dot", lambda: hax.dot(x, d, axis="b")
    yield "outer", lambda: hax.dot(v, v.rename({"b": "d"}), axis=())
    yield "take", lambda: hax.take(x, "b", ids)
    yield "element", lambda: x["a", 0, "b", 3]
    yield "slice", lambda: x["b", 1:4, "a", hax.ds(1, 3)]
    yield "gather", lambda: x["a", INDEX, "b", INDEX]
    yield "set", lambda: x.at["a", 0].set(1.0)
    yield "scatter", lambda: x.at["b", INDEX].add(2.0)
    yield "update", lambda: x.updated_slice({"b": 2}, hax.ones({"a": 8, "b": 3}))
    yield "sort", lambda: hax.sort(x, "b")
    yield "cumsum", lambda: hax.cumsum(x, "a")
    yield "top_k", lambda: hax.top_k(x, "b", 3)
    yield "reductions", lambda: (x.argmax("b"), hax.mean(x, "a", where=y > 0), x.max())
    yield "trace", lambda: hax.trace(x, "a", "b")
    yield "flatten", lambda: x.flatten_axes(("b", "a"), "t")
    yield "unflatten", lambda: x.unflatten_axis("a", {"p": 2, "c": 4})
    yield "rearrange", lambda: hax.rearrange(x, "a (b: p q) -> p (r: a q)", p=2)
    yield "unbind", lambda: x.unbind("a")[1]
    yield "split", lambda: x.split("b", hax.make_axes(p=6, q=10))
    yield "concatenate", lambda: hax.concatenate("b", [x, y, hax.ones((A, C.alias("b")))])
    yield "stack", lambda: hax.stack("s", [x, y])
    yield "pad", lambda: hax.pad(x, {"a": (1, 2)})
    yield "roll", lambda: hax.roll(x, 1, "a")
    yield "repeat", lambda: (hax.repeat(x, 2, "b"), hax.tile(x, {"a": 2}))
    yield "tril", lambda: hax.tril(x, "a", "b")
    yield "softmax", lambda: (hnn.softmax(x, "a"), hnn.logsumexp(x, "b"), hnn.standardize(x, "b"))
    yield "loss", lambda: hnn.cross_entropy_loss(x, "b", ids)
    yield "norm", lambda: hnn.RmsNorm.init(Bee)(x)
    yield "embedding", lambda: hnn.Embedding.init(Bee, C, key=jax.random.key(0))(ids)
    yield "polyval", lambda: hax.polyval(v, x)
    yield "searchsorted", lambda: hax.searchsorted(hax.sort(v, "b"), x)
    yield "categorical", lambda: hax.random.categorical(jax.random.key(0), x, "a")
    yield "uniform", lambda: hax.random.uniform(jax.random.key(0), (A, Bee), minval=v, maxval=v + 1)
    yield "scan", lambda: hax.scan(lambda carry, row: (carry + row, carry * row), "a")(hax.zeros(Bee), x)
    yield "vmap", lambda: hax.vmap(lambda row: hax.sort(row, "b"), "a")(x)
    yield "arange", lambda: hax.arange(X_AXES) + 0 * y
    yield "grad", lambda: jax.grad(lambda x: (hax.take(hax.sort(x * y, "a"), "b", ids) ** 2).sum().scalar())(x)


LAYOUTS = [
    ([{"a": "data", "b": "model"}, {"b": "data"}, {"b": "data"}, {"a": "data"}], None),
    ([{"a": "data", "b": "model"}, {"b": ("data", "model")}, {"b": "model"}, {"a": "model"}], {"a": "data"}),
]


def run_operations():
    keys = jax.random.split(jax.random.key(0), 4)
    A, Bee = X_AXES
    inputs = [hax.random.normal(keys[0], (A, Bee)), hax.random.normal(keys[1], (Bee, A))]
    inputs += [hax.random.normal(keys[2], Bee), hax.random.randint(keys[3], A, 0, Bee.size)]

    def everything(*inputs):
        return {name: operation() for name, operation in operations(*inputs)}

    expected = jax.jit(everything)(*inputs)
    for layouts, mapping in LAYOUTS:
        with hax.set_mesh(MESH), hax.axis_mapping(mapping) if mapping else contextlib.nullcontext():
            placed = [hax.shard(x, layout) for x, layout in zip(inputs, layouts, strict=True)]
            result = jax.jit(everything)(*placed)
            for name, value in expected.items():
                compare(f"{name} {mapping}", result[name], value)
            eager = hax.dot(placed[0], placed[1].rename({"a": "d"}), axis="b")
            compare(f"eager {mapping}", eager, expected["dot"])
            if mapping:
                assert spec(result["dot"]) == jax.P("data", None) and spec(hax.zeros(X_AXES)) == jax.P("data", None)


if __name__ == "__main__":
    {"model": run_model, "ops": run_operations}[sys.argv[1]]()
