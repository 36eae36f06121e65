"""What the families share, each against its formula in numpy."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import run_of

import haliax as hax
import haliax.nn as hnn
from haliax import Axis
from levanter.errors import UserError
from levanter.models.check import build
from levanter.models.gpt2.config import Gpt2Config
from levanter.models.llama.config import LlamaConfig
from levanter.models.mixtral.config import MixtralConfig
from levanter.models.parts.experts import Experts, ExpertsShape, highest, router_losses, stretch_of
from levanter.models.parts.norm import offset_rms_norm
from levanter.models.parts.places import Places
from levanter.models.parts.rope_config import RopeConfig
from levanter.models.parts.rotary import Rotation
from levanter.models.vit.config import VitConfig

pytestmark = pytest.mark.hurried

GPT2 = Gpt2Config(seq_len=32, vocab_size=61, hidden_dim=32, num_heads=4, num_layers=2, initializer_range=0.1)
HeadSize, Pos, Batch, Embed = hax.make_axes(head_size=8, position=12, batch=2, embed=16)


def normal(*axes: Axis, seed: int = 0) -> hax.NamedArray:
    return hax.random.normal(jax.random.key(seed), axes)


# --- rotary positions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_a_pair_is_turned_as_a_complex_number(fraction: float) -> None:
    x = normal(Batch, Pos, HeadSize)
    turned = Rotation.of(RopeConfig(theta=100.0, fraction=fraction), hax.arange(Pos), HeadSize, 12)(x)
    half = int(8 * fraction) // 2
    angles = np.arange(12)[:, None] * 100.0 ** (-np.arange(half) / half)
    raw = np.asarray(x.array, np.complex128)
    expected = (raw[..., :half] + 1j * raw[..., half : 2 * half]) * np.exp(1j * angles)
    np.testing.assert_allclose(turned.array[..., :half], expected.real, atol=1e-5)
    np.testing.assert_allclose(turned.array[..., half : 2 * half], expected.imag, atol=1e-5)
    assert np.array_equal(turned.array[..., 2 * half :], x.array[..., 2 * half :])


def test_scores_depend_on_the_distance_alone() -> None:
    q, k = normal(HeadSize), normal(HeadSize, seed=1)
    rotation = Rotation.of(RopeConfig(), hax.arange(Pos), HeadSize, 12)
    turned = [rotation(each.broadcast_axis(Pos)) for each in (q, k)]
    scores = np.asarray(jnp.einsum("ph,rh->pr", turned[0].array, turned[1].array))
    for distance in range(-5, 6):
        along = np.diagonal(scores, distance)
        np.testing.assert_allclose(along, along[0], atol=1e-4)


def angles_of(rope: RopeConfig, longest: int = 16, length: int = 12) -> np.ndarray:
    """Radians at position 1."""
    rotation = Rotation.of(rope, hax.arange(Axis("position", length)), HeadSize, longest)
    return np.arctan2(rotation.sin.array[1], rotation.cos.array[1])


def test_linear_scaling_divides_all_frequencies() -> None:
    np.testing.assert_allclose(
        angles_of(RopeConfig(scaling="linear", factor=4.0)), angles_of(RopeConfig()) / 4, rtol=1e-5
    )


def test_scaling_by_turns_keeps_the_fast_and_divides_the_slow() -> None:
    plain = angles_of(RopeConfig())
    scaled = angles_of(RopeConfig(scaling="llama3", factor=8.0, original_positions=64))
    np.testing.assert_allclose(scaled[0], plain[0], rtol=1e-6)
    np.testing.assert_allclose(scaled[-1], plain[-1] / 8, rtol=1e-5)
    assert (plain / 8 - 1e-7 <= scaled).all() and (scaled <= plain + 1e-7).all()


def test_factors_change_with_the_length_of_the_text() -> None:
    rope = RopeConfig(
        scaling="longrope", original_positions=16, short_factors=[1.0] * 4, long_factors=[2.0, 3.0, 4.0, 5.0]
    )
    plain = angles_of(RopeConfig())
    np.testing.assert_allclose(angles_of(rope, length=16), plain, rtol=1e-6)
    np.testing.assert_allclose(angles_of(rope, length=17), plain / np.array([2.0, 3.0, 4.0, 5.0]), rtol=1e-5)


def test_what_a_scaling_lacks_is_said() -> None:
    with pytest.raises(UserError) as caught:
        RopeConfig(scaling="longrope")
    assert str(caught.value) == (
        "model.rope.scaling is longrope, which needs a divisor for each frequency: "
        "set model.rope.short_factors and model.rope.long_factors"
    )


# --- places ---------------------------------------------------------------------------------------------------------


def test_positions_count_from_the_first_token_of_each_text() -> None:
    segments = hax.named(jnp.asarray([[0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 2], [5] * 12], jnp.int32), (Batch, Pos))
    places = Places.of(segments, segments)
    expected = [[0, 1, 2, 0, 1, 0, 1, 2, 3, 4, 5, 6], list(range(12))]
    assert places.positions.rearrange((Batch, Pos)).array.tolist() == expected


@pytest.mark.parametrize(
    "family", ["gemma2", *(pytest.param(each, marks=pytest.mark.slow) for each in ("llama", "mixtral"))]
)
def test_texts_beside_each_other_are_read_as_if_alone(family: str) -> None:
    config = run_of(family, rope={"scaling": "default"}).model
    model = jax.jit(lambda: build(config, jax.random.key(0)))()
    tokens = hax.named(jnp.arange(12, dtype=jnp.int32) * 5 % 61, (Pos,))
    segments = hax.named(jnp.asarray([0] * 5 + [1] * 7, jnp.int32), (Pos,))
    run = jax.jit(lambda model, tokens, segments=None: model.activations(tokens, segments=segments))
    together = run(model, tokens, segments)
    np.testing.assert_allclose(together.array[:5], run(model, tokens["position", 0:5]).array, atol=2e-5)
    np.testing.assert_allclose(together.array[5:], run(model, tokens["position", 5:12]).array, atol=2e-5)


@pytest.mark.parametrize(
    "family",
    ["gpt2", "gemma3", *(pytest.param(each, marks=pytest.mark.slow) for each in ("llama", "mixtral", "qwen2", "phi3"))],
)
def test_text_after_text_is_read_as_all_at_once(family: str) -> None:
    """With a start of its own for each row, and with what padding left in the cache behind it."""
    config = GPT2 if family == "gpt2" else run_of(family).model
    model = jax.jit(lambda: build(config, jax.random.key(0)))()
    ids = np.random.default_rng(0).integers(0, 61, (2, 12)).astype(np.int32)
    tokens = hax.named(ids, (Batch, Pos))
    whole = jax.jit(lambda model, tokens: model.activations(tokens))(model, tokens)
    cache = model.cache((Batch,), 16)
    extend = jax.jit(lambda model, tokens, cache, start: model.extend(tokens, cache, start))
    _, cache = extend(model, tokens["position", 0:8], cache, 0)
    starts = hax.named(jnp.asarray([8, 5], jnp.int32), (Batch,))
    rest = np.stack([ids[0, 8:12], ids[1, 5:9]])
    read, _ = extend(model, hax.named(rest, (Batch, Axis("position", 4))), cache, starts)
    found = read.rearrange((Batch, "position", "embed")).array
    np.testing.assert_allclose(found[0], whole.array[0, 8:12], atol=2e-5)
    np.testing.assert_allclose(found[1], whole.array[1, 5:9], atol=2e-5)


# --- norms and experts ----------------------------------------------------------------------------------------------


def test_the_norm_of_gemma_scales_by_one_more_than_its_weight() -> None:
    x, weight = normal(Batch, Embed), normal(Embed, seed=1)
    norm = dataclasses.replace(offset_rms_norm(Embed, 1e-6), weight=weight)
    raw = np.asarray(x.array, np.float64)
    expected = raw / np.sqrt((raw**2).mean(-1, keepdims=True) + 1e-6) * (1 + np.asarray(weight.array))
    np.testing.assert_allclose(norm(x).array, expected, rtol=1e-5)
    assert norm(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def experts(capacity_factor: float | None) -> Experts:
    shape = ExpertsShape(Axis("experts", 4), Embed, Axis("mlp", 24), 2, capacity_factor)
    return Experts.init(shape, scale=0.3, out_scale=0.3, key=jax.random.key(3))


def plainly(layer: Experts, x: np.ndarray) -> np.ndarray:
    """Every token through its experts, one after another."""
    router, gate, up, down = (
        np.asarray(each.weight.array, np.float64) for each in (layer.router, layer.gate, layer.up, layer.down)
    )
    result = np.zeros_like(x)
    for place in np.ndindex(x.shape[:-1]):
        logits = x[place] @ router
        chances = np.exp(logits - logits.max())
        chosen = np.argsort(-chances)[:2]
        for expert in chosen:
            gated = x[place] @ gate[expert]
            hidden = gated / (1 + np.exp(-gated)) * (x[place] @ up[expert])
            result[place] += chances[expert] / chances[chosen].sum() * (hidden @ down[expert])
    return result


@pytest.mark.parametrize("capacity_factor", [None, 2.0], ids=["grouped", "slots"])
def test_a_token_goes_through_the_experts_that_it_chose(capacity_factor: float | None) -> None:
    """A capacity of twice what is needed on average has room for every token of four experts."""
    layer, x = experts(capacity_factor), normal(Batch, Pos, Embed)
    mixed, _ = jax.jit(lambda layer, x: layer(x))(layer, x)
    assert mixed.axes == x.axes
    np.testing.assert_allclose(mixed.array, plainly(layer, np.asarray(x.array, np.float64)), atol=1e-4)


def test_both_ways_have_the_same_gradient() -> None:
    x = normal(Batch, Pos, Embed)
    grad = jax.jit(jax.grad(lambda layer: hax.sum(hax.square(layer(x)[0])).scalar()))
    grouped, slots = (jax.tree.leaves(grad(experts(factor))) for factor in (None, 2.0))
    for one, other in zip(grouped, slots, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_a_token_without_a_slot_goes_without_the_expert() -> None:
    """With one slot an expert and stretch, the first token that chose it has it, and later ones get nothing."""
    layer = experts(1e-6)
    x = hax.named(jnp.ones((12, 16)), (Pos, Embed))
    mixed, _ = layer(x)
    full, _ = experts(None)(x)
    np.testing.assert_allclose(mixed.array[0], full.array[0], atol=1e-4)
    assert np.abs(mixed.array[1:]).max() == 0


@pytest.mark.parametrize(("length", "stretch"), [(1, 1), (48, 48), (256, 256), (1024, 256), (300, 150), (509, 509)])
def test_a_text_is_cut_into_stretches(length: int, stretch: int) -> None:
    assert stretch_of(length) == stretch


def test_the_highest_are_those_of_a_sort() -> None:
    scores = normal(Batch, Pos, Embed)
    values, places = highest(scores, Embed, Axis("choice", 3))
    expected, at = jax.lax.top_k(scores.array, 3)
    assert np.array_equal(values.rearrange((Batch, Pos, "choice")).array, expected)
    assert np.array_equal(places.rearrange((Batch, Pos, "choice")).array, at)


def test_the_losses_of_a_router_are_those_of_the_papers() -> None:
    Expert = Axis("experts", 4)
    logits = normal(Batch, Pos, Expert) * 3
    probabilities = hnn.softmax(logits, Expert)
    _, chosen = highest(probabilities, Expert, Axis("choice", 2))
    found = router_losses(logits, probabilities, chosen, Expert)
    raw = np.asarray(logits.array, np.float64).reshape(-1, 4)
    chances = np.exp(raw) / np.exp(raw).sum(-1, keepdims=True)
    share = np.zeros(4)
    np.add.at(share, np.argsort(-raw, -1)[:, :2].reshape(-1), 1 / len(raw))
    np.testing.assert_allclose(found["load_balance"].scalar(), 4 * (share * chances.mean(0)).sum(), rtol=1e-5)
    np.testing.assert_allclose(found["router_z"].scalar(), (np.log(np.exp(raw).sum(-1)) ** 2).mean(), rtol=1e-5)


def test_the_losses_of_the_router_are_part_of_the_loss() -> None:
    tokens = hax.named(jnp.arange(12, dtype=jnp.int32) * 5 % 61, (Pos,))

    def loss(**weights: float) -> float:
        model = build(run_of("mixtral", **weights).model, jax.random.key(0))
        return float(jax.jit(lambda model: model.loss(tokens, tokens))(model))

    plain = loss(load_balance=0.0, router_z=0.0)
    balance, both = loss(load_balance=1.0, router_z=0.0), loss(load_balance=2.0, router_z=1.0)
    assert balance > plain + 1
    assert both > plain + 2 * (balance - plain)


# --- what does not fit ----------------------------------------------------------------------------------------------


def test_sizes_that_do_not_fit_are_refused() -> None:
    for make, message in (
        (
            lambda: LlamaConfig(num_heads=8, num_kv_heads=3),
            "model.num_heads 8 does not divide into model.num_kv_heads 3: "
            "set num_kv_heads to a divisor of num_heads, for example 2",
        ),
        (
            lambda: MixtralConfig(num_experts=2, experts_per_token=3),
            "model.experts_per_token 3 is more than model.num_experts 2: set experts_per_token to 2 or less",
        ),
        (
            lambda: VitConfig(image_size=30, patch_size=8),
            "model.image_size 30 does not divide into patches of model.patch_size 8: "
            "set image_size to a multiple of patch_size, for example 24 or 32",
        ),
    ):
        with pytest.raises(UserError) as caught:
            make()
        assert str(caught.value) == message
