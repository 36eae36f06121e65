"""Where in a step the first number comes from that is not finite.

The graph runs node by node on one device, once, and says of each node whether all that it gives is finite. Some nodes
give infinities by rights (a mask that softmax turns into zeros): what was not finite in a healthy run of the same graph
does not count. Into the first node that does count, a loop over layers say, the search goes on, trip by trip.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ir import jax_api
from ir.graph import Constant, Graph, Node, Operand
from ir.jax_api import jnp
from ir.ops import op_of
from ir.ops.op import params_of
from passes.runner import WholeRunner

_HURRY: dict[str, dict[str, Any]] = {"cpu": {"xla_backend_optimization_level": 0}}


@dataclass(frozen=True)
class FirstNonFinite:
    """A node that gives a number which is not finite, though all that it reads is finite.

    Attributes:
        inside: the trips of the loops around it, outermost first: the loop's name, and the trip counted from 0.
    """

    node: Node
    inside: tuple[tuple[str, int], ...] = ()


def first_nonfinite(
    graph: Graph, inputs: Sequence[Any], healthy: Callable[[], Sequence[Any]] | None = None
) -> FirstNonFinite | int | None:
    """The first node that is to blame; the position of an input where that is not finite itself; None if all is finite.

    Args:
        inputs: the arrays of the graph's inputs, whole.
        healthy: gives inputs with which all goes well; without them only NaN and +inf count.
    """
    bad = [i for i, array in enumerate(inputs) if not bool(_finite(array, False))]
    if bad:
        return bad[0]
    return _Search().within(graph, list(inputs), healthy, ())


class _Search:
    """Runs graphs and says of each of their nodes whether it is good; each graph is compiled once."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[int, bool], Any] = {}

    def within(
        self,
        graph: Graph,
        inputs: list[Any],
        healthy: Callable[[], Sequence[Any]] | None,
        inside: tuple[tuple[str, int], ...],
    ) -> FirstNonFinite | None:
        """The first bad node of a graph."""
        flags = np.asarray(self._flags(graph, healthy is None)(*inputs))
        if healthy is not None and not flags.all():
            flags = flags | ~np.asarray(self._flags(graph, False)(*healthy()))
        wrong = np.flatnonzero(~flags)
        if not len(wrong):
            return None
        node = graph.nodes[int(wrong[0])]
        return self._deeper(graph, node, inputs, inside) or FirstNonFinite(node, inside)

    def _deeper(
        self, graph: Graph, node: Node, inputs: list[Any], inside: tuple[tuple[str, int], ...]
    ) -> FirstNonFinite | None:
        """The first bad node in the bodies of a node; None where it has none that can be run by themselves."""
        op = op_of(node)
        if op.scans(node):
            return self._trip_by_trip(node, _operands(graph, node, inputs), inside)
        if len(node.bodies) == 1 and op.only_groups(node):
            return self.within(node.bodies[0], _operands(graph, node, inputs), None, inside)
        return None

    def _trip_by_trip(
        self, node: Node, operands: list[Any], inside: tuple[tuple[str, int], ...]
    ) -> FirstNonFinite | None:
        body, before = node.bodies[0], node.count("constants")
        start = before + node.count("carries")
        constants, carries, stacked = operands[:before], operands[before:start], operands[start:]

        def run_body(*arrays: Any) -> list[Any]:
            return WholeRunner(None).graph(body, arrays)

        run = _jitted(run_body)
        trips = range(node.count("trips"))
        name = ", ".join(dim.name or "?" for dim in node.dims("over")) or "loop"
        for trip in reversed(trips) if params_of(node)["reverse"] else trips:
            arrays = [*constants, *carries, *(array[trip] for array in stacked)]
            found = self.within(body, arrays, None, (*inside, (name, trip)))
            if found is not None:
                return found
            carries = run(*arrays)[: len(carries)]
        return None

    def _flags(self, graph: Graph, masks_are_fine: bool) -> Any:
        """From the inputs of a graph to a bool for each of its nodes: whether all that it gives is finite."""
        key = (id(graph), masks_are_fine)
        if key not in self._compiled:

            def flags(*arrays: Any) -> Any:
                return _flags(graph, arrays, masks_are_fine)

            self._compiled[key] = _jitted(flags)
        return self._compiled[key]


def _flags(graph: Graph, inputs: Sequence[Any], masks_are_fine: bool) -> Any:
    runner, flags = WholeRunner(None), list[Any]()
    values = {value.id: array for value, array in zip(graph.inputs, inputs, strict=True)}
    for node in graph.nodes:
        results = runner.node(node, [_read(runner, values, operand) for operand in node.inputs])
        values |= zip((value.id for value in node.outputs), results, strict=True)
        each = [_finite(array, masks_are_fine) for array in results]
        flags.append(jnp.all(jnp.stack(each)) if each else jnp.asarray(True))
    return jnp.stack(flags) if flags else jnp.ones((0,), bool)


def _operands(graph: Graph, node: Node, inputs: list[Any]) -> list[Any]:
    """What a node of a graph reads."""

    def run(*arrays: Any) -> list[Any]:
        runner = WholeRunner(None)
        values = {value.id: array for value, array in zip(graph.inputs, arrays, strict=True)}
        for each in graph.nodes:
            operands = [_read(runner, values, operand) for operand in each.inputs]
            if each is node:
                return [jnp.asarray(array) for array in operands]
            values |= zip((value.id for value in each.outputs), runner.node(each, operands), strict=True)
        raise AssertionError("the node is in the graph")

    return list(_jitted(run)(*inputs))


def _jitted(function: Any) -> Any:
    """The function compiled in a hurry: it runs once or twice."""
    return jax_api.jit(function, compiler_options=_HURRY.get(jax.default_backend()))


def _read(runner: WholeRunner, values: dict[int, Any], operand: Operand) -> Any:
    return runner.constant(operand) if isinstance(operand, Constant) else values[operand.id]


def _finite(array: Any, masks_are_fine: bool) -> Any:
    """Whether all of an array is finite; -inf is taken for a mask where `masks_are_fine`."""
    dtype = getattr(array, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        return jnp.asarray(True)
    good = jnp.isfinite(array)
    return jnp.all(good | jnp.isneginf(array) if masks_are_fine else good)
