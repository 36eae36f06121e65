"""From the placed graph to one jitted JAX function.

Each node binds again the very primitive it came from; each value is pinned where the plan puts it, so nothing is left
for the partitioner to guess. A collective node is two pins in a row: where the value was, where it goes. On one device
there are no pins and the program is the traced one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ir import jax_api
from ir._compat import equation_context
from ir.control import body_param
from ir.graph import Constant, Graph, Node, Operand, Value
from ir.kinds import entered, kind_of
from ir.types import TensorType
from passes import errors
from passes.canonicalize import canonicalize
from passes.pipeline import place
from passes.planner.plan import Plan
from passes.retype import whole


def device_mesh(plan: Plan, devices: Sequence[Any] | None = None) -> Mesh:
    """The JAX mesh of a plan, row-major over `devices` (default: the first of `jax.devices()`).

    Raises `PlanError` where there are too few devices, or a given list does not have as many as the mesh.
    """
    wanted = plan.mesh.devices
    found = list(devices) if devices is not None else jax_api.devices()[:wanted]
    if len(found) != wanted:
        raise errors.wrong_devices(wanted, len(found), found[0].platform if found else "cpu")
    shape = np.array(found, dtype=object).reshape(plan.mesh.sizes)
    return Mesh(shape, plan.mesh.axes, axis_types=(AxisType.Auto,) * len(plan.mesh.axes))


def lower(
    graph: Graph,
    plan: Plan,
    devices: Sequence[Any] | None = None,
    *,
    donate: bool = False,
    at_rest: Sequence[int] = (),
) -> Callable[..., Any]:
    """The step as a jitted function of the traced signature, laid out according to `plan`.

    Args:
        donate: the carried state is updated in place.
        at_rest: arguments (by position) that lie where state lies between steps, though the function gives none back.

    Raises:
        PlanError: the graph was parsed from text, or the devices do not fit the plan's mesh.
    """
    if graph.trees is None:
        raise errors.no_origin(graph.name)
    placed = place(canonicalize(graph), plan, _leaf_positions(graph, at_rest))
    return lower_placed(placed, plan, devices, donate=donate)


def lower_placed(
    placed: Graph, plan: Plan, devices: Sequence[Any] | None = None, *, donate: bool = False
) -> Callable[..., Any]:
    """The same for a step that all passes have run on already, as in the `placed` of `passes.run`."""
    if placed.trees is None:
        raise errors.no_origin(placed.name)
    mesh = device_mesh(plan, devices)
    run = _Runner(mesh if mesh.size > 1 else None)

    def step(*arguments: Any) -> Any:
        leaves, given = jax_api.tree_flatten(arguments)
        _check_arguments(placed, leaves, given)
        outputs = run.graph(placed, leaves)
        return jax_api.tree_unflatten(placed.trees.outputs, outputs)

    step.__name__ = step.__qualname__ = placed.name
    donated = (0,) if donate and placed.carried else ()
    if mesh.size == 1:
        return jax_api.jit(step, donate_argnums=donated)
    return jax_api.jit(
        step,
        in_shardings=input_shardings(placed, mesh),
        out_shardings=output_shardings(placed, mesh),
        donate_argnums=donated,
    )


def _leaf_positions(graph: Graph, arguments: Sequence[int]) -> tuple[int, ...]:
    """Positions among the graph's inputs of the leaves of some arguments."""
    counts = [child.num_leaves for child in graph.trees.arguments.children()]
    return tuple(i for a in arguments for i in range(sum(counts[:a]), sum(counts[: a + 1])))


def _check_arguments(graph: Graph, leaves: Sequence[Any], given: Any) -> None:
    """The step was traced for these arguments and no others. Runs while JAX traces, not while the step runs."""
    if given != graph.trees.arguments:
        raise errors.other_structure(graph.name, str(graph.trees.arguments), str(given))
    for path, value, leaf in zip(graph.input_paths, graph.inputs, leaves, strict=True):
        if tuple(leaf.shape) != value.type.shape or str(leaf.dtype) != value.type.dtype:
            raise errors.other_array(graph.name, path, whole(value.type), str(leaf.dtype), tuple(leaf.shape))


