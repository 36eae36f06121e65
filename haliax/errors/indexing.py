"""Errors about indices, and about patterns that list axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from haliax.errors.base import (
    AxisError,
    ContradictionError,
    NamedIndexError,
    NamedTypeError,
    axis_error,
    described,
    placed,
    shown,
    type_error,
)
from haliax.errors.suggest import nearest


def index_out_of_range(name: str, index: int, array: Any) -> NamedIndexError:
    return placed(NamedIndexError(f"index {index} is out of range for axis `{name}` of {shown(array)}"))


def slice_out_of_range(name: str, start: int, length: int, array: Any) -> NamedIndexError:
    return placed(
        NamedIndexError(
            f"the slice from {start} of length {length} is out of range for axis `{name}` of {shown(array)}"
        )
    )


def slice_without_length(name: str, array: Any) -> NamedTypeError:
    return type_error(
        f"a slice of axis `{name}` of {shown(array)} needs a length: give length=..., or an Axis as new_axis"
    )


def traced_slice_end(name: str) -> NamedIndexError:
    return placed(
        NamedIndexError(
            f"the ends of a slice of axis `{name}` are traced, and the size of the result must be known: "
            f'write x["{name}", haliax.ds(start, length)]'
        )
    )


def bad_index(name: str, chosen: Any) -> NamedTypeError:
    return type_error(
        f"axis `{name}` cannot be indexed with {described(chosen)}: give an integer, a slice, a haliax.ds, "
        f"or an array of integers or booleans, named if it has several dimensions"
    )


def bad_subscript(key: Any) -> NamedTypeError:
    return type_error(
        f'cannot index with {described(key)}: use names, x["batch", 0] or x[{{"batch": 0}}], '
        f"with integers, slices or integer arrays"
    )


def indexed_twice(name: str) -> AxisError:
    return axis_error(
        f'axis `{name}` is indexed twice in one subscript: index it once, or in two steps, x["{name}", …]["{name}", …]'
    )


def bad_mask(name: str, size: int, mask: Any) -> NamedIndexError:
    return placed(
        NamedIndexError(
            f"a mask for axis `{name}` needs one dimension, of size {size}, but it is {described(mask)}: "
            f"for masks of several axes use `haliax.where`"
        )
    )


def traced_mask(name: str, mask: Any) -> NamedIndexError:
    return placed(
        NamedIndexError(
            f"axis `{name}` is indexed with the traced mask {described(mask)}, and the size of the result must be "
            f"known: use `haliax.where`, or the argument `where` of a reduction"
        )
    )


def class_out_of_range(value: int, axis: Any) -> ContradictionError:
    return placed(
        ContradictionError(
            f"{value} is not a class of `{axis.name}`, which has {axis.size}: 0 to {axis.size - 1}, "
            f"or from the end -{axis.size} to -1"
        )
    )


def layer_out_of_range(number: int, axis: Any) -> IndexError:
    return placed(IndexError(f"there is no layer {number}: `{axis.name}` has {axis.size}, 0 to {axis.size - 1}"))


def bad_pattern(pattern: str, problem: str) -> ValueError:
    return placed(ValueError(f'the pattern "{pattern}" cannot be read: {problem}'))


def unused_alias(pattern: str, word: str, words: Sequence[str]) -> AxisError:
    return axis_error(
        f'`{word}` is given by keyword, but is not a word of the pattern "{pattern}"{nearest(word, words)}: '
        f"leave it out"
    )


def contradictory_alias(pattern: str, word: str, given: Any, axis: Any) -> AxisError:
    return axis_error(
        f'`{word}={given}` contradicts the pattern "{pattern}", in which `{word}` is {axis}: '
        f"give that axis, or leave it out"
    )


def pattern_rank(pattern: str, words: int, array: Any) -> AxisError:
    return axis_error(
        f'the pattern "{pattern}" lists {words} axes in order, but the array is {shown(array)}: '
        f"put `...` for the others, or braces to go by name"
    )


def pattern_forgets(pattern: str, names: Sequence[str], array: Any) -> AxisError:
    return axis_error(
        f'the right side of "{pattern}" leaves out `{names[0]}` of {shown(array)}: name it, or put `...` for the others'
    )
