"""What an own model that does not keep the contract is told: the line that fails, the lines to write."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.config import TrainConfig
from levanter.errors import UserError
from levanter.models import LmModel, ModelConfig
from levanter.runtime.state import state_shape


class Good(LmModel):
    weight: NamedArray
    Pos: Axis = eqx.field(static=True)
    Vocab: Axis = eqx.field(static=True)

    @property
    def drops_out(self) -> bool:
        return False

    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        return hnn.one_hot(tokens, self.Vocab) * self.weight

    def logits(self, activations: NamedArray) -> NamedArray:
        return activations

    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> jax.Array:
        return hax.mean(self.activations(tokens)).scalar()


class Fails(Good):
    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        raise ValueError("not today")


class Mixes(Good):
    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> jax.Array:
        return hax.sum(self.activations(tokens) + hax.zeros(Axis("vocab", 3))).scalar()


class OneText(Good):
    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        ids = tokens.array.reshape(-1)[: self.Pos.size]
        return hnn.one_hot(NamedArray(ids, (self.Pos.resize(ids.shape[0]),)), self.Vocab) * self.weight


class HalfACache(Good):
    def cache(self, batch: tuple[Axis, ...], length: int, dtype: Any) -> NamedArray:
        return hax.zeros((*batch, Axis("place", length)), dtype=dtype)


class OtherSignature(HalfACache):
    def extend(self, tokens: NamedArray, cache: NamedArray) -> Any:
        return self.activations(tokens), cache


class NoPair(HalfACache):
    def extend(self, tokens: NamedArray, cache: NamedArray, start: NamedArray | int) -> Any:
        return self.activations(tokens)


class GrowingCache(HalfACache):
    def extend(self, tokens: NamedArray, cache: NamedArray, start: NamedArray | int) -> Any:
        return self.activations(tokens), hax.concatenate("place", [cache, cache])


class LostPlaces(HalfACache):
    def extend(self, tokens: NamedArray, cache: NamedArray, start: NamedArray | int) -> Any:
        return self.activations(tokens)["position", 0], cache


def line(cls: type, text: str) -> int:
    lines, first = inspect.getsourcelines(cls)
    return first + next(number for number, each in enumerate(lines) if text in each)


FILE = Path(__file__).name
EXTEND = (
    "    def extend(self, tokens: NamedArray, cache: Any, start: NamedArray | int) -> tuple[NamedArray, Any]:\n"
    "        # tokens int32 [..., Pos] that stand at places start, start + 1, … of their rows, and the cache so far\n"
    "        # → the activations [..., Pos, …], and the cache with these places; later places of it are not seen"
)
ACTIVATIONS = (
    "    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:\n"
    "        # tokens int32 [..., Pos] → [..., Pos, …], what the logits are made from; without a key nothing is dropped"
)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Fails,
            f"`Fails.activations` fails at {FILE}:{line(Fails, 'raise')}: ValueError: not today "
            "(--debug shows all of it)",
        ),
        (
            OneText,
            "`OneText.activations` gives float32[position=16, vocab=64] and must give for a batch, a NamedArray with "
            f"the axes batch(2) and position(16):\n\n{ACTIVATIONS}",
        ),
        (HalfACache, f"HalfACache has `cache` and no `extend`: write both, or neither\n\n{EXTEND}"),
        (
            OtherSignature,
            "`OtherSignature.extend(tokens: 'NamedArray', cache: 'NamedArray') -> 'Any'` does not take what it is "
            f"given (too many positional arguments). Write\n\n{EXTEND}",
        ),
        (
            NoPair,
            "`NoPair.extend` gives float32[batch=2, position=1, vocab=64] and must give (activations, cache):\n\n"
            f"{EXTEND}",
        ),
        (
            GrowingCache,
            "`GrowingCache.extend` gives another one and must give a cache of the shapes and dtypes of that before:\n\n"
            f"{EXTEND}",
        ),
        (
            LostPlaces,
            "`LostPlaces.extend` gives float32[batch=2, vocab=64] and must give activations with the axes batch(2) and "
            f"position(1):\n\n{EXTEND}",
        ),
    ],
)
def test_what_is_wrong_is_told_with_what_to_write(model: type[Good], message: str) -> None:
    @dataclass(frozen=True)
    class Config(ModelConfig):
        def build(self, Vocab: Axis, *, key: Any) -> LmModel:
            return model(hax.ones(Vocab), self.Pos, Vocab)

    with pytest.raises(UserError) as caught:
        state_shape(TrainConfig(model=Config(seq_len=16, vocab_size=64)))
    assert str(caught.value) == message


def test_an_axis_mistake_is_told_with_its_line() -> None:
    @dataclass(frozen=True)
    class Config(ModelConfig):
        def build(self, Vocab: Axis, *, key: Any) -> LmModel:
            return Mixes(hax.ones(Vocab), self.Pos, Vocab)

    with pytest.raises(UserError) as caught:
        state_shape(TrainConfig(model=Config(seq_len=16, vocab_size=64)))
    start = f"`Mixes.loss` fails at {FILE}:{line(Mixes, 'hax.sum')}: AxisError: "
    assert str(caught.value).startswith(start) and "vocab" in str(caught.value)


def test_what_build_fails_with_is_told() -> None:
    @dataclass(frozen=True)
    class Broken(ModelConfig):
        def build(self, Vocab: Axis, *, key: Any) -> LmModel:
            return Good(jnp.undefined)  # type: ignore[attr-defined]

    with pytest.raises(UserError) as caught:
        state_shape(TrainConfig(model=Broken(seq_len=16, vocab_size=64)))
    where = f"{FILE}:{line(Broken, 'undefined')}"
    assert str(caught.value).startswith(f"`Broken.build` fails at {where}: AttributeError: ")


@pytest.mark.parametrize(
    ("places", "vocab", "message"),
    [
        (Axis("time", 16), 64, "`Good.Pos` is time(16): take it from the config, `Config.Pos`, which is position(16)"),
        (
            Axis("position", 8),
            64,
            "`Good.Pos` is position(8): take it from the config, `Config.Pos`, which is position(16)",
        ),
        (
            Axis("position", 16),
            60,
            "`Good.Vocab` is vocab(60): model.vocab_size is 64, so make it at least that long, or take the `Vocab` "
            "that `build` is given",
        ),
    ],
)
def test_axes_that_do_not_fit_the_config_are_refused(places: Axis, vocab: int, message: str) -> None:
    @dataclass(frozen=True)
    class Config(ModelConfig):
        def build(self, Vocab: Axis, *, key: Any) -> LmModel:
            Own = Vocab.resize(vocab)
            return Good(hax.ones(Own), places, Own)

    with pytest.raises(UserError) as caught:
        state_shape(TrainConfig(model=Config(seq_len=16, vocab_size=64)))
    assert str(caught.value) == message