def input_shardings(placed: Graph, mesh: Mesh) -> Any:
    """The shardings of the step's arguments, in their structure."""
    leaves = [named_sharding(value.type, mesh) for value in placed.inputs]
    return jax_api.tree_unflatten(placed.trees.arguments, leaves)


def output_shardings(placed: Graph, mesh: Mesh) -> Any:
    """The shardings of the step's result, in its structure."""
    leaves = [named_sharding(operand.type, mesh) for operand in placed.outputs]
    return jax_api.tree_unflatten(placed.trees.outputs, leaves)


def named_sharding(type_: TensorType, mesh: Mesh) -> NamedSharding:
    """The JAX sharding of a placed type."""
    return NamedSharding(mesh, PartitionSpec(*(dim.mesh or None for dim in type_.dims)))


class _Runner:
    """Interprets a placed graph with JAX values (tracers, under `jit`). Without a mesh nothing is pinned."""

    def __init__(self, mesh: Mesh | None) -> None:
        self.mesh = mesh

    def graph(self, graph: Graph, inputs: Sequence[Any]) -> list[Any]:
        values: dict[int, Any] = {}
        for value, array in zip(graph.inputs, inputs, strict=True):
            values[value.id] = self.pinned(value, array)

        def read(operand: Operand) -> Any:
            return operand.value if isinstance(operand, Constant) else values[operand.id]

        for node in graph.nodes:
            results = self.node(node, [read(operand) for operand in node.inputs])
            for value, array in zip(node.outputs, results, strict=True):
                values[value.id] = self.pinned(value, array)
        return [read(operand) for operand in graph.outputs]

    def pinned(self, value: Value, array: Any) -> Any:
        """The array, held where its type says. A partial sum has no place yet: its all-reduce comes next."""
        if self.mesh is None or value.type.partial or value.type.dtype == "token":
            return array
        return jax_api.with_sharding_constraint(array, named_sharding(value.type, self.mesh))

    def node(self, node: Node, arrays: list[Any]) -> Sequence[Any]:
        if node.kind == "reshard" or kind_of(node).communicates:
            return [self.summed(node, arrays[0])]
        if node.kind == "rename":
            return arrays
        origin = node.origin
        assert origin is not None
        if node.kind == "constant":
            return [origin.params["value"]]
        if node.kind == "map" and node.fn == "named":
            return arrays
        params = dict(origin.params)
        if entered(node):
            params |= self.bodies(node)
        with equation_context(origin.context, origin.source_info):
            result = origin.primitive.bind(*arrays, **origin.primitive.get_bind_params(params))
        return list(result) if origin.primitive.multiple_results else [result]

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
        params = node.origin.params
        closed = [self.closed(body, avals) for body, avals in zip(node.bodies, _body_avals(node), strict=True)]
        if node.fn == "scan":
            return {"jaxpr": closed[0]}
        if node.fn == "while":
            return {"cond_jaxpr": closed[0], "body_jaxpr": closed[1]}
        if node.kind == "branch":
            return {"branches": tuple(closed)}
        key = str(body_param(params))
        return {key: closed[0] if hasattr(params[key], "consts") else closed[0].jaxpr}

    def closed(self, body: Graph, avals: Sequence[Any]) -> ClosedJaxpr:
        def function(*arrays: Any) -> list[Any]:
            return self.graph(body, arrays)

        return jax_api.make_jaxpr(function)(*avals)


def _body_avals(node: Node) -> list[list[Any]]:
    """Shapes of the inputs of each body, weak types included, as JAX traced them."""
    assert node.origin is not None
    params = node.origin.params
    if node.fn == "while":
        jaxprs = [params["cond_jaxpr"], params["body_jaxpr"]]
    elif node.kind == "branch":
        jaxprs = list(params["branches"])
    else:
        jaxprs = [params[str(body_param(params))]]
    return [
        [
            jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False))
            for aval in (jaxpr.in_avals if hasattr(jaxpr, "in_avals") else [v.aval for v in jaxpr.invars])
        ]
        for jaxpr in jaxprs
    ]
