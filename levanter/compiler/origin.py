"""Where the first number of a training step comes from that is not finite: a node of its graph, and its source line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from levanter.compiler.compile import Compiled
from levanter.paths import flat_names
from levanter.runtime import errors
from levanter.runtime.state import LmBatch, TrainState
from passes.first_nonfinite import FirstNonFinite, first_nonfinite


@dataclass(frozen=True)
class Replayed:
    """What a step read: its state and its batch, and the number of the step that it makes."""

    state: TrainState
    batch: LmBatch
    step: int


def origin_of_nonfinite(compiled: Compiled, bad: Replayed, healthy: Callable[[], Replayed] | None) -> str | None:
    """In words, the first array of a step that is not finite; None where all of it is.

    Args:
        healthy: gives a step of the same run that goes well, to tell masks from mistakes; None where there is none.
    """
    good = None if healthy is None else lambda: _whole(healthy())
    found = first_nonfinite(compiled.graph, _whole(bad), good)
    if isinstance(found, int):
        names = list(flat_names((bad.state, bad.batch)))
        return errors.input_not_finite(names[found].removeprefix("0."), bad.step)
    return None if found is None else _described(found)


def _described(found: FirstNonFinite) -> str:
    node = found.node
    what = node.fn or node.kind
    inside = "".join(f", {name} {trip}" for name, trip in found.inside)
    return errors.origin_of_nonfinite(
        str(node.outputs[0].type), what, str(node.source) if node.source else None, node.phase, inside
    )


def _whole(replayed: Replayed) -> list[Any]:
    return jax.tree.leaves(jax.device_get((replayed.state, replayed.batch)))
