"""Runs a graph node by node with JAX values (tracers, under `jit`): on one device's shards, or on whole arrays.

On shards (`LocalRunner`, inside of a `shard_map`) each node is bound on what the device has, as its op says, and a
collective node is the JAX collective of its kind: the compiler has nothing to decide. On whole arrays (`WholeRunner`)
each value is held where its type says, and the compiler's partitioner finds the collectives; without a mesh nothing is
held, and the program is the traced one.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr
from jax.sharding import Mesh

from ir import jax_api
from ir.graph import Constant, Graph, Node, Operand, Value
from ir.ops import entered, op_of
from ir.ops.op import Passing
from ir.shards import Shards, bind_exactly
from passes.in_turn import behind, sends
from passes.sharding.jax_mesh import named_sharding


class Runner(ABC):
    """Interprets a graph."""

    def graph(self, graph: Graph, inputs: Sequence[Any]) -> list[Any]:
        """What the graph gives for its inputs."""
        values: dict[int, Any] = {}
        for value, array in zip(graph.inputs, inputs, strict=True):
            values[value.id] = self.pinned(value, array)

        def read(operand: Operand) -> Any:
            return self.constant(operand) if isinstance(operand, Constant) else values[operand.id]

        for node in graph.nodes:
            results = self.node(node, [read(operand) for operand in node.inputs])
            for value, array in zip(node.outputs, results, strict=True):
                values[value.id] = self.pinned(value, array)
        return [read(operand) for operand in graph.outputs]

    def node(self, node: Node, arrays: list[Any]) -> Sequence[Any]:
        """What a node gives for its operands."""
        if entered(node):
            assert node.origin is not None
            params = {**node.origin.params, **self.bodies(node)}
            return self.primitive(node, arrays, params)
        return self.bind(node, arrays)

    @abstractmethod
    def bind(self, node: Node, arrays: list[Any]) -> Sequence[Any]:
        """What a node without bodies gives."""

    def constant(self, operand: Constant) -> Any:
        """A number that is written in the program."""
        return operand.value

    def pinned(self, value: Value, array: Any) -> Any:
        """An array as it goes on."""
        return array

    def primitive(self, node: Node, arrays: Sequence[Any], params: dict[str, Any]) -> Sequence[Any]:
        """What the primitive behind a node gives."""
        return bind_exactly(node, arrays, params)

    def bodies(self, node: Node) -> dict[str, Any]:
        """The parameters of a structured primitive, with its bodies lowered."""
        assert node.origin is not None
        op, params = op_of(node), node.origin.params
        closed = [
            jaxpr if takes_references(jaxpr) else self.closed(body, self.shapes(body, jaxpr))
            for jaxpr, body in zip(op.jaxprs(params), node.bodies, strict=True)
        ]
        return op.with_jaxprs(params, closed)

    def closed(self, body: Graph, avals: Sequence[Any]) -> ClosedJaxpr:
        """A body as JAX has it."""

        def function(*arrays: Any) -> list[Any]:
            return self.graph(body, arrays)

        return jax_api.make_jaxpr(function)(*avals)

    def shapes(self, body: Graph, jaxpr: Any) -> list[Any]:
        """Shapes of the inputs of a body, weak types included, as JAX traced them."""
        return [
            jax.ShapeDtypeStruct(self.shape(value, aval), self.dtype(value, aval), weak_type=self.weak(value, aval))
            for value, aval in zip(body.inputs, _avals(jaxpr), strict=True)
        ]

    def shape(self, value: Value, aval: Any) -> tuple[int, ...]:
        """The shape that a body's input has."""
        return aval.shape

    def dtype(self, value: Value, aval: Any) -> Any:
        """The dtype that a body's input has."""
        return aval.dtype

    def weak(self, value: Value, aval: Any) -> bool:
        """Whether JAX lets the dtype of a body's input give way to others."""
        return getattr(aval, "weak_type", False)


