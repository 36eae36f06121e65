"""The two ways in which config.json describes rotary embeddings.

    "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, …}     transformers 5
    "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, …}        before it

Either is read. Both are written, because a reader that knows one alone takes theta for its default without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from levanter.hf import errors

DEFAULT_THETA = 10_000.0


@dataclass(frozen=True)
class Rope:
    """Rotary embeddings: theta, the kind ("default", "linear", "llama3", …) and the numbers of the kind by name."""

    theta: float
    kind: str = "default"
    numbers: Mapping[str, Any] = field(default_factory=dict)


def rope_from_hf(hf: Mapping[str, Any], layer_type: str | None = None, *, default_theta: float = DEFAULT_THETA) -> Rope:
    """The rotary embeddings of a config.json.

    Args:
        layer_type: which of several ("full_attention", "sliding_attention") where layers differ.
        default_theta: of the family, where config.json has none.

    Raises:
        UserError: both ways are there and contradict each other.
    """
    new, old = hf.get("rope_parameters"), hf.get("rope_scaling")
    if new and layer_type in new:
        new = new[layer_type]
        old = None  # the old way knows one for all layers
    if new:
        found = _read(new, new.get("rope_theta", hf.get("rope_theta", default_theta)))
        theta = hf.get("rope_theta")
        if layer_type is None and theta is not None and theta != found.theta:
            raise errors.rope_contradiction({"rope_theta": theta, "rope_parameters": dict(new)})
        if old and _read(old, found.theta) != found:
            raise errors.rope_contradiction({"rope_scaling": old, "rope_parameters": dict(new)})
        return found
    return _read(old or {}, hf.get("rope_theta", default_theta))


def rope_to_hf(rope: Rope) -> dict[str, Any]:
    """The fields of config.json, in both ways."""
    scaling = {"rope_type": rope.kind, **rope.numbers}
    return {
        "rope_parameters": {**scaling, "rope_theta": rope.theta},
        "rope_scaling": None if rope.kind == "default" else scaling,
        "rope_theta": rope.theta,
    }


def _read(given: Mapping[str, Any], theta: float) -> Rope:
    numbers = {name: value for name, value in given.items() if name not in ("rope_type", "type", "rope_theta")}
    return Rope(float(theta), str(given.get("rope_type") or given.get("type") or "default"), numbers)
