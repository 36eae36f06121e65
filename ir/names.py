"""How names are written that no user gave: of a second occurrence of an axis, of a part, of what was joined or merged,
of what the step made itself.

| name | is |
|---|---|
| `position'` | a second occurrence of `position` beside the first: the keys of a self-attention |
| `gates[0:14]`, `size[0:8:2]` | a part of `gates`: what a slice leaves |
| `prefix+position` | two axes one after the other: what a concatenation gives |
| `heads*size` | two axes merged into one, major first |
| `inner/0`, `inner/1` | the parts of an axis that was split, major first |
| `iota~1`, `stack~2` | an axis that the step made itself, by an iota or a stack, and that meets none that has a name |
"""

import re
from collections.abc import Sequence
from math import gcd

_PART = re.compile(r"\[\d+:\d+(?::\d+)?\]$")
Extent = tuple[int, int, int]
"""A part of an axis: from which place, up to which, in which steps."""


def primed(name: str, times: int = 1) -> str:
    """The name of a further occurrence."""
    return name + "'" * times


def unprimed(name: str) -> str:
    """The axis that an occurrence is one of."""
    return name.rstrip("'")


def part(name: str, extent: Extent) -> str:
    """The name of a part."""
    start, stop, step = extent
    return f"{name}[{start}:{stop}{f':{step}' if step != 1 else ''}]"


def are_apart(first: Extent, second: Extent) -> bool:
    """Whether two parts of an axis have no place in common: told from the numbers, as an axis may be long."""
    one, other = range(*first), range(*second)
    if not one or not other:
        return True
    low, high = max(one.start, other.start), min(one[-1], other[-1])
    common = gcd(one.step, other.step)
    if low > high or (one.start - other.start) % common:
        return True
    # The first place from `low` on that both steps reach (Chinese remainder theorem).
    step = one.step * (other.step // common)
    turns = (other.start - one.start) // common * pow(one.step // common, -1, other.step // common)
    meeting = one.start + one.step * turns
    return low + (meeting - low) % step > high


def whole(name: str) -> str:
    """The axis that a part was cut from; the name itself where it is of no part."""
    while is_part(name):
        name = _PART.sub("", unprimed(name))
    return name


def is_part(name: str) -> bool:
    return "[" in name and _PART.search(unprimed(name)) is not None


def joined(names: Sequence[str]) -> str:
    return "+".join(names)


def merged(names: Sequence[str]) -> str:
    return "*".join(names)


def split(name: str, position: int) -> str:
    return f"{name}/{position}"


def made(kind: str, number: int) -> str:
    """The name of an axis that the step made, the `number`-th of its kind."""
    return f"{kind}~{number}"


def is_made(name: str) -> bool:
    """Whether the axis, or one that it was made of, is the step's own: no argument has it, and no plan speaks of it."""
    return "~" in name


def same_axis(first: str, second: str) -> bool:
    """Whether two names are occurrences of one axis."""
    return unprimed(first) == unprimed(second)


def is_derived(name: str) -> bool:
    """Whether no user calls an axis so: it was merged, split, cut, joined or made. An occurrence is as good as its
    axis."""
    return any(mark in name for mark in "*/+[~")
