"""What the backward pass computes again: the word of a plan for it. No JAX here.

`none`: nothing, all that it reads is kept. `full`: all that a loop over layers makes, of which only the carries are
kept. Names: the same, but what the loop makes of these names is kept besides (`passes.rematerialize`).
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from passes.planner.errors import remat_beside

Remat: TypeAlias = tuple[str, ...]
"""`("none",)`, `("full",)`, names; or nothing, for a step that is left as it is."""
NOTHING: Remat = ("none",)
ALL: Remat = ("full",)
AS_IT_IS: Remat = ()
WORDS = (*NOTHING, *ALL)


def remat_of(words: Iterable[str]) -> Remat:
    """A policy from its words, names in alphabetic order. Raises `PlanError` for a word beside others that is one of
    its own."""
    given = sorted(set(words))
    for word in given:
        if word in WORDS and len(given) > 1:
            raise remat_beside(word, [each for each in given if each != word])
    return tuple(given)


def shown(remat: Sequence[str]) -> str:
    """`none`, `full`, or `all but mlp`, as a report says it."""
    names = ", ".join(remat)
    return names if not remat or remat[0] in WORDS else f"all but {names}"
