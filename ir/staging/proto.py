"""Draft nodes: the graph before names are known, with dim classes in place of dims."""

from collections.abc import Mapping
from dataclasses import dataclass

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
