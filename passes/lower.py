"""From the placed graph to one jitted JAX function.

The graph is the program of one device: `lower` emits one `jax.shard_map` over the mesh, in which each node binds again
the very primitive it came from, on local shards, and each collective node is the JAX collective of its kind. What is
printed is what runs. With `partitioner="xla"` every value is held where the plan puts it instead, on whole arrays, and
XLA's partitioner finds the collectives; a step with an operation that shards alone cannot do is lowered so as well. On
one device the program is the traced one (`passes.as_traced`).
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from jax.sharding import Mesh

from haliax.core.merged import Target, merging
from ir import jax_api
from ir.graph import Graph
from ir.shards import Shards
from ir.staging.in_place import put_back
from ir.staging.static_leaves import hidden, shown
from passes import errors, require
from passes.arguments import difference
from passes.as_traced import as_traced
from passes.canonicalize import canonicalize
from passes.for_tpu import for_tpu
from passes.pipeline import place
from passes.planner.plan import Plan
from passes.retype import whole
from passes.runner import Runner, WholeRunner, must_be_whole
from passes.sharding.jax_mesh import device_mesh, named_sharding, partition_spec
from passes.stages import StagedRunner, in_stages

Partitioner = Literal["explicit", "xla"]
"""Who makes the program of one device: the passes, or the compiler."""


def lower(
    graph: Graph,
    plan: Plan,
    devices: Sequence[Any] | Mesh | None = None,
    *,
    donate: bool = False,
    at_rest: Sequence[int] = (),
    partitioner: Partitioner = "explicit",
    ordered_sums: bool = False,
) -> Callable[..., Any]:
    """The step as a jitted function of the traced signature, laid out according to `plan`.

    Args:
        donate: the carried state is updated in place.
        partitioner: `explicit` for the printed program, on each device's shards; `xla` for the compiler's partitioner.
        at_rest: arguments (by position) that are stored as state is between steps, though the function gives none back.
        ordered_sums: devices add in their own order, so that on CPU devices of several processes the bits are those of
            one process. What is printed as an all-reduce or a reduce-scatter is then an exchange and sums. For
            `explicit` only.

    Raises:
        PlanError: the graph was parsed from text, or the devices do not fit the plan's mesh.

    The step itself raises `TypeError` for arguments of another structure, shape, dtype or other axes than were traced.
    """
    if require.graph(graph, "lower").trees is None:
        raise errors.no_origin(graph.name)
    at_rest = require.positions(at_rest, len(graph.trees.arguments.children()), "lower")
    placed = place(canonicalize(graph), require.plan(plan, "lower"), _leaf_positions(graph, at_rest))
    return lower_placed(placed, plan, devices, donate=donate, partitioner=partitioner, ordered_sums=ordered_sums)


def lower_placed(
    placed: Graph,
    plan: Plan,
    devices: Sequence[Any] | Mesh | None = None,
    *,
    donate: bool = False,
    partitioner: Partitioner = "explicit",
    ordered_sums: bool = False,
) -> Callable[..., Any]:
    """The same for a step that all passes have run on already, as in the `placed` of `passes.run`."""
    if require.graph(placed, "lower_placed").trees is None:
        raise errors.no_origin(placed.name)
    mesh = device_mesh(require.plan(plan, "lower_placed"), devices)
    require.partitioner(partitioner, "lower")
    alone = mesh.size == 1 and not in_stages(placed)
    on_tpu = mesh.devices.flat[0].platform == "tpu" and partitioner == "explicit" and not alone
    made = for_tpu(placed, plan) if on_tpu else placed
    run = (as_traced(placed) if alone else None) or program(made, mesh, partitioner, ordered_sums=ordered_sums)
    return jitted(placed, mesh, run, donate=donate)


def jitted(placed: Graph, mesh: Mesh, run: Callable[..., Sequence[Any]], *, donate: bool = False) -> Callable[..., Any]:
    """The step that computes a placed graph by `run`, a function of its inputs one by one."""
    # Whoever calls the step knows nothing of layouts.
    traced = replace(placed, inputs=tuple(replace(value, type=whole(value.type)) for value in placed.inputs))

    def step(*arguments: Any) -> Any:
        different = difference(traced, arguments, {})
        if different is not None:  # JAX traces again for other arguments
            raise TypeError(different)
        outputs = run(*jax_api.tree_leaves(arguments))
        return jax_api.tree_unflatten(placed.trees.outputs, outputs)

    step.__name__ = step.__qualname__ = placed.name
    donated = _state_arguments(placed) if donate else ()
    if mesh.size == 1:
        return _named_errors(traced, jax_api.jit(step, donate_argnums=donated))
    function = jax_api.jit(
        step,
        in_shardings=_input_shardings(placed, mesh),
        out_shardings=output_shardings(placed, mesh),
        donate_argnums=donated,
    )
    return _named_errors(traced, function)


def program(
    placed: Graph,
    mesh: Mesh,
    partitioner: Partitioner,
    on_shards: Callable[[Shards], Runner] = StagedRunner,
    on_whole: Callable[[Mesh | None], Runner] = WholeRunner,
    *,
    ordered_sums: bool = False,
) -> Callable[..., Sequence[Any]]:
    """The graph as a function of its inputs, run on shards, or on whole arrays where it must be."""
    if mesh.size == 1 and not in_stages(placed):
        return lambda *leaves: on_whole(None).graph(placed, leaves)
    whole = must_be_whole(placed) if partitioner == "explicit" else None
    if whole is not None:
        warnings.warn(errors.left_to_the_compiler(whole), errors.PlanWarning, stacklevel=3)
    if partitioner == "xla" or whole is not None:
        return lambda *leaves: on_whole(mesh).graph(placed, leaves)
    target = Target(mesh.devices.flat[0].platform, 1)
    sizes = {str(axis): size for axis, size in mesh.shape.items()}
    in_turn, tiled = target.platform == "cpu" and not ordered_sums, target.platform == "tpu"
    shards = Shards(sizes, ordered=ordered_sums, in_turn=in_turn, tiled=tiled)

    def local(*leaves: Any) -> tuple[Any, ...]:
        with merging(target):
            return tuple(on_shards(shards).graph(placed, leaves))

    return jax_api.shard_map(
        local,
        mesh=mesh,
        in_specs=tuple(partition_spec(value.type) for value in placed.inputs),
        out_specs=tuple(partition_spec(operand.type) for operand in placed.outputs),
        check_vma=False,
    )


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
