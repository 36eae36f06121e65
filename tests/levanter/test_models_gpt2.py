"""The model computes what GPT-2 in plain `jax.numpy` computes, in value and in gradient."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import haliax as hax
from levanter.config import TrainConfig
from levanter.errors import UserError
from levanter.models.gpt2.config import Gpt2Config
from levanter.models.gpt2.gpt2 import Gpt2LMHeadModel
from levanter.models.loss import next_token_loss
from levanter.runtime import rng
from levanter.runtime.state import flat_names, state_shape

pytestmark = pytest.mark.hurried

TINY = Gpt2Config(
    seq_len=8, vocab_size=61, hidden_dim=12, num_heads=3, num_layers=2, vocab_multiple=16, initializer_range=0.3
)
Batch = hax.Axis("batch", 2)


def plain_gpt2() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "plain_gpt2.py"
    spec = importlib.util.spec_from_file_location("plain_gpt2", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def build(config: Gpt2Config = TINY) -> Gpt2LMHeadModel:
    hurry = {"xla_backend_optimization_level": 1}
    return jax.jit(lambda: config.build(config.Vocab, key=jax.random.key(0)), compiler_options=hurry)()


@eqx.filter_jit
def logits_of(model: Gpt2LMHeadModel, tokens: hax.NamedArray) -> hax.NamedArray:
    return model(tokens)


@eqx.filter_jit
def loss_of(model: Gpt2LMHeadModel, tokens: hax.NamedArray, targets: hax.NamedArray, key: Any = None) -> jax.Array:
    return model.loss(tokens, targets, key=key)


loss_and_gradients = eqx.filter_jit(eqx.filter_value_and_grad(loss_of))


def tokens_and_targets(config: Gpt2Config = TINY) -> tuple[hax.NamedArray, hax.NamedArray]:
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (Batch.size, config.seq_len + 1), dtype=np.int32)
    axes = (Batch, config.Pos)
    return hax.named(jnp.asarray(ids[:, :-1]), axes), hax.named(jnp.asarray(ids[:, 1:]), axes)


def close(left: Any, right: Any, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(np.asarray(left), np.asarray(right), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("gradient_checkpointing", [True, False])
def test_loss_and_gradients_are_those_of_plain_jax(gradient_checkpointing: bool) -> None:
    plain = plain_gpt2()
    model = build(dataclasses.replace(TINY, gradient_checkpointing=gradient_checkpointing))
    tokens, targets = tokens_and_targets()
    arrays = flat_names(model)
    loss, gradients = loss_and_gradients(model, tokens, targets)
    of_plain = functools.partial(plain.loss, vocab_size=TINY.vocab_size)
    expected, expected_gradients = jax.jit(jax.value_and_grad(of_plain))(
        plain.from_arrays(arrays), tokens.array, targets.array
    )
    close(loss, expected)
    found = plain.from_arrays(flat_names(gradients))
    jax.tree.map(close, found, expected_gradients)


def test_logits_have_the_axes_and_the_loss_is_theirs() -> None:
    model, (tokens, targets) = build(), tokens_and_targets()
    logits = logits_of(model, tokens)
    assert logits.axes == (Batch, TINY.Pos, TINY.Vocab)
    assert logits.dtype == jnp.float32
    expected = optax.softmax_cross_entropy_with_integer_labels(logits.array, targets.array).mean()
    close(loss_of(model, tokens, targets), expected)


def test_a_token_is_not_told_of_later_ones() -> None:
    model, (tokens, _) = build(), tokens_and_targets()
    changed = hax.named(tokens.array.at[:, 5].add(1), tokens.axes)
    before, after = logits_of(model, tokens).array, logits_of(model, changed).array
    assert np.array_equal(before[:, :5], after[:, :5])
    assert not np.array_equal(before[:, 5], after[:, 5])


def test_a_shorter_text_gives_the_same_logits() -> None:
    model, (tokens, _) = build(), tokens_and_targets()
    close(logits_of(model, tokens["position", 0:3]).array, logits_of(model, tokens).array[:, :3])


def test_no_batch_is_needed() -> None:
    model, (tokens, _) = build(), tokens_and_targets()
    close(logits_of(model, tokens["batch", 1]).array, logits_of(model, tokens).array[1])


@pytest.mark.parametrize("weights", [1.0, 30.0])
def test_the_gradient_of_the_loss_is_that_of_optax(weights: float) -> None:
    Embed, Vocab = hax.Axis("embed", 5), hax.Axis("vocab", 17)
    _, targets = tokens_and_targets(dataclasses.replace(TINY, vocab_size=17))
    x = hax.random.normal(jax.random.key(1), (*targets.axes, Embed)) * weights
    head = hax.random.normal(jax.random.key(2), (Vocab, Embed))
    scale = jnp.arange(targets.size, dtype=jnp.float32).reshape(targets.array.shape)

    def ours(x: hax.NamedArray, head: hax.NamedArray) -> jax.Array:
        return (next_token_loss(x, head, targets, Embed).array * scale).sum()

    def theirs(x: hax.NamedArray, head: hax.NamedArray) -> jax.Array:
        logits = x.array @ head.array.T
        return (optax.softmax_cross_entropy_with_integer_labels(logits, targets.array) * scale).sum()

    found = jax.jit(jax.value_and_grad(ours, argnums=(0, 1)))(x, head)
    expected = jax.jit(jax.value_and_grad(theirs, argnums=(0, 1)))(x, head)
    jax.tree.map(lambda left, right: close(left, right, 1e-4), found, expected)


def test_gpt2_small_has_its_parameters() -> None:
    config = TrainConfig(model=Gpt2Config())
    padding_rows = config.model.Vocab.size - config.model.vocab_size
    shapes = state_shape(config).model
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert padding_rows == 47
    assert count - padding_rows * 768 == 124_439_808


def test_weights_start_as_gpt2_starts() -> None:
    config = dataclasses.replace(TINY, hidden_dim=96, initializer_range=0.02)
    arrays = {name: np.asarray(array) for name, array in flat_names(build(config)).items()}
    assert np.std(arrays["blocks.mlp.up.weight"]) == pytest.approx(0.02, rel=0.05)
    assert np.std(arrays["blocks.mlp.down.weight"]) == pytest.approx(0.02 / 2, rel=0.05)
    assert np.std(arrays["blocks.attention.out.weight"]) == pytest.approx(0.02 / 2, rel=0.05)
    assert not np.array_equal(arrays["blocks.mlp.up.weight"][0], arrays["blocks.mlp.up.weight"][1])
    assert all(not array.any() for name, array in arrays.items() if name.endswith("bias"))
    assert np.array_equal(arrays["final_norm.weight"], np.ones(96))


def test_an_untied_head_is_a_matrix_of_its_own() -> None:
    model = build(dataclasses.replace(TINY, tie_word_embeddings=False))
    tokens, targets = tokens_and_targets()
    assert model.head is not None
    assert not np.array_equal(model.head.array, model.embeddings.tokens.weight.array)
    _, gradients = loss_and_gradients(model, tokens, targets)
    assert np.asarray(gradients.head.array).any()


def test_bfloat16_is_close_and_leaves_parameters_alone() -> None:
    model = build(dataclasses.replace(TINY, compute_dtype="bfloat16"))
    tokens, targets = tokens_and_targets()
    assert model.activations(tokens).dtype == jnp.bfloat16
    loss, gradients = loss_and_gradients(model, tokens, targets)
    assert loss.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradients))
    close(loss, loss_of(build(), tokens, targets), 0.05)


def test_dropout_is_of_the_key() -> None:
    model, (tokens, targets) = build(dataclasses.replace(TINY, dropout=0.5)), tokens_and_targets()
    first, again = (loss_of(model, tokens, targets, jax.random.key(1)) for _ in range(2))
    other = loss_of(model, tokens, targets, jax.random.key(2))
    assert first == again
    assert first != other
    close(loss_of(model, tokens, targets), loss_of(build(), tokens, targets))


def test_keys_are_of_their_name() -> None:
    key = rng.seed_key(0)
    draws = [
        float(jax.random.uniform(each))
        for each in (
            rng.named(key, "a"),
            rng.named(key, "b"),
            rng.step_key(0, 1, "a"),
            rng.step_key(0, 2, "a"),
            rng.step_key(1, 2, "a"),
        )
    ]
    assert len(set(draws)) == 5
    # A name's key must be the same in every process and version: the bits of a run depend on it.
    assert jax.random.key_data(rng.named(key, "dropout")).tolist() == DROPOUT_KEY


DROPOUT_KEY = [1744108528, 2104326136]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_heads", 5, "model.hidden_dim 12 does not divide into model.num_heads 5: "
         "set hidden_dim to a multiple of num_heads, for example 10 or 15"),
        ("num_layers", 0, "model.num_layers is 0: it must be at least 1"),
        ("dropout", 1.0, "model.dropout is 1.0: it must be below 1"),
        ("compute_dtype", "float8", "model.compute_dtype is 'float8': use one of float32, bfloat16, float16"),
    ],
)  # fmt: skip
def test_a_bad_configuration_is_said(field: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        dataclasses.replace(TINY, **{field: value})
    assert str(caught.value) == message
