"""`einsum` and `rearrange` by pattern: the language of `einops`, with names.

A side of a pattern lists axes. Bare, `b p e`, it is ordered: each word stands for the axis at that place, whatever its
name. In braces, `{e b}`, it is unordered: each word is the name of an axis (or stands for the one given by keyword),
and further axes may be there. `...` stands for all axes that are not mentioned; where there are several, on the right
or in braces, axes go to them as in `haliax.axis.rearrange_for_partial_order`. In `rearrange`, `(x: y z)` on the left
splits the axis `x`, and on the right merges `y` and `z` to an axis called `x`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from haliax import errors
from haliax.axis import Axis, check_distinct, names_of, rearrange_for_partial_order
from haliax.core.array import NamedArray, wrap
from haliax.core.explicit import on_any_mesh
from haliax.ops.contract import DotGeneral, dot
from haliax.ops.shape import rename, reordered, transposed

_TOKEN = re.compile(r"\s*(\.\.\.|[A-Za-z_]\w*|[(){}:])")


@dataclass(frozen=True)
class Group:
    """`(name: parts)` in a pattern."""

    name: str | None
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """One side of a pattern, or one operand of it."""

    items: tuple[str | Group, ...]
    ordered: bool


def _tokens(text: str, pattern: str) -> list[str]:
    tokens, at = [], 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise errors.bad_pattern(pattern, f"`{text[at:].strip()[:1]}` means nothing here")
        tokens.append(match.group(1))
        at = match.end()
    return tokens


def _side(text: str, pattern: str) -> Side:
    tokens = _tokens(text, pattern)
    ordered = not tokens or tokens[0] != "{"
    if not ordered:
        if tokens[-1] != "}":
            raise errors.bad_pattern(pattern, "`{` is not closed")
        tokens = tokens[1:-1]
    items: list[str | Group] = []
    rest = iter(tokens)
    for token in rest:
        if token == "(":
            items.append(_group(rest, pattern))
        elif token in "){}:":
            raise errors.bad_pattern(pattern, f"`{token}` means nothing here")
        else:
            items.append(token)
    return Side(tuple(items), ordered)


def _group(rest: Any, pattern: str) -> Group:
    inside: list[str] = []
    for token in rest:
        if token == ")":
            break
        inside.append(token)
    else:
        raise errors.bad_pattern(pattern, "`(` is not closed")
    name = inside[0] if len(inside) > 1 and inside[1] == ":" else None
    return Group(name, tuple(inside if name is None else inside[2:]))


def _aliased(word: str, aliases: Mapping[str, Any]) -> str:
    """The name of the axis that a word stands for: as given by keyword, else the word itself."""
    given = aliases.get(word)
    return word if given is None or isinstance(given, int) else names_of(given)[0]


def _check_used(pattern: str, sides: Sequence[Side], aliases: Mapping[str, Any]) -> None:
    """Raises AxisError for an alias of a word that the pattern does not have."""
    words: list[str] = []
    for side in sides:
        for item in side.items:
            words += [item] if isinstance(item, str) else [*item.parts, *([item.name] if item.name else [])]
    for word in aliases:
        if word not in words:
            raise errors.unused_alias(pattern, word, [known for known in words if known != "..."])


def _check_alias(pattern: str, word: str, axis: Axis, aliases: Mapping[str, Any]) -> None:
    """Raises AxisError if the alias of a word is not the axis that the word stands for, or has another size."""
    given = aliases.get(word)
    if given is not None and not isinstance(given, int) and names_of(given)[0] != axis.name:
        raise errors.contradictory_alias(pattern, word, given, axis)
    if _size(given) not in (None, axis.size):
        raise errors.contradictory_alias(pattern, word, given, axis)


def _resolved(word: str, array: NamedArray, aliases: Mapping[str, Any], pattern: str) -> Axis:
    """The axis of the array that a word stands for by name."""
    axis = array.resolve_axis(_aliased(word, aliases))
    _check_alias(pattern, word, axis, aliases)
    return axis


def _bound(side: Side, array: NamedArray, aliases: Mapping[str, Any], pattern: str) -> list[tuple[str | Group, Axis]]:
    """What each item of a side stands for; axes that only `...` stands for are left out."""
    named = [item for item in side.items if item != "..."]
    if not side.ordered:
        words = [item if isinstance(item, str) else item.name for item in named]
        if None in words:
            raise errors.bad_pattern(pattern, "a group in braces needs a name, `(x: y z)`")
        return [(i, _resolved(str(word), array, aliases, pattern)) for i, word in zip(named, words, strict=True)]
    if len(side.items) - len(named) > 1:
        raise errors.bad_pattern(pattern, "`...` is there twice among axes in order: use braces to go by name")
    if len(named) > array.ndim or ("..." not in side.items and len(named) != array.ndim):
        raise errors.pattern_rank(pattern, len(named), array)
    before = side.items.index("...") if "..." in side.items else len(named)
    after = len(named) - before
    axes = array.axes[:before] + array.axes[array.ndim - after :]
    return list(zip(named, axes, strict=True))


def rearrange(array: NamedArray, *axes: Any, **aliases: Any) -> NamedArray:
    """The axes reordered; by a pattern also split and merged.

    `rearrange(x, ("embed", ..., "batch"))` gives an order, in which `...` stands for the axes that are not named.
    `rearrange(x, "{embed batch} -> batch ... embed")` is a pattern.

    Args:
        array: a NamedArray.
        axes: an order, as one sequence or as several arguments; or a pattern, such as `"b (hd: h d) -> b h d"` or
            `"{height width} -> ... (pixel: height width)"`.
        aliases: for words of the pattern the axis that they stand for, or a size where an axis is split.

    Raises:
        AxisError: if the pattern does not fit the array.
        ValueError: if it is not a pattern.

    >>> x = hax.zeros({"batch": 2, "position": 3, "embed": 8})
    >>> x.rearrange(("embed", ...)).shape
    {'embed': 8, 'batch': 2, 'position': 3}
    >>> hax.rearrange(x, "b p (e: heads size) -> b heads p size", heads=2).shape
    {'batch': 2, 'heads': 2, 'position': 3, 'size': 4}
    >>> hax.rearrange(x, "{batch position} -> (token: batch position) ...").shape
    {'token': 6, 'embed': 8}
    """
    if len(axes) == 1 and isinstance(axes[0], str) and "->" in axes[0]:
        return _by_pattern(array, axes[0], aliases)
    return reordered(array, axes[0] if len(axes) == 1 and not isinstance(axes[0], str | Axis) else axes)


@on_any_mesh
def _by_pattern(array: NamedArray, pattern: str, aliases: Mapping[str, Any]) -> NamedArray:
    left_text, right_text = pattern.split("->") if pattern.count("->") == 1 else _no_arrow(pattern)
    left, right = _side(left_text, pattern), _side(right_text, pattern)
    _check_used(pattern, (left, right), aliases)
    array, words = _split_groups(array, _bound(left, array, aliases, pattern), aliases, pattern)
    mentioned = [word for item in right.items for word in (item.parts if isinstance(item, Group) else (item,))]
    for word in mentioned:
        if word != "..." and word not in words:
            words[word] = _resolved(word, array, aliases, pattern)
    used = {words[word].name for word in mentioned if word != "..."}
    rest = tuple(axis for axis in array.axes if axis.name not in used)
    if rest and "..." not in mentioned:
        raise errors.pattern_forgets(pattern, [axis.name for axis in rest], array)
    order: list[Axis] = []
    result: list[Axis] = []
    for item, axes in _placed(right, words, array.axes, rest):
        order += axes
        if isinstance(item, Group):
            if item.name is None:
                raise errors.bad_pattern(pattern, "a merged axis needs a name, `(x: y z)`")
            axes = [Axis(_aliased(item.name, aliases), math.prod(axis.size for axis in axes))]
            _check_alias(pattern, item.name, axes[0], aliases)
        result += axes
    check_distinct(order)
    array = transposed(array, tuple(order))
    if tuple(result) == array.axes:
        return array
    check_distinct(result)
    return wrap(jnp.reshape(array.array, [axis.size for axis in result]), tuple(result))


def _placed(
    right: Side, words: Mapping[str, Axis], axes: tuple[Axis, ...], rest: tuple[Axis, ...]
) -> list[tuple[str | Group, list[Axis]]]:
    """Each item of the right side with its axes; `rest` are those that only `...` stands for."""
    parts = [item.parts if isinstance(item, Group) else (item,) for item in right.items]
    if right.items.count("...") < 2:
        spread = [[axis for word in own for axis in (rest if word == "..." else (words[word],))] for own in parts]
        return list(zip(right.items, spread, strict=True))
    order = [Ellipsis if word == "..." else words[word] for own in parts for word in own]
    check_distinct([axis for axis in order if isinstance(axis, Axis)])
    placed: list[tuple[str | Group, list[Axis]]] = []
    arranged = list(rearrange_for_partial_order(tuple(order), axes))
    for item, own in zip(right.items, parts, strict=True):
        count = 0 if item == "..." else len(own)
        while item == "..." and count < len(arranged) and arranged[count] in rest:
            count += 1
        placed.append((item, arranged[:count]))
        del arranged[:count]
    return placed


def _no_arrow(pattern: str) -> Any:
    raise errors.bad_pattern(pattern, "it needs one `->`")


def _split_groups(
    array: NamedArray, bound: Sequence[tuple[str | Group, Axis]], aliases: Mapping[str, Any], pattern: str
) -> tuple[NamedArray, dict[str, Axis]]:
    """The array with the groups of the left side split, and the axis of each word there."""
    words: dict[str, Axis] = {}
    for item, axis in bound:
        if isinstance(item, str):
            _check_alias(pattern, item, axis, aliases)
            words[item] = axis
            continue
        sizes = {word: _size(aliases.get(word)) for word in item.parts}
        unknown = [word for word, size in sizes.items() if size is None]
        known = math.prod(size for size in sizes.values() if size is not None)
        if len(unknown) > 1:
            raise errors.bad_pattern(
                pattern, f"the sizes of `{'` and `'.join(unknown)}` are needed: give them by keyword"
            )
        if unknown:
            if known == 0 or axis.size % known:
                raise errors.not_divisible(f"axis `{axis.name}`", axis.size, known)
            sizes[unknown[0]] = axis.size // known
        if item.name is not None:
            _check_alias(pattern, item.name, axis, aliases)
        parts = [Axis(_aliased(word, aliases), int(size or 0)) for word, size in sizes.items()]
        array = array.unflatten_axis(axis, tuple(parts))
        words.update(zip(item.parts, parts, strict=True))
    return array, words


def _size(alias: Any) -> int | None:
    return alias if isinstance(alias, int) else alias.size if isinstance(alias, Axis) else None


def einsum(
    equation: str,
    *arrays: NamedArray,
    precision: Any = None,
    preferred_element_type: Any = None,
    _dot_general: DotGeneral | None = None,
    **axis_aliases: Any,
) -> NamedArray:
    """A sum of products by pattern: `einsum("b p e, e h -> b p h", x, w)`.

    Axes that the left side mentions and the right side does not are summed over. On the left, `"{embed} -> batch mlp"`
    mentions axes by name, of all arrays at once, and `"{embed}, {embed} -> ..."` of each; what braces do not mention
    stays, in place of the `...` or else in front. `"-> batch embed"` names only the axes to keep (and `...` the others
    too), and without `->` nothing is kept.

    Args:
        equation: the pattern.
        arrays: NamedArrays.
        precision: as in `jax.lax.dot_general`.
        preferred_element_type: the dtype to accumulate in.
        axis_aliases: for words of the pattern, the axis that they stand for.

    Raises:
        AxisError: if the pattern does not fit the arrays.
        ValueError: if it is not a pattern.

    >>> x, w = hax.ones({"batch": 2, "embed": 3}), hax.ones({"embed": 3, "mlp": 4})
    >>> hax.einsum("b e, e m -> b m", x, w).shape
    {'batch': 2, 'mlp': 4}
    >>> hax.einsum("{embed}, {embed} -> ...", x, w).shape
    {'batch': 2, 'mlp': 4}
    >>> hax.einsum("-> mlp", x, w).shape
    {'mlp': 4}
    """
    left_text, _, right_text = equation.partition("->")
    if "->" in right_text:
        raise errors.bad_pattern(equation, "it has two `->`")
    right = _side(right_text, equation)
    operands, words = list(arrays), {}
    sides = [_side(text, equation) for text in left_text.split(",")] if left_text.strip() else []
    by_name = bool(sides) and not any(side.ordered for side in sides)
    _check_used(equation, (*sides, right), axis_aliases)
    if len(sides) == 1 and by_name:
        words = _mentioned(sides[0], arrays, axis_aliases, equation)
    elif sides:
        if len(sides) != len(arrays):
            given = "1 array was" if len(arrays) == 1 else f"{len(arrays)} arrays were"
            raise errors.bad_pattern(equation, f"it has {len(sides)} operands, but {given} given")
        operands, words = _unified(sides, arrays, axis_aliases, equation)

    everything = dict.fromkeys(axis.name for array in operands for axis in array.axes)
    summed = set(words.values()) if sides or "..." in right.items else set(everything)
    kept: list[str] = []
    for item in right.items:
        if isinstance(item, Group):
            raise errors.bad_pattern(equation, "einsum does not merge axes")
        if item == "...":
            kept.append(item)
            continue
        name = words.get(item, _aliased(item, axis_aliases))
        for array in operands if item not in words else ():
            if array.has_axis(name):
                _check_alias(equation, item, array.resolve_axis(name), axis_aliases)
        kept.append(name)
    unmentioned = [name for name in everything if name not in summed and name not in kept]
    order: list[Any] = [Ellipsis if name == "..." else name for name in kept]
    if "..." not in kept:
        if by_name and not any("..." in side.items for side in sides):
            order = unmentioned + kept
        else:
            summed |= set(unmentioned)
    return dot(
        *operands,
        axis=tuple(name for name in everything if name in summed and name not in order),
        precision=precision,
        preferred_element_type=preferred_element_type,
        dot_general=_dot_general,
        out_axes=tuple(order),
    )


def _mentioned(side: Side, arrays: Sequence[NamedArray], aliases: Mapping[str, Any], pattern: str) -> dict[str, str]:
    """The names of the axes that the words in one pair of braces, for all arrays together, stand for."""
    known = {axis.name for array in arrays for axis in array.axes}
    words: dict[str, str] = {}
    for word in side.items:
        if isinstance(word, Group):
            raise errors.bad_pattern(pattern, "einsum does not split axes")
        if word != "...":
            words[word] = _aliased(word, aliases)
            if words[word] not in known:
                raise errors.axis_not_found(words[word], *arrays)
            for array in arrays:
                if array.has_axis(words[word]):
                    _check_alias(pattern, word, array.resolve_axis(words[word]), aliases)
    return words


def _unified(
    sides: Sequence[Side], arrays: Sequence[NamedArray], aliases: Mapping[str, Any], pattern: str
) -> tuple[list[NamedArray], dict[str, str]]:
    """The arrays renamed so that one word is one name, and different words are different names."""
    words: dict[str, str] = {}
    operands = []
    bounds = [_bound(side, array, aliases, pattern) for side, array in zip(sides, arrays, strict=True)]
    _check_bound_aliases(bounds, aliases, pattern)
    for bound, array in zip(bounds, arrays, strict=True):
        renames = {}
        for word, axis in bound:
            if isinstance(word, Group):
                raise errors.bad_pattern(pattern, "einsum does not split axes")
            if word not in words:
                words[word] = axis.name if axis.name not in words.values() else word
            if words[word] != axis.name:
                renames[axis.name] = words[word]
        operands.append(rename(array, renames) if renames else array)
    return operands, words


def _check_bound_aliases(
    bounds: Sequence[Sequence[tuple[str | Group, Axis]]], aliases: Mapping[str, Any], pattern: str
) -> None:
    """Raises AxisError for an alias that is none of the axes that its word stands for, or has another size."""
    for word in aliases:
        axes = [axis for bound in bounds for own, axis in bound if own == word]
        named = [axis for axis in axes if axis.name == _aliased(word, aliases)] or axes[:1]
        for axis in named if not isinstance(aliases[word], int) else axes:
            _check_alias(pattern, word, axis, aliases)
