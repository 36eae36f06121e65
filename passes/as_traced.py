"""On one device, the step runs as JAX traced it.

A graph is the traced program with its calls inlined, its dead code gone and its equal nodes merged. XLA does all of
this too, but later, and what it has done before decides what it fuses and takes out of loops: the same function,
rounded otherwise. So on one device, where a plan changes nothing, what is lowered is JAX's own program, and a step
leaves the bits that `jax.jit` of it leaves.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import jaxpr_as_fun

from ir.graph import Graph
from passes.canonicalize import canonical
from passes.retype import without_layout


def as_traced(placed: Graph) -> Callable[..., Sequence[Any]] | None:
    """The traced program of a graph, as a function of its inputs; None where the graph is another one by now, as after
    a pass that rewrites it, or an edit."""
    if placed.trees is None or placed.trees.program is None:
        return None
    now, traced = without_layout(placed), placed.trees.graph
    if not (_same(now, traced) or _same(now, canonical(traced))):
        return None
    made_of: Any = jaxpr_as_fun
    return made_of(placed.trees.program())


def _same(a: Graph, b: Graph) -> bool:
    """Whether two graphs are equal and bind the same primitives, by which graphs are not compared."""
    return a == b and all(x.origin is y.origin for x, y in zip(a.walk(), b.walk(), strict=True))
