"""From the placed graph to one jitted JAX function.

Each node binds again the very primitive it came from; each value is pinned where the plan puts it, so nothing is left
for the partitioner to guess. A collective node is two pins in a row: where the value was, where it goes. On one device
there are no pins and the program is the traced one.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr
from jax.sharding import Mesh

from ir import jax_api
from ir._compat import equation_context
from ir.graph import Constant, Graph, Node, Operand, Value
from ir.ops import entered, op_of
from ir.staging.in_place import put_back
from ir.staging.static_leaves import hidden, shown
from ir.types import TensorType
from passes import errors, require
from passes.arguments import difference
from passes.canonicalize import canonicalize
from passes.pipeline import place
from passes.planner.plan import Plan
from passes.retype import whole
from passes.sharding.jax_mesh import device_mesh, named_sharding


def lower(
    graph: Graph,
    plan: Plan,
    devices: Sequence[Any] | Mesh | None = None,
    *,
    donate: bool = False,
    at_rest: Sequence[int] = (),
) -> Callable[..., Any]:
    """The step as a jitted function of the traced signature, laid out according to `plan`.

    Args:
        donate: the carried state is updated in place.
        at_rest: arguments (by position) that are stored as state is between steps, though the function gives none back.

    Raises:
        PlanError: the graph was parsed from text, or the devices do not fit the plan's mesh.

    The step itself raises `TypeError` for arguments of another structure, shape, dtype or other axes than were traced.
    """
    if require.graph(graph, "lower").trees is None:
        raise errors.no_origin(graph.name)
    at_rest = require.positions(at_rest, len(graph.trees.arguments.children()), "lower")
    placed = place(canonicalize(graph), require.plan(plan, "lower"), _leaf_positions(graph, at_rest))
    return lower_placed(placed, plan, devices, donate=donate)


def lower_placed(
    placed: Graph, plan: Plan, devices: Sequence[Any] | Mesh | None = None, *, donate: bool = False
) -> Callable[..., Any]:
    """The same for a step that all passes have run on already, as in the `placed` of `passes.run`."""
    if require.graph(placed, "lower_placed").trees is None:
        raise errors.no_origin(placed.name)
    return lowered(placed, device_mesh(require.plan(plan, "lower_placed"), devices), Meaning(), donate=donate)


def lowered(placed: Graph, mesh: Mesh, meaning: "Meaning", *, donate: bool = False) -> Callable[..., Any]:
    """A placed graph as a jitted function, with a meaning for its nodes."""
    run = _Runner(mesh if mesh.size > 1 else None, meaning)
    # Whoever calls the step knows nothing of layouts.
    inputs = tuple(replace(value, type=meaning.type(whole(value.type))) for value in placed.inputs)
    traced = replace(placed, inputs=inputs)

    def step(*arguments: Any) -> Any:
        different = difference(traced, arguments, {})
        if different is not None:  # JAX traces again for other arguments
            raise TypeError(different)
        outputs = run.graph(placed, jax_api.tree_leaves(arguments))
        return jax_api.tree_unflatten(placed.trees.outputs, outputs)

    step.__name__ = step.__qualname__ = placed.name
    donated = _state_arguments(placed) if donate else ()
    if mesh.size == 1:
        return _named_errors(traced, jax_api.jit(step, donate_argnums=donated))
    jitted = jax_api.jit(
        step,
        in_shardings=_input_shardings(placed, mesh),
        out_shardings=output_shardings(placed, mesh),
        donate_argnums=donated,
    )
    return _named_errors(traced, jitted)


def _named_errors(graph: Graph, jitted: Any) -> Callable[..., Any]:
    """The jitted step; where it refuses its arguments, the error says why in named types and not in those of pytrees.

    What a jitted function has besides being called (`lower`, `trace`, `eval_shape`, …) it has too.
    """

    static, updated = graph.trees.static, graph.trees.updated

    def explained(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return function(*arguments, **named)
            except (TypeError, ValueError):
                different = difference(graph, hidden(arguments) if static else arguments, named)
                if different is None:
                    raise
                raise TypeError(different) from None

        return call

    def hiding(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            return function(*hidden(arguments), **named)

        return call if static else function

    def showing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            return shown(function(*arguments, **named))

        return call if static else function

    def updating(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            arrays, result = function(*arguments, **named)
            put_back(arguments, updated, arrays)
            return result

        return call if updated is not None else function

    step: Any = functools.update_wrapper(explained(updating(showing(hiding(jitted)))), jitted)
    for name in ("lower", "trace", "eval_shape"):
        setattr(step, name, explained(hiding(getattr(jitted, name))))
    step.clear_cache = jitted.clear_cache
    return step


def _state_arguments(graph: Graph) -> tuple[int, ...]:
    """Positions of the arguments that are state: the first, where the step gives it back, and what it updates in place
    as a whole."""
    carried = {before for before, _ in graph.carried}
    if graph.trees.updated is None:
        return (0,) if carried else ()
    arguments = range(len(graph.trees.arguments.children()))
    leaves = {argument: _leaf_positions(graph, (argument,)) for argument in arguments}
    return tuple(i for i, positions in leaves.items() if positions and carried.issuperset(positions))


def _leaf_positions(graph: Graph, arguments: Sequence[int]) -> tuple[int, ...]:
    """Positions among the graph's inputs of the leaves of some arguments."""
    counts = [child.num_leaves for child in graph.trees.arguments.children()]
    return tuple(i for a in arguments for i in range(sum(counts[:a]), sum(counts[: a + 1])))


