"""What a `shard_map` body sends between devices. Shapes there are those of one device's part."""

from typing import Any

from ir.staging.primitives.reduce import reduced
from ir.staging.primitives.registry import Axes, Draft, Equation, Plain, carried_over, rule

_SUMS = ["psum", "pmax", "pmin", "psum_invariant", "unreduced_psum", "unreduced_pmax", "unreduced_pmin"]
_GATHERS = ["all_gather", "all_gather_invariant", "all_gather_reduced"]
_SCATTERS = ["reduce_scatter", "unreduced_reduce_scatter"]


def _mesh(equation: Equation) -> dict[str, Axes | Plain]:
    """The mesh axes that take part."""
    named: Any = equation.params.get("axes", equation.params.get("axis_name", ()))
    listed: list[Any] = [*named] if isinstance(named, tuple) else [named]
    return {"mesh": tuple(map(str, listed))}


@rule(*_SUMS)
def all_reduce(equation: Equation) -> Draft:
    """The same dims; under `vmap`, where the axis is one of the array's own, a reduction."""
    positions = tuple(axis for axis in equation.params["axes"] if isinstance(axis, int))
    if positions:
        return reduced(equation, {"psum": "sum", "pmax": "max", "pmin": "min"}[equation.primitive], positions)
    return Draft("collective", equation.primitive, equation.dims, _mesh(equation))


@rule("ppermute", "pbroadcast", "pbroadcast_dynamic")
def permute(equation: Equation) -> Draft:
    """The same dims, on other devices."""
    return Draft("collective", equation.primitive, (equation.dims[0],), _mesh(equation))


@rule(*_GATHERS)
def all_gather(equation: Equation) -> Draft:
    """A dim grows, or a new one holds what the devices had."""
    dims, axis = equation.dims[0], equation.integer("all_gather_dimension")
    if not equation.params["tiled"]:
        new = equation.unifier.made(equation.out_shape[axis], "gathered")
        dims = (*dims[:axis], new, *dims[axis:])
    return Draft("collective", equation.primitive, (carried_over(equation, dims, equation.out_shape),), _mesh(equation))


@rule(*_SCATTERS)
def reduce_scatter(equation: Equation) -> Draft:
    """A dim shrinks, or one that had a place for each device goes."""
    dims, axis = equation.dims[0], equation.integer("scatter_dimension")
    if not equation.params["tiled"]:
        dims = (*dims[:axis], *dims[axis + 1 :])
    return Draft("collective", equation.primitive, (carried_over(equation, dims, equation.out_shape),), _mesh(equation))


@rule("all_to_all")
def all_to_all(equation: Equation) -> Draft:
    """One dim shrinks and another grows, or the one moves to the place of the other."""
    dims, split, concat = equation.dims[0], equation.integer("split_axis"), equation.integer("concat_axis")
    if not equation.params["tiled"]:
        rest = (*dims[:split], *dims[split + 1 :])
        dims = (*rest[:concat], equation.unifier.fresh(equation.out_shape[concat]), *rest[concat:])
    return Draft("collective", "all_to_all", (carried_over(equation, dims, equation.out_shape),), _mesh(equation))


@rule("ragged_all_to_all")
def ragged_all_to_all(equation: Equation) -> Draft:
    """Rows of the first operand arrive in the second, which gives the result its dims."""
    return Draft("collective", equation.primitive, (equation.dims[1],), _mesh(equation))


@rule("axis_index")
def axis_index(equation: Equation) -> Draft:
    """Which of the devices along a mesh axis this one is."""
    return Draft("iota", "axis_index", ((),), _mesh(equation))
