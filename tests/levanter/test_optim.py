"""The optimizer is optax's AdamW, the schedule is what the config says, and only matrices decay."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import haliax as hax
from levanter.errors import UserError
from levanter.models.decay import matrices
from levanter.models.gpt2.config import Gpt2Config
from levanter.optim.adamw.config import AdamWConfig
from levanter.optim.schedule import learning_rate, warmup_steps
from levanter.runtime.state import flat_names

Embed, Mlp, Layers = hax.Axis("embed", 4), hax.Axis("mlp", 3), hax.Axis("layers", 2)


def parameters(scale: float) -> dict[str, hax.NamedArray]:
    return {
        "weight": hax.random.normal(jax.random.key(0), (Layers, Embed, Mlp)) * scale,
        "bias": hax.random.normal(jax.random.key(1), (Layers, Mlp)) * scale,
    }


def raw(tree: dict[str, hax.NamedArray]) -> dict[str, jax.Array]:
    return {name: array.array for name, array in tree.items()}


@pytest.mark.parametrize("max_grad_norm", [0.1, 1e9, None])
def test_updates_are_those_of_optax(max_grad_norm: float | None) -> None:
    config = AdamWConfig(learning_rate=0.01, weight_decay=0.3, warmup=2.0, max_grad_norm=max_grad_norm)
    ours = config.build(num_train_steps=5, decays=matrices).transform
    theirs = optax.adamw(
        learning_rate(config, 5), b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.3, mask={"weight": True, "bias": False}
    )
    if max_grad_norm is not None:
        theirs = optax.chain(optax.clip_by_global_norm(max_grad_norm), theirs)
    named, plain = parameters(1.0), raw(parameters(1.0))
    named_state, plain_state = ours.init(named), theirs.init(plain)
    for step in range(4):
        gradients = parameters(0.5 + step)
        updates, named_state = ours.update(gradients, named_state, named)
        named = optax.apply_updates(named, updates)
        updates, plain_state = theirs.update(raw(gradients), plain_state, plain)
        plain = optax.apply_updates(plain, updates)
    for name, array in named.items():
        np.testing.assert_array_equal(np.asarray(array.array), np.asarray(plain[name]))


def test_matrices_decay_and_nothing_else() -> None:
    config = Gpt2Config(seq_len=4, vocab_size=7, hidden_dim=4, num_heads=2, num_layers=2, tie_word_embeddings=False)
    model = jax.eval_shape(lambda: config.build(config.Vocab, key=jax.random.key(0)))
    decaying = {name for name, decay in flat_names(model.decays()).items() if decay}
    assert decaying == {
        "embeddings.tokens.weight",
        "embeddings.positions.weight",
        "blocks.attention.qkv.weight",
        "blocks.attention.out.weight",
        "blocks.mlp.up.weight",
        "blocks.mlp.down.weight",
        "head",
    }


def rates(steps: int, **fields: Any) -> list[float]:
    schedule = learning_rate(AdamWConfig(learning_rate=1.0, **fields), steps)
    return [float(schedule(jnp.asarray(step, jnp.int32))) for step in range(steps + 1)]


def test_the_rate_rises_from_the_first_step_on() -> None:
    assert rates(10, warmup=4.0, lr_schedule="constant") == [0.25, 0.5, 0.75, *[1.0] * 8]
    assert rates(4, warmup=0.0, lr_schedule="constant") == [1.0] * 5
    assert rates(3, warmup=1.0, lr_schedule="constant") == [1.0] * 4


def test_the_rate_falls_to_its_least() -> None:
    np.testing.assert_allclose(rates(4, warmup=0.0, lr_schedule="linear"), [1, 0.775, 0.55, 0.325, 0.1], rtol=1e-6)
    cosine = rates(4, warmup=0.0, lr_schedule="cosine", min_lr_ratio=0.5)
    np.testing.assert_allclose(cosine, [1, 0.5 + 0.5 * (2 + 2**0.5) / 4, 0.75, 0.5 + 0.5 * (2 - 2**0.5) / 4, 0.5], 1e-6)


def test_wsd_stays_and_then_falls() -> None:
    found = rates(10, warmup=2.0, lr_schedule="wsd", lr_decay=4.0, min_lr_ratio=0.0)
    np.testing.assert_allclose(found, [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0], rtol=1e-6)
    np.testing.assert_allclose(rates(10, warmup=0.0, lr_schedule="wsd", lr_decay=0.2)[7:], [1, 1, 0.55, 0.1], rtol=1e-6)


def test_the_inverse_square_root_falls_with_all_steps_done() -> None:
    found = rates(20, warmup=4.0, lr_schedule="inverse_sqrt", min_lr_ratio=0.5)
    np.testing.assert_allclose(found[:4], [0.25, 0.5, 0.75, 1.0], rtol=1e-6)
    np.testing.assert_allclose(found[4:], [max((4 / step) ** 0.5, 0.5) for step in range(4, 21)], rtol=1e-6)


def test_cosine_cycles_start_from_the_top() -> None:
    found = rates(8, warmup=0.0, lr_schedule="cosine_cycles", lr_cycles=2, min_lr_ratio=0.0)
    half = [0.5 + 0.5 * np.cos(np.pi * step / 4) for step in range(4)]
    np.testing.assert_allclose(found, [*half, *half, 0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 0), (0.01, 1), (0.5, 50), (1.0, 1), (20.0, 20), (500.0, 100)])
def test_the_warmup_is_a_fraction_or_a_number_of_steps(warmup: float, steps: int) -> None:
    assert warmup_steps(AdamWConfig(warmup=warmup), 100) == steps


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"lr_schedule": "cos"},
            "optimizer.lr_schedule is 'cos': use one of cosine, linear, constant, wsd, inverse_sqrt, cosine_cycles",
        ),
        ({"learning_rate": -1.0}, "optimizer.learning_rate is -1.0: it must be at least 0"),
        ({"beta2": 1.0}, "optimizer.beta2 is 1.0: it must be below 1"),
        ({"max_grad_norm": 0.0}, "optimizer.max_grad_norm is 0.0: it must be above 0, or null"),
        ({"min_lr_ratio": 2.0}, "optimizer.min_lr_ratio is 2.0: it must be at most 1"),
    ],
)
def test_a_bad_configuration_is_said(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        AdamWConfig(**fields)
    assert str(caught.value) == message