def input_shardings(placed: Graph, mesh: Mesh) -> Any:
    """The shardings of the step's arguments, in their structure."""
    if require.graph(placed, "input_shardings").trees is None:
        raise errors.no_origin(placed.name)
    if not isinstance(mesh, Mesh):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise errors.wrong_argument("input_shardings", "mesh", mesh, "a jax.sharding.Mesh, from passes.device_mesh")
    return shown(_input_shardings(placed, mesh))


def _input_shardings(placed: Graph, mesh: Mesh) -> Any:
    leaves = [named_sharding(value.type, mesh) for value in placed.inputs]
    return jax_api.tree_unflatten(placed.trees.arguments, leaves)


def output_shardings(placed: Graph, mesh: Mesh) -> Any:
    """The shardings of the step's result, in its structure."""
    leaves = [named_sharding(operand.type, mesh) for operand in placed.outputs]
    return jax_api.tree_unflatten(placed.trees.outputs, leaves)


class Meaning:
    """What a node does with the values of its operands: here what it does in the step."""

    def type(self, type_: TensorType) -> TensorType:
        """The type of a value."""
        return type_

    def constant(self, operand: Constant) -> Any:
        """The value of a number written in the program."""
        return operand.value

    def act(self, node: Node, arrays: Sequence[Any], shards: Mapping[str, int], run: Callable[..., Any]) -> Any:
        """The results of a node; `run` gives those of a body."""
        return op_of(node).bind(node, arrays, shards)


class _Runner:
    """Interprets a placed graph with JAX values (tracers, under `jit`). Without a mesh nothing is pinned."""

    def __init__(self, mesh: Mesh | None, meaning: Meaning) -> None:
        self.mesh = mesh
        self.meaning = meaning

    def graph(self, graph: Graph, inputs: Sequence[Any]) -> list[Any]:
        values: dict[int, Any] = {}
        for value, array in zip(graph.inputs, inputs, strict=True):
            values[value.id] = self.pinned(value, array)

        def read(operand: Operand) -> Any:
            return self.meaning.constant(operand) if isinstance(operand, Constant) else values[operand.id]

        for node in graph.nodes:
            results = self.node(node, [read(operand) for operand in node.inputs])
            for value, array in zip(node.outputs, results, strict=True):
                values[value.id] = self.pinned(value, array)
        return [read(operand) for operand in graph.outputs]

    def pinned(self, value: Value, array: Any) -> Any:
        """The array, held where its type says. A partial sum has no place yet: its all-reduce comes next."""
        if self.mesh is None or value.type.partial or value.type.dtype == "token" or _is_reference(array):
            return array
        return jax_api.with_sharding_constraint(array, named_sharding(value.type, self.mesh))

    def node(self, node: Node, arrays: list[Any]) -> Sequence[Any]:
        op, origin = op_of(node), node.origin
        if op.moves_data_only:
            return [self.summed(node, arrays[0])]
        if op.relabels(node):
            return arrays
        assert origin is not None
        if entered(node):
            node = replace(node, origin=replace(origin, params={**origin.params, **self.bodies(node)}))
        shards = self.mesh.shape if self.mesh is not None else {}
        with equation_context(origin.context, origin.source_info):
            return self.meaning.act(node, arrays, shards, _Runner(None, self.meaning).graph)

    def summed(self, node: Node, array: Any) -> Any:
        """A sum over some mesh axes is first pinned in the place where it is made, then moved."""
        operand, result = node.inputs[0], node.outputs[0]
        if self.mesh is not None and operand.type.partial and not result.type.partial:
            made = replace(operand.type, partial=())
            array = jax_api.with_sharding_constraint(array, named_sharding(made, self.mesh))
        return array

    def bodies(self, node: Node) -> dict[str, Any]:
        """The parameters of a structured primitive, with its bodies lowered."""
        assert node.origin is not None
        op, params = op_of(node), node.origin.params
        closed = [
            jaxpr if _takes_references(jaxpr) else self.closed(body, self.shapes(body, jaxpr))
            for jaxpr, body in zip(op.jaxprs(params), node.bodies, strict=True)
        ]
        return op.with_jaxprs(params, closed)

    def shapes(self, body: Graph, jaxpr: Any) -> list[Any]:
        """Shapes of the inputs of a body, weak types included, as JAX traced them."""
        shapes: list[Any] = []
        for value, aval in zip(body.inputs, _avals(jaxpr), strict=True):
            same = self.meaning.type(value.type) == value.type
            dtype: Any = aval.dtype if same else self.meaning.type(value.type).dtype
            weak = same and getattr(aval, "weak_type", False)
            shapes.append(jax.ShapeDtypeStruct(aval.shape, dtype, weak_type=weak))
        return shapes

    def closed(self, body: Graph, avals: Sequence[Any]) -> ClosedJaxpr:
        def function(*arrays: Any) -> list[Any]:
            return self.graph(body, arrays)

        return jax_api.make_jaxpr(function)(*avals)


def _is_reference(array: Any) -> bool:
    """Whether it is an array that is changed in place: what is pinned is what is read from it."""
    return hasattr(jax_api.typeof(array), "inner_aval")


def _takes_references(jaxpr: Any) -> bool:
    """Whether a body changes arrays from outside in place: it runs as JAX traced it, with nothing pinned inside."""
    return any(hasattr(aval, "inner_aval") for aval in _avals(jaxpr))


def _avals(jaxpr: Any) -> list[Any]:
    return jaxpr.in_avals if hasattr(jaxpr, "in_avals") else [v.aval for v in jaxpr.invars]
