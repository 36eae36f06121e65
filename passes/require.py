"""What the functions of `passes` ask of their arguments, so that a wrong one is named and not met deep inside."""

from pathlib import Path
from typing import Any, TypeVar

from ir.graph import Graph
from ir.limits import DEEPEST, is_too_deep
from passes import errors
from passes.planner.layouts import Layouts

_P = TypeVar("_P", bound=Layouts)


def graph(value: Any, function: str) -> Graph:
    """The graph given to `passes.FUNCTION`. Raises `PlanError` for anything else, or one nested too deep."""
    if not isinstance(value, Graph):
        raise errors.wrong_argument(function, "graph", value, "the graph of a step, from ir.trace or ir.parse")
    if is_too_deep(value):
        raise errors.graph_too_deep(function, value.name, DEEPEST)
    return value


def plan(value: _P, function: str) -> _P:
    """The plan given to `passes.FUNCTION`. Raises `PlanError` for anything else."""
    if not isinstance(value, Layouts):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise errors.wrong_argument(function, "plan", value, "a plan, from passes.plan or passes.Plan.by_hand")
    return value


def partitioner(value: Any, function: str) -> Any:
    """The partitioner given to `passes.FUNCTION`. Raises `PlanError` for anything but the two."""
    if value not in ("explicit", "xla"):
        raise errors.wrong_argument(function, "partitioner", value, "'explicit' or 'xla'")
    return value


def codes(value: Any, function: str) -> tuple[str, ...]:
    """Codes of warnings given to `passes.FUNCTION`; one alone may be text."""
    listed = (value,) if isinstance(value, str) else tuple(_members(value))
    if not all(isinstance(code, str) for code in listed):
        raise errors.wrong_argument(function, "ignore", value, "codes of warnings, such as ('repeat',)")
    return listed


def folder(value: Any, function: str) -> Path | None:
    """The folder given to `passes.FUNCTION`, or None."""
    if value is None or isinstance(value, str | Path):
        return None if value is None else Path(value)
    raise errors.wrong_argument(function, "dump", value, "the path of a folder, or None")


def positions(value: Any, count: int, function: str) -> tuple[int, ...]:
    """Positions of arguments of a step that has `count` of them."""
    listed = _members(value)
    for each in listed:
        if not isinstance(each, int) or isinstance(each, bool) or not 0 <= each < count:
            raise errors.wrong_argument(function, "at_rest", value, f"positions of arguments, from 0 to {count - 1}")
    return tuple(listed)


def devices(value: Any, function: str) -> list[Any] | None:
    """JAX devices given to `passes.FUNCTION`: a sequence, an array, a `jax.sharding.Mesh` or None."""
    if value is None:
        return None
    grid: Any = getattr(value, "devices", value)
    flat: Any = getattr(grid, "flat", grid)
    listed = _members(flat)
    if not all(hasattr(each, "platform") for each in listed):
        raise errors.wrong_argument(function, "devices", value, "JAX devices, such as jax.devices()")
    return listed


def _members(value: Any) -> list[Any]:
    """The members of a container other than text; anything else is one member."""
    several = hasattr(value, "__iter__") and not isinstance(value, str)
    return list(value) if several else [value]
