"""The loss and its gradient by hand are those of the formula, with ignored targets, padding, z-loss and softcap."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
from haliax import Axis, NamedArray
from levanter.models.gpt2.config import Gpt2Config
from levanter.models.loss import IGNORED, LOWEST, mean_loss, next_token_loss, output_logits
from levanter.runtime.evaluate import AHEAD, eval_step, heldout_loss
from levanter.runtime.state import LmBatch

pytestmark = pytest.mark.hurried

Batch, Pos, Embed, Vocab = Axis("batch", 3), Axis("position", 5), Axis("embed", 6), Axis("vocab", 16)
TINY = Gpt2Config(seq_len=8, vocab_size=13, hidden_dim=12, num_heads=3, num_layers=1, vocab_multiple=16)


def plain(x: jax.Array, head: jax.Array, targets: jax.Array, vocab_size: int, z_loss: float, softcap: Any) -> jax.Array:
    """The formula: [batch, position] losses, 0 where the target is negative."""
    logits = jnp.einsum("bpe,ve->bpv", x, head[:vocab_size], preferred_element_type=jnp.float32)
    if softcap is not None:
        logits = softcap * jnp.tanh(logits / softcap)
    log_normalizer = jax.nn.logsumexp(logits, axis=-1)
    picked = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
    return jnp.where(targets >= 0, log_normalizer - picked + z_loss * log_normalizer**2, 0.0)


def inputs(dtype: Any, weights: float, vocab_size: int) -> tuple[NamedArray, NamedArray, NamedArray]:
    x = hax.random.normal(jax.random.key(1), (Batch, Pos, Embed)).astype(dtype) * weights
    head = hax.random.normal(jax.random.key(2), (Vocab, Embed)).astype(dtype)
    ids = np.random.default_rng(0).integers(0, vocab_size, (Batch.size, Pos.size))
    ids[0, :3] = IGNORED
    ids[1, 4] = -7
    return x, head, hax.named(jnp.asarray(ids, jnp.int32), (Batch, Pos))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("vocab_size", "z_loss", "softcap", "weights"),
    [
        (None, 0.0, None, 1.0),
        (None, 0.0, None, 30.0),
        (13, 0.0, None, 30.0),
        (None, 0.1, None, 1.0),
        (None, 0.0, 3.0, 30.0),
        (13, 0.1, None, 1.0),
        (13, 0.1, 60.0, 30.0),
        (13, 0.1, 3.0, 1.0),
    ],
)
def test_losses_and_gradients_are_those_of_the_formula(
    vocab_size: int | None, z_loss: float, softcap: float | None, weights: float, dtype: Any
) -> None:
    real = vocab_size or Vocab.size
    x, head, targets = inputs(dtype, weights, real)
    scale = hax.named(jnp.arange(1.0, targets.size + 1).reshape(targets.array.shape), targets.axes)

    def ours(x: NamedArray, head: NamedArray) -> jax.Array:
        losses = next_token_loss(x, head, targets, Embed, vocab_size=vocab_size, z_loss=z_loss, softcap=softcap)
        return hax.sum(losses * scale).scalar()

    def theirs(x: jax.Array, head: jax.Array) -> jax.Array:
        return (plain(x, head, targets.array, real, z_loss, softcap) * scale.array).sum()

    value, gradients = jax.jit(jax.value_and_grad(ours, argnums=(0, 1)))(x, head)
    # The formula itself in float32, on what bfloat16 has left of the inputs.
    expected, wanted = jax.jit(jax.value_and_grad(theirs, argnums=(0, 1)))(
        x.array.astype(jnp.float32), head.array.astype(jnp.float32)
    )
    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
    np.testing.assert_allclose(value, expected, rtol=tolerance)
    for found, right in zip(gradients, wanted, strict=True):
        assert found.dtype == dtype
        size = np.abs(right).max()
        np.testing.assert_allclose(
            np.asarray(found.array, np.float32) / size, np.asarray(right) / size, atol=tolerance, rtol=tolerance
        )
    assert not np.asarray(gradients[1].array[real:]).any()
    assert not np.asarray(gradients[0].array[0, :3]).any() and not np.asarray(gradients[0].array[1, 4]).any()


def test_padding_has_no_probability() -> None:
    x, head, _ = inputs(jnp.float32, 30.0, 13)
    scores = output_logits(x, head, Embed, vocab_size=13, softcap=5.0).array
    assert np.isfinite(scores).all() and (scores[..., 13:] == LOWEST).all()
    assert (jax.nn.softmax(scores, axis=-1)[..., 13:] == 0).all()
    assert np.abs(scores[..., :13]).max() <= 5.0


def test_the_mean_is_over_what_is_learned() -> None:
    losses = hax.named(jnp.array([1.0, 2.0, 4.0, jnp.nan]), Axis("position", 4))
    targets = hax.named(jnp.array([3, 0, IGNORED, IGNORED]), Axis("position", 4))
    assert mean_loss(losses, targets) == 1.5
    assert mean_loss(losses, hax.full_like(targets, IGNORED)) == 0.0


def test_gpt2_learns_nothing_from_negative_targets_nor_of_padding() -> None:
    model = TINY.build(TINY.Vocab, key=jax.random.key(0))
    ids = np.random.default_rng(0).integers(0, TINY.vocab_size, (2, 9), dtype=np.int32)
    axes = (Axis("batch", 2), TINY.Pos)
    tokens, targets = (hax.named(jnp.asarray(part), axes) for part in (ids[:, :-1], ids[:, 1:]))
    masked = hax.named(targets.array.at[0].set(IGNORED), axes)
    alone = model.loss(tokens["batch", 1], targets["batch", 1])
    np.testing.assert_allclose(model.loss(tokens, masked), alone, rtol=1e-6)
    loss, gradients = jax.value_and_grad(lambda model: model.loss(tokens, hax.full_like(targets, IGNORED)))(model)
    assert loss == 0 and not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradients))
    # Padding could only be told to be unlikely by taking probability from it.
    gradients = jax.grad(lambda model: model.loss(tokens, targets))(model)
    padding = np.asarray(gradients.embeddings.tokens.weight.array)[TINY.vocab_size :]
    assert padding.shape == (3, 12) and not padding.any()


def test_the_z_loss_is_for_training_only() -> None:
    config = dataclasses.replace(TINY, z_loss=0.5)
    model, without = (each.build(each.Vocab, key=jax.random.key(0)) for each in (config, TINY))
    axes = (Axis("batch", 2), TINY.Pos)
    tokens = hax.named(jnp.asarray(np.random.default_rng(0).integers(0, 13, (2, 8)), jnp.int32), axes)
    log_normalizer = jax.nn.logsumexp(model(tokens).array, axis=-1)
    extra = 0.5 * jnp.mean(log_normalizer**2)
    np.testing.assert_allclose(model.loss(tokens, tokens), without.loss(tokens, tokens) + extra, rtol=1e-5)
    assert eval_step(model, LmBatch(tokens, tokens)) == without.loss(tokens, tokens)


def test_heldout_loss_counts_targets_not_batches() -> None:
    axes = (Axis("batch", 1), Axis("position", 4))
    rows = ([1, 1, 1, 1], [5, -1, -1, -1], [-1, -1, -1, -1])
    batches = [LmBatch(hax.zeros(axes), hax.named(jnp.array([row]), axes)) for row in rows]

    def evaluate(model: Any, batch: LmBatch) -> jax.Array:
        return mean_loss(batch.targets.astype(jnp.float32), batch.targets)

    assert heldout_loss(evaluate, None, batches) == pytest.approx((4 * 1 + 5) / 5)
    assert heldout_loss(evaluate, None, batches[2:]) == 0.0


def test_few_batches_of_an_evaluation_are_in_flight() -> None:
    """XLA's threads for CPU devices come to a stop where a device has more than 32 programs to run."""
    axes = (Axis("batch", 1), Axis("position", 4))
    batches = [LmBatch(hax.zeros(axes), hax.ones(axes)) for _ in range(20)]
    running, most = set[int](), 0

    class Loss:
        def __init__(self, at: int) -> None:
            nonlocal most
            self.at = at
            running.add(at)
            most = max(most, len(running))

        def __float__(self) -> float:
            running.remove(self.at)
            return float(self.at)

    made = iter(range(20))
    assert heldout_loss(lambda model, batch: Loss(next(made)), None, batches) == pytest.approx(9.5)  # pyright: ignore
    assert not running and most == AHEAD + 1 < 8
