"""Fields of configs that say what they can be: a number in a range, or one of a few words.

    learning_rate: float = number(6e-4, at_least(0))
    lr_schedule: str = word("cosine", ("cosine", "linear", "constant"))

`check` holds a config against that when it is made, and `levanter config --explain` prints it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from levanter import errors

LARGEST_SIZE = 2**31 - 1
"""Of an axis, and of what a step counts: places and steps are int32 in the compiled program."""
LARGEST_SEED = 2**32 - 1
"""JAX reads 32 bits of a seed, so that a larger one would be another one's."""

_RANGE, _WORDS = "range", "words"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, each bound among them or not."""

    low: float = -math.inf
    high: float = math.inf
    with_low: bool = True
    with_high: bool = True

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.with_low else value > self.low
        below = value <= self.high if self.with_high else value < self.high
        return above and below and not (isinstance(value, float) and not math.isfinite(value))

    def __str__(self) -> str:
        # That a size fits 31 bits need not be told to those who write one.
        upper = "" if self.high == LARGEST_SIZE else self._upper()
        return " and ".join(part for part in (self._lower(), upper) if part)

    def broken_by(self, value: float) -> str:
        """In words, what `value` is to be and is not."""
        if isinstance(value, float) and not math.isfinite(value):
            return "a finite number"
        lower = value < self.low or (value == self.low and not self.with_low)
        return self._lower() if lower else self._upper()

    def _lower(self) -> str:
        return "" if self.low == -math.inf else f"{'at least' if self.with_low else 'above'} {self.low}"

    def _upper(self) -> str:
        return "" if self.high == math.inf else f"{'at most' if self.with_high else 'below'} {self.high}"


def at_least(low: float) -> Range:
    """Numbers from `low` on."""
    return Range(low)


def above(low: float) -> Range:
    """Numbers greater than `low`."""
    return Range(low, with_low=False)


def between(low: float, high: float) -> Range:
    """Numbers from `low` to `high`, both among them."""
    return Range(low, high)


def fraction(*, zero: bool = True) -> Range:
    """Numbers below 1 from 0 on, or above 0."""
    return Range(0, 1, with_low=zero, with_high=False)


SIZE = Range(1, LARGEST_SIZE)
COUNT = Range(0, LARGEST_SIZE)
SEED = Range(0, LARGEST_SEED)


def number(default: float | None, allowed: Range) -> Any:
    """A field that holds a number in a range, or null where its annotation says so."""
    return dataclasses.field(default=default, metadata={_RANGE: allowed})


def word(default: str | None, known: tuple[str, ...]) -> Any:
    """A field that holds one of a few words, or null where its annotation says so."""
    return dataclasses.field(default=default, metadata={_WORDS: known})


def range_of(field: dataclasses.Field[Any]) -> Range | None:
    """The range of a field that `number` made."""
    return field.metadata.get(_RANGE)


def words_of(field: dataclasses.Field[Any]) -> tuple[str, ...] | None:
    """What a field that `word` made can be."""
    return field.metadata.get(_WORDS)


def may_be_null(field: dataclasses.Field[Any]) -> bool:
    """Whether null is a value of the field."""
    return "None" in str(field.type)


def check(config: Any, section: str) -> None:
    """Hold every field of a config against what it can be; `section` is its dotted name in the whole configuration.

    Raises:
        UserError: a field is out of its range, or none of its words.
    """
    for field in dataclasses.fields(config):
        name = f"{section}.{field.name}"
        value: Any = getattr(config, field.name)
        known, allowed = words_of(field), range_of(field)
        null = may_be_null(field)
        if value is None:
            if not null and (known or allowed):
                raise errors.out_of_range(name, "null", "given")
            continue
        if known is not None and value not in known:
            raise errors.not_a_choice(name, value, known, null)
        if allowed is not None and value not in allowed:
            raise errors.out_of_range(name, value, allowed.broken_by(value) + (", or null" if null else ""))
        for number in value if isinstance(value, list) else ():
            if isinstance(number, float) and number not in Range():
                raise errors.out_of_range(name, value, f"a list of numbers, each {Range().broken_by(number)}")
