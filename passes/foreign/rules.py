"""Sharding rules as another system means them, each with its line, and the layout that they give an array.

Levanter          an axis has its mesh axes, whatever the others of the array have: two that want one are an error
Flax, MaxText     rules in order; one applies where all of its mesh axes are still free, or not at all, and a later
                  rule for the same name is then its second choice
Hugging Face      a pattern of modules says that the output (colwise) or the input (rowwise) dim is sharded
PartitionSpec     mesh axes dim by dim, from the first
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Dialect = Literal["levanter", "flax", "transformers", "partition-specs"]
Kind = Literal["parameters", "activations", "both"]
ArrayKind = Literal["vector", "matrix", "experts"]
"""What a parameter is, as far as names of theirs tell: of one axis besides layers, of more, or of experts."""
ALL: frozenset[ArrayKind] = frozenset(("vector", "matrix", "experts"))
Outcome = Literal["given", "taken", "undivided"]


@dataclass(frozen=True)
class Rule:
    """One rule: `name` as the file has it, `names` as ours have it, and the mesh axes; none are replication, said so.

    Attributes:
        about: whether it is about parameters at rest, about activations (and parameters in use), or both.
        arrays: the kinds of parameters that it is about.
        paths: paths of the only parameters that it is about; None for all.
        where: file and line.
    """

    name: str
    axes: tuple[str, ...]
    where: str
    about: Kind = "both"
    names: tuple[str, ...] = ()
    arrays: frozenset[ArrayKind] = ALL
    paths: frozenset[str] | None = None

    def concerns(self, kind: Kind) -> bool:
        """Whether it is about parameters at rest, or about what is computed with."""
        return self.about in (kind, "both")


@dataclass(frozen=True)
class ForeignRules:
    """What a file says.

    Attributes:
        mesh_axes: mesh axes that the file knows besides those of the mesh; there, they have size 1.
        unknown: rules whose name is none of this step's and in no table.
        idle: names that other models have and this step has not.
    """

    dialect: Dialect
    source: str
    rules: tuple[Rule, ...]
    mesh_axes: frozenset[str] = frozenset()
    unknown: tuple[Rule, ...] = ()
    idle: tuple[str, ...] = ()

    @property
    def whole_rules(self) -> bool:
        """Whether a rule applies with all of its mesh axes or not at all."""
        return self.dialect == "flax"

    def in_order(self, kind: Kind) -> bool:
        """Whether rules have an order, so that an earlier one has a mesh axis where two want it."""
        return self.dialect == "flax" or (self.dialect == "partition-specs" and kind == "activations")


@dataclass(frozen=True)
class Array:
    """Something that is laid out: a parameter with its path, or an activation without; `scanned` are its axes over
    which a loop runs."""

    sizes: Mapping[str, int]
    path: str | None = None
    scanned: frozenset[str] = frozenset()
    bytes: int = 0

    @property
    def sort(self) -> ArrayKind:
        """A vector has one axis for each trip of a loop, as a bias or the scale of a norm."""
        count = len(self.sizes) - len(self.scanned)
        return "vector" if count <= 1 else "experts" if count > 2 and "experts" in self.sizes else "matrix"

    def shown(self) -> str:
        """`model.head [vocab=128256, embed=4096]`"""
        axes = ", ".join(f"{name}={size}" for name, size in self.sizes.items())
        return f"`{self.path}` [{axes}]" if self.path else f"[{axes}]"


@dataclass(frozen=True)
class Tried:
    """What became of a rule at one axis of an array: given its mesh axes, refused because `by` has one of them, or
    because they do not divide the size."""

    rule: Rule
    name: str
    outcome: Outcome
    by: Rule | None = None
    by_name: str = ""


@dataclass(frozen=True)
class Layout:
    """How rules lay an array out: mesh axes by name, and what became of each rule that is about it."""

    axes: Mapping[str, tuple[str, ...]]
    tried: tuple[Tried, ...]


def layout(rules: ForeignRules, array: Array, kind: Kind, sizes: Mapping[str, int]) -> Layout:
    """The layout of an array.

    Args:
        kind: as a parameter at rest, or as what is computed with.
        sizes: of the mesh axes; one that is missing has size 1.
    """
    found: dict[str, tuple[str, ...]] = {}
    holders: dict[str, tuple[Rule, str]] = {}
    tried: list[Tried] = []
    for rule, name in _in_turn(rules, array, kind):
        if name in found or not rule.axes:
            found.setdefault(name, ())
            continue
        free = tuple(axis for axis in rule.axes if axis not in holders)
        if len(free) < len(rule.axes):
            by, by_name = holders[next(axis for axis in rule.axes if axis in holders)]
            tried.append(Tried(rule, name, "taken", by, by_name))
            if rules.whole_rules or not free:
                continue
        if array.sizes[name] % math.prod(sizes.get(axis, 1) for axis in free):
            tried.append(Tried(rule, name, "undivided"))
            continue
        found[name] = free
        holders |= {axis: (rule, name) for axis in free}
        tried.append(Tried(rule, name, "given"))
    shown = {name: tuple(axis for axis in axes if sizes.get(axis, 1) > 1) for name, axes in found.items()}
    return Layout(shown, tuple(tried))


def _in_turn(rules: ForeignRules, array: Array, kind: Kind) -> Iterator[tuple[Rule, str]]:
    """The rules that are about an array, each with the axis: in their order, or in that of the array's axes."""
    own = [rule for rule in rules.rules if rule.concerns(kind) and concerned(rule, array)]
    if rules.in_order(kind):
        yield from ((rule, name) for rule in own for name in rule.names if name in array.sizes)
        return
    for name in array.sizes:
        # The last one that is written counts, as in a dictionary.
        yield from [(rule, name) for rule in own if name in rule.names][-1:]


def concerned(rule: Rule, array: Array) -> bool:
    """Whether a rule is about an array."""
    if rule.paths is not None:
        return array.path in rule.paths
    return array.path is None or array.sort in rule.arrays
