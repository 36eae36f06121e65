"""The table of rules: one small function per JAX primitive, from dims of operands to dims of results.

A rule reads an `Equation` (shapes and dim classes of the operands, the primitive's parameters), merges the classes that
are the same dim, and answers with a `Draft`: the IR kind, and the dim classes of every result.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ir.staging.unify import DimClass, Unifier


@dataclass(frozen=True, slots=True)
class Axes:
    """An attribute that lists dims: classes while drafting, `Dim`s once names are known."""

    dims: tuple[DimClass, ...]


Plain = str | int | float | bool | tuple[str, ...]
Dims = tuple[DimClass, ...]


@dataclass(slots=True)  # not frozen: one is made for every equation, and freezing takes as long as a rule
class Equation:
    """A JAX equation as rules see it. `dims[i]` are the dim classes of operand i; shapes are plain ints.

    JAX types no parameter; `ints`, `integer` and `numbers` read those that are positions or sizes.
    """

    primitive: str
    params: Mapping[str, Any]
    dims: tuple[Dims, ...]
    shapes: tuple[tuple[int, ...], ...]
    out_shapes: tuple[tuple[int, ...], ...]
    unifier: Unifier

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The shape of the only result."""
        (shape,) = self.out_shapes
        return shape

    def ints(self, key: str) -> tuple[int, ...]:
        """The parameter `key`, a sequence of ints. Raises KeyError where there is none."""
        return tuple(int(each) for each in self.params[key])

    def integer(self, key: str, default: int | None = None) -> int:
        """The parameter `key`, an int. Raises KeyError where there is none and no default."""
        return int(self.params[key] if default is None else self.params.get(key, default))

    def numbers(self, part: str) -> tuple[int, ...]:
        """One list of dims out of the parameter `dimension_numbers`, by JAX's name for it."""
        return tuple(int(axis) for axis in getattr(self.params["dimension_numbers"], part))

    def fresh(self, shape: Sequence[int]) -> Dims:
        """New classes for a shape."""
        return tuple(self.unifier.fresh(size) for size in shape)

    def made(self, shape: Sequence[int], kind: str) -> Dims:
        """New classes for a shape of axes that the step makes itself."""
        return tuple(self.unifier.made(size, kind) for size in shape)


@dataclass(slots=True)
class Draft:
    """What a rule answers: the node without its names. Without a kind there is none: the result is the operand.

    `renamed` are the operands, by position, that must be renamed before the node, with their new dims: see
    `ir.staging.align`.
    """

    kind: str
    fn: str
    out_dims: tuple[Dims, ...]
    attrs: Mapping[str, Axes | Plain] = field(default_factory=dict[str, Axes | Plain])
    renamed: Mapping[int, Dims] = field(default_factory=dict[int, Dims])


Rule = Callable[[Equation], Draft]
RULES: dict[str, Rule] = {}


def rule(*primitives: str) -> Callable[[Rule], Rule]:
    """Registers a rule under the names of the primitives that it serves."""

    def register(function: Rule) -> Rule:
        for name in primitives:
            RULES[name] = function
        return function

    return register


def carried_over(equation: Equation, dims: Sequence[DimClass], out_shape: Sequence[int]) -> Dims:
    """Positional dims of a result: an operand's class where the size is unchanged, a new class where it is not."""
    unifier = equation.unifier
    return tuple(
        dim if unifier.size_of(dim) == size else unifier.resized(dim, size)
        for dim, size in zip(dims, out_shape, strict=True)
    )


def agreed(equation: Equation, pairs: Sequence[tuple[DimClass, DimClass]]) -> dict[str, Axes | Plain]:
    """Merges pairs that are the same dim. The pairs of two names, which cannot be, are listed under `batch` and
    `batch_with`."""
    unifier = equation.unifier
    apart = [
        (a, b)
        for a, b in pairs
        if not unifier.same(a, b) and unifier.size_of(a) == unifier.size_of(b) and not unifier.kin(a, b)
    ]
    if not apart:
        return {}
    return {"batch": Axes(tuple(a for a, _ in apart)), "batch_with": Axes(tuple(b for _, b in apart))}


def changed(equation: Equation, dims: Sequence[DimClass], out_shape: Sequence[int]) -> Axes:
    """The dims whose size is not that of the result at the same position."""
    return Axes(tuple(dim for dim, size in zip(dims, out_shape, strict=True) if equation.unifier.size_of(dim) != size))


def opaque(equation: Equation) -> Draft:
    """An unknown primitive: replicated, its results unnamed."""
    return Draft("opaque", equation.primitive, tuple(equation.fresh(shape) for shape in equation.out_shapes))