class LocalRunner(Runner):
    """On one device's shards."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self._sent: Sequence[Any] = ()
        """What the last collective gave, in the body that is run; in one process all since the last loop."""
        self._loop: Sequence[Any] = ()
        """What the last loop with collectives gave."""

    def bind(self, node: Node, arrays: list[Any]) -> Sequence[Any]:
        op = op_of(node)
        if op.rounds(node, self.shards.sizes):
            return op.bind_in_rounds(node, arrays, self.shards, self.passing(node))
        return op.bind(node, arrays, self.shards)

    def passing(self, node: Node) -> list[Passing]:
        """What runs each body by which values of a node go round."""
        return [partial(self.passed, body) for body in node.bodies]

    def passed(self, body: Graph, arrays: Sequence[Any]) -> list[Any]:
        """What such a body gives."""
        with self._inside():
            return self.graph(body, arrays)

    def node(self, node: Node, arrays: list[Any]) -> Sequence[Any]:
        if entered(node) and op_of(node).only_groups(node):
            return self.graph(node.bodies[0], arrays)
        if self.shards.in_turn and sends(node):
            return self._beside_no_loop(node, arrays)
        if not (self.shards.ordered and sends(node)):
            return super().node(node, arrays)
        self._sent = super().node(node, behind(arrays, self._sent))
        return self._sent

    def _beside_no_loop(self, node: Node, arrays: list[Any]) -> Sequence[Any]:
        """What a collective, or a loop that has some, gives: a loop behind all before it, and all after it behind the
        loop. Collectives beside one another come in the same order on all devices, by XLA itself."""
        if node.bodies:
            self._sent = self._loop = super().node(node, behind(arrays, self._sent))
            return self._sent
        results = super().node(node, behind(arrays, self._loop))
        self._sent = [*self._sent, *results]
        return results

    def closed(self, body: Graph, avals: Sequence[Any]) -> ClosedJaxpr:
        with self._inside():
            return super().closed(body, avals)

    @contextmanager
    def _inside(self) -> Generator[None]:
        """A body, in which nothing has been sent yet."""
        outside = self._sent, self._loop
        self._sent = self._loop = ()
        try:
            yield
        finally:
            self._sent, self._loop = outside

    def shape(self, value: Value, aval: Any) -> tuple[int, ...]:
        return self.shards.shape(value.type)


class WholeRunner(Runner):
    """On whole arrays, each held where its type says. Without a mesh nothing is held."""

    def __init__(self, mesh: Mesh | None) -> None:
        self.mesh = mesh

    def pinned(self, value: Value, array: Any) -> Any:
        """The array, held where its type says. A partial sum has no place yet: its all-reduce comes next."""
        if self.mesh is None or value.type.partial or value.type.dtype == "token" or _is_reference(array):
            return array
        return jax_api.with_sharding_constraint(array, named_sharding(value.type, self.mesh))

    def bind(self, node: Node, arrays: list[Any]) -> Sequence[Any]:
        op, origin = op_of(node), node.origin
        if op.moves_data_only:
            return [self._summed(node, arrays[0])]
        if op.relabels(node):
            return arrays
        assert origin is not None
        if op.holds_array:
            return [origin.params["value"]]
        sizes = self.mesh.shape if self.mesh is not None else dict[str, int]()
        return self.primitive(node, arrays, dict(op.bound(node, origin.params, sizes)))

    def _summed(self, node: Node, array: Any) -> Any:
        """A sum over some mesh axes is first held in the place where it is made, then moved."""
        operand, result = node.inputs[0], node.outputs[0]
        if self.mesh is not None and operand.type.partial and not result.type.partial:
            made = replace(operand.type, partial=())
            array = jax_api.with_sharding_constraint(array, named_sharding(made, self.mesh))
        return array


def must_be_whole(graph: Graph) -> Node | None:
    """The first node that no device can run on its shards alone: a user's `shard_map`, arrays that are changed in
    place, calls to the host that must happen once. None where there is none."""
    for node in graph.walk():
        op = op_of(node)
        if op.is_whole(node) or (
            node.bodies and node.origin and any(map(takes_references, op.jaxprs(node.origin.params)))
        ):
            return node
    return None


def _is_reference(array: Any) -> bool:
    """Whether it is an array that is changed in place: what is held is what is read from it."""
    return hasattr(jax_api.typeof(array), "inner_aval")


def takes_references(jaxpr: Any) -> bool:
    """Whether a body changes arrays from outside in place: it runs as JAX traced it, with nothing held inside."""
    return any(hasattr(aval, "inner_aval") for aval in _avals(jaxpr))


def _avals(jaxpr: Any) -> list[Any]:
    return jaxpr.in_avals if hasattr(jaxpr, "in_avals") else [v.aval for v in jaxpr.invars]
