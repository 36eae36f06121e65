"""Every number of every config has a range, and no nonsense passes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest

from levanter import config
from levanter.config import TrainConfig, kinds
from levanter.errors import UserError
from levanter.fields import Range, above, at_least, between, fraction, range_of
from passes.planner.document import PlanDocument


def _numbers() -> Iterator[Any]:
    """Every number of every config; one that several inherit once."""
    seen = set()
    for section, kind, cls in kinds.sections(TrainConfig):
        if issubclass(cls, PlanDocument):  # a document has a reader of its own, and checks of its own
            continue
        for field in dataclasses.fields(cls):
            owner = next(each for each in cls.__mro__ if field.name in each.__dict__.get("__annotations__", {}))
            if {int, float} & set(kinds.alternatives(kinds.members(cls)[field.name])) and (
                owner,
                field.name,
            ) not in seen:
                seen.add((owner, field.name))
                yield pytest.param(section, kind, cls, field, id=f"{section}.{field.name}-{kind}")


NUMBERS = list(_numbers())


def _chosen(section: str, kind: str) -> list[str]:
    """Options that choose the types which have a section."""
    if kind:
        return [f"--{section}.type={kind}"]
    outer, _, name = section.partition(".")
    choices = kinds.choices(kinds.members(TrainConfig)[outer])
    if not name or "" in choices:
        return []
    return [f"--{outer}.type={next(each for each in choices if name in kinds.members(choices[each]))}"]


def test_there_are_numbers_to_look_at() -> None:
    assert len(NUMBERS) > 25


@pytest.mark.parametrize(("section", "kind", "cls", "field"), NUMBERS)
def test_no_nonsense_passes(section: str, kind: str, cls: type, field: dataclasses.Field[Any]) -> None:
    allowed = range_of(field)
    assert allowed is not None, f"{section}.{field.name} has no range: write it with `number`"
    name = f"{section}.{field.name}"
    whole = int in kinds.alternatives(kinds.members(cls)[field.name])
    least = {-1, -(2**70), 2**70} if whole else {-1.0, -1e300, math.nan, math.inf, -math.inf}
    for value in least:
        with pytest.raises(UserError) as caught:
            cls(**{field.name: value})
        assert str(caught.value).startswith(f"{name} is {value}: it must be "), caught.value
        words = f".{value}".replace("..", ".-.") if not math.isfinite(value) else f"{value}"
        chosen = _chosen(section, kind)
        with pytest.raises(UserError) as refused:
            config.load("gpt2_nano", [*chosen, f"--{name}={words}"])
        assert name in str(refused.value) and "\n" not in str(refused.value)
    if 0 not in allowed:
        with pytest.raises(UserError):
            cls(**{field.name: 0})


def test_the_two_of_the_report() -> None:
    for name, value in (("initializer_range", -1), ("layer_norm_epsilon", -1)):
        with pytest.raises(UserError) as caught:
            config.load("gpt2_nano", [f"--model.{name}", str(value)])
        assert str(caught.value).startswith(f"model.{name} is -1.0: it must be above 0")


@pytest.mark.parametrize(
    ("allowed", "value", "words"),
    [
        (at_least(0), -1, "at least 0"),
        (at_least(0), math.nan, "a finite number"),
        (at_least(0), math.inf, "a finite number"),
        (above(0), 0.0, "above 0"),
        (between(0, 1), 2, "at most 1"),
        (fraction(), 1.0, "below 1"),
        (fraction(zero=False), 0.0, "above 0"),
        (Range(1, 9), 10**30, "at most 9"),
    ],
)
def test_what_is_broken_is_said(allowed: Range, value: float, words: str) -> None:
    assert value not in allowed and allowed.broken_by(value) == words


def test_a_range_in_words() -> None:
    assert str(fraction()) == "at least 0 and below 1" and str(above(0)) == "above 0" and 0.5 in fraction()


def test_a_seed_is_of_32_bits() -> None:
    """JAX makes the same key of a seed and of that seed plus 2**32."""
    with pytest.raises(UserError) as caught:
        config.load("gpt2_nano", ["--trainer.seed", str(2**32)])
    assert str(caught.value) == "trainer.seed is 4294967296: it must be at most 4294967295"
