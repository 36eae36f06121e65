"""The literal text of every axis error, and that the user's own line is attached."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typeguard

import haliax as hax
import haliax.nn as hnn

Batch, Embed, Pos = hax.make_axes(batch=4, embed=8, position=128)
x = hax.zeros((Batch, Embed))
y = hax.zeros((Batch, Pos))

CASES = {
    "absent": (lambda: x.sum("embd"), "axis `embd` is not in f32[batch=4, embed=8]; did you mean `embed`?"),
    "absent, nothing near": (lambda: x.sum("vocab"), "axis `vocab` is not in f32[batch=4, embed=8]"),
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
        "axis `embed` was asked for with size 9, but it has another size in f32[batch=4, embed=8]: "
        "give the name alone, or resize the axis",
    ),
    "two sizes": (
        lambda: y + hax.zeros(Pos.resize(64)),
        "axis `position` has two sizes: 128 in f32[batch=4, position=128] and 64 in f32[position=64]: "
        "slice or rename one of them",
    ),
    "two sizes in dot": (
        lambda: hax.dot(y, hax.zeros((Pos.resize(64), Embed)), axis="position"),
        "axis `position` has two sizes: 128 in f32[batch=4, position=128] and 64 in f32[position=64, embed=8]: "
        "slice or rename one of them",
    ),
    "not broadcastable": (
        lambda: x * y,
        "cannot broadcast f32[batch=4, embed=8] and f32[batch=4, position=128]: none has all axes of the others; "
        "say which you want with `broadcast_axis` or `broadcast_to`, or rename an axis",
    ),
    "unnamed": (
        lambda: x + np.zeros((3, 4, 8), np.float32),
        "cannot broadcast f32[batch=4, embed=8] with the unnamed f32[_=3, _=4, _=8]: name its axes with `haliax.named`",
    ),
    "twice": (
        lambda: hax.zeros((Embed, Embed)),
        "axis `embed` is there twice in [embed=8, embed=8]: rename one of them",
    ),
    "twice after a rename": (
        lambda: x.rename({"batch": "embed"}),
        "axis `embed` is there twice in [embed=4, embed=8]: rename one of them",
    ),
    "shape": (
        lambda: hax.NamedArray(jnp.ones((8, 4)), (Batch, Embed)),
        "an array of shape (8, 4) cannot have the axes [batch=4, embed=8]: the same sizes in another order",
    ),
    "rank": (
        lambda: hax.named(jnp.ones((8, 4)), "batch"),
        "f32[_=8, _=4] has 2 dimensions, but 1 names: batch",
    ),
    "a size is needed": (
        lambda: hax.zeros("batch"),
        "a size is needed here, and `batch` has none: give Axis('batch', size)",
    ),
    "beyond the target": (
        lambda: x.broadcast_to((Batch, Pos)),
        "f32[batch=4, embed=8] cannot become [batch=4, position=128], which lacks `embed`",
    ),
    "unflatten": (
        lambda: x.unflatten_axis("embed", hax.make_axes(a=3, b=2)),
        "axis `embed` of size 8 cannot be unflattened to [a=3, b=2]: wrong product",
    ),
    "split": (
        lambda: x.split("embed", hax.make_axes(a=3, b=2)),
        "the parts of axis `embed` have 5 elements together, but it has 8",
    ),
    "stack": (
        lambda: hax.stack("new", [x, y]),
        "stack needs the same axes everywhere, not f32[batch=4, embed=8] and f32[batch=4, position=128]",
    ),
    "not a scalar": (lambda: x.scalar(), "f32[batch=4, embed=8] is not a scalar: reduce its axes first"),
    "matmul": (
        lambda: x @ y,
        "@ does not say which axis of f32[batch=4, embed=8] and f32[batch=4, position=128] to sum over: "
        "write haliax.dot(a, b, axis=...)",
    ),
    "axis of an unnamed array": (
        lambda: hax.sum(jnp.ones(3), axis="batch"),
        "sum was given an axis by name, but f32[_=3] has none: use `haliax.named` first",
    ),
    "index out of range": (
        lambda: x["batch", 4],
        "index 4 is out of range for axis `batch` of f32[batch=4, embed=8]",
    ),
    "slice out of range": (
        lambda: x.slice("batch", start=3, length=2),
        "the slice from 3 of length 2 is out of range for axis `batch` of f32[batch=4, embed=8]",
    ),
    "no names in an index": (
        lambda: x[0],
        'cannot index with 0: use names, x["batch", 0] or x[{"batch": 0}], with integers, slices or integer arrays',
    ),
    "vmap over an absent axis": (
        lambda: hax.vmap(lambda x: x, "bath")(x),
        "vmap over `bath`, which no argument has: it was given f32[batch=4, embed=8]; did you mean `batch`?",
    ),
    "scan over an absent axis": (
        lambda: hax.fold(lambda c, x: c, hax.Axis("layers", 3))(0.0, x),
        "scan over `layers`, which no argument has: it was given f32[batch=4, embed=8]",
    ),
    "leading dimension": (
        lambda: hax.vmap(lambda x: x, Batch)(jnp.ones((5, 2))),
        "vmap over `batch` of size 4 maps the first dimension of an unnamed array, but f32[_=5, _=2] has another "
        "size there: name its axes, or exclude it (is_scanned, default, args)",
    ),
    "the same axis in and out": (
        lambda: hnn.Linear.init(Embed, Embed, key=jax.random.key(0)),
        "Linear has `embed` both in In and Out, and one array cannot have it twice: "
        'give Out another name, Axis.alias("embed_out"), and rename the result',
    ),
    "dropout without a key": (
        lambda: hnn.Dropout(0.5)(x),
        "dropout needs a random key: pass key=..., or inference=True to drop nothing",
    ),
    "targets": (
        lambda: hnn.cross_entropy_loss(x, Embed, hax.zeros(Batch)),
        "the targets f32[batch=4] of logits f32[batch=4, embed=8] lack the axis `embed`, so they must be integers: "
        "give classes as integers, or probabilities with the axis `embed`",
    ),
    "attention over an axis of the query": (
        lambda: hnn.attention.dot_product_attention(Pos, Batch, y, y, y),
        "attention over `position`, which both the query f32[batch=4, position=128] and the key "
        'f32[batch=4, position=128] have: rename it in the keys and values, rename({"position": "key_position"}), '
        "and attend over that",
    ),
    "no mesh": (
        lambda: hax.partitioning.physical_axis_size("batch", {"batch": "data"}),
        "physical_axis_size needs a mesh: call it within `haliax.partitioning.set_mesh(mesh)`",
    ),
    "checkpoint policy": (
        lambda: hax.ScanCheckpointPolicy.from_bool_or_str("ofload"),
        "there is no checkpoint policy `ofload`: give True, False, a ScanCheckpointPolicy or one of "
        "offload, recompute, full, save_all, nested; did you mean `offload`?",
    ),
    "layer": (
        lambda: hnn.Stacked.init(Batch, Layer)(key=jax.random.key(0)).get_layer(4),
        "there is no layer 4: `batch` has 4 layers",
    ),
    "random parameters": (
        lambda: hax.random.gamma(jax.random.key(0), Batch),
        "random.gamma takes key, shape, a, dtype",
    ),
}


class Layer(eqx.Module):
    weight: hax.NamedArray

    @staticmethod
    def init(*, key):
        return Layer(hax.random.normal(key, Embed))


@pytest.mark.parametrize("name", CASES)
def test_text(name):
    call, text = CASES[name]
    errors = (hax.AxisError, hax.NamedTypeError, IndexError, ValueError)
    with typeguard.suppress_type_checks(), pytest.raises(errors) as caught:
        call()
    assert str(caught.value) == text


def test_the_users_line_is_attached():
    with pytest.raises(hax.AxisError) as caught:
        x.sum("embd")  # here
    (note,) = caught.value.__notes__
    assert note.startswith("test_errors.py:") and note.endswith('x.sum("embd")  # here')
