"""Draft nodes: the graph before names are known, with dim classes in place of dims."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from haliax.core.staging import renamed_p
from ir.graph import Constant, Origin, Source
from ir.staging.primitives.registry import Axes, Plain
from ir.staging.unify import DimClass


@dataclass(eq=False, slots=True)
class ProtoValue:
    """A value by identity: its dim classes and its dtype."""

    dims: tuple[DimClass, ...]
    dtype: str


ProtoOperand = ProtoValue | Constant


@dataclass(eq=False, slots=True)
class ProtoNode:
    kind: str
    fn: str
    inputs: tuple[ProtoOperand, ...]
    outputs: tuple[ProtoValue, ...]
    attrs: Mapping[str, Axes | Plain]
    bodies: tuple["ProtoBody", ...]
    backward: bool
    source: Source | None
    origin: Origin


@dataclass(eq=False, slots=True)
class ProtoBody:
    name: str
    inputs: tuple[ProtoValue, ...]
    nodes: tuple[ProtoNode, ...]
    outputs: tuple[ProtoOperand, ...]


def rename_node(
    operand: ProtoValue, dims: Sequence[DimClass], backward: bool, source: Source | None, info: Any
) -> ProtoNode:
    """Calls a value's dims other occurrences of their axes: no equation of the step's, and an identity. `info` is JAX's
    source info of the equation that asks for it."""
    unnamed = (None,) * len(dims)
    origin = Origin(renamed_p, {"old": unnamed, "new": unnamed}, None, info)
    result = ProtoValue(tuple(dims), operand.dtype)
    return ProtoNode("rename", "", (operand,), (result,), {"old": Axes(operand.dims)}, (), backward, source, origin)
