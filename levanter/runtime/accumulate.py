"""The loss and its gradient over a batch, by micro-batches one after another: the same update in less memory.

Every target counts the same, wherever it stands: the loss of a micro-batch, which is a mean over its targets, has the
weight of their number. Micro-batch i is the rows i, i + n, i + 2n, … of the batch: where the batch is sharded, each
device has its part of every micro-batch, and nothing is moved.

An elastic run (`trainer.deterministic: elastic`) has the batch in virtual shards, each of which is computed by itself,
and adds up what they give in one order, whichever device has which: see `haliax.core.in_order`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

import haliax as hax
from haliax import Axis, NamedArray
from haliax.core.in_order import sum_of_each

if TYPE_CHECKING:
    from levanter.runtime.state import LmBatch

Loss = Callable[[Any, "LmBatch", jax.Array | None], jax.Array]
"""From parameters, a (micro-)batch and a key for dropout to the mean loss over its targets."""


def loss_and_gradients(
    loss_of: Loss,
    parameters: Any,
    batch: LmBatch,
    key: jax.Array | None,
    microbatches: int,
    dtype: str | None = None,
) -> tuple[jax.Array, Any]:
    """The mean loss over the targets of a batch, a float32 scalar, and its gradients.

    Args:
        key: for dropout; each micro-batch drops by a key of its own.
        microbatches: how many there are; they share out the axis `batch`.
        dtype: of the gradients, of those that have more digits; None is that of the parameters.
    """
    if microbatches == 1:
        loss, gradients = jax.value_and_grad(loss_of)(parameters, batch, key)
        return loss, _in_dtype(gradients, dtype)
    total = jnp.maximum(_targets(batch), 1.0)
    return _share(loss_of, parameters, batch, key, microbatches, total, dtype)


def sharded_loss_and_gradients(
    loss_of: Loss,
    parameters: Any,
    batch: LmBatch,
    key: jax.Array | None,
    microbatches: int,
    dtype: str | None = None,
) -> tuple[jax.Array, Any]:
    """The same for a batch of virtual shards [virtual_shard, batch, position], in one order on any number of devices.

    Args:
        key: for dropout; each virtual shard drops by a key of its own.
        microbatches: how many there are in each virtual shard.
        dtype: of the gradients once they are summed, as in `loss_and_gradients`.
    """
    total = jnp.maximum(_targets(batch), 1.0)

    def of_shard(shard: LmBatch, at: jax.Array) -> tuple[jax.Array, Any]:
        own_key = None if key is None else jax.random.fold_in(key, at)
        return _share(loss_of, parameters, shard, own_key, microbatches, total)

    loss, gradients = sum_of_shards(of_shard, batch)
    return loss, _in_dtype(gradients, dtype)


def _share(
    loss_of: Loss,
    parameters: Any,
    batch: LmBatch,
    key: jax.Array | None,
    microbatches: int,
    total: jax.Array,
    dtype: str | None = None,
) -> tuple[jax.Array, Any]:
    """What a part of a batch adds to the mean loss over `total` targets, and to its gradients.

    The loss has its weight before it is differentiated: the gradients, which are many, need not be multiplied.

    Args:
        dtype: that micro-batches are summed in, as in `loss_and_gradients`.
    """
    if microbatches == 1:
        weight = _targets(batch) / total
        return jax.value_and_grad(lambda given: weight * loss_of(given, batch, key))(parameters)
    Micro = Axis("microbatch", microbatches)
    split = jax.tree.map(lambda each: _split(each, Micro), batch, is_leaf=_is_named)

    def step(carry: tuple[jax.Array, Any], micro: LmBatch, at: Any) -> tuple[jax.Array, Any]:
        mean, sums = carry
        own_key = None if key is None else jax.random.fold_in(key, at.scalar())
        loss, gradients = _share(loss_of, parameters, micro, own_key, 1, total)
        return mean + loss, jax.tree.map(lambda total, each: total + each.astype(total.dtype), sums, gradients)

    zeros = jax.tree.map(lambda each: jnp.zeros_like(each, _shorter(each.dtype, dtype)), parameters)
    return hax.fold(step, Micro)((jnp.zeros((), jnp.float32), zeros), split, hax.arange(Micro))


def sharded_loss(loss_of: Callable[[Any], jax.Array], batch: LmBatch) -> jax.Array:
    """The mean loss over the targets of a batch of virtual shards, a float32 scalar."""

    def of_shard(shard: LmBatch, at: jax.Array) -> tuple[jax.Array, jax.Array]:
        count = _targets(shard)
        return count, count * loss_of(shard)

    count, loss = sum_of_shards(of_shard, batch)
    return loss / jnp.maximum(count, 1.0)


def sum_of_shards(function: Callable[[Any, jax.Array], Any], batch: LmBatch) -> Any:
    """The sum, in order, of what a function gives for each virtual shard and its number: a pytree of arrays."""
    parts, structure = jax.tree.flatten(batch, is_leaf=_is_named)
    Shard = parts[0].axes[0]

    def of_slice(arrays: list[jax.Array], at: jax.Array) -> Any:
        named = [NamedArray(array, part.axes[1:]) for array, part in zip(arrays, parts, strict=True)]
        return function(jax.tree.unflatten(structure, named), at)

    return sum_of_each(of_slice, [part.array for part in parts], jnp.arange(Shard.size))


def first_shard(batch: LmBatch) -> LmBatch:
    """The first virtual shard of a batch."""
    return jax.tree.map(lambda part: part[part.axes[0].name, 0], batch, is_leaf=_is_named)


def first_microbatch(batch: LmBatch, microbatches: int) -> LmBatch:
    """A part of the batch that has the size of a micro-batch: the first one."""
    if microbatches == 1:
        return batch
    Micro = Axis("microbatch", microbatches)
    return jax.tree.map(lambda each: _split(each, Micro)[Micro.name, 0], batch, is_leaf=_is_named)


def _in_dtype(gradients: Any, dtype: str | None) -> Any:
    return jax.tree.map(lambda each: each.astype(_shorter(each.dtype, dtype)), gradients)


def _shorter(own: Any, dtype: str | None) -> Any:
    """The dtype of a gradient whose parameter has its `own`: the other one where that has fewer digits."""
    return dtype if dtype is not None and own == jnp.float32 else own


def _split(array: NamedArray, Micro: Axis) -> NamedArray:
    """[batch, …] → [batch, microbatch, …]"""
    Batch = array.resolve_axis("batch")
    return array.unflatten_axis(Batch, (Batch.resize(Batch.size // Micro.size), Micro))


def _targets(batch: LmBatch) -> jax.Array:
    """How many targets count, as a float32 scalar. Whole numbers are added, which gives the same in any order."""
    return hax.sum((batch.targets >= 0).astype(jnp.int32)).scalar().astype(jnp.float32)


def _is_named(leaf: Any) -> bool:
    return isinstance(leaf, NamedArray)
