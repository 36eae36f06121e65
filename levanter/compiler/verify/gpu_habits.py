"""What XLA does with collectives on GPUs that no plan says, and that leaves a step what it is: it joins those of one
kind over the same mesh axes, so that there are fewer of them, of the same bytes in all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from levanter.compiler.verify.tpu_habits import Key, counts_differ, counts_of

JOINED = "XLA joins collectives of one kind over the same axes on GPUs"


def settled(rows: Sequence[Mapping[str, Any]]) -> dict[Key, tuple[str, str]]:
    """(kind, mesh axes) whose counts differ and whose bytes do not, with what differs and why.

    Args:
        rows: the `collectives` of `levanter.compiler.verify.compare`.
    """
    found: dict[Key, tuple[str, str]] = {}
    for row in rows:
        axes = tuple(row["mesh_axes"])
        if counts_differ(row) and row["predicted_bytes"] == row["compiled_bytes"]:
            found[row["kind"], axes] = (counts_of(row, axes), JOINED)
    return found
