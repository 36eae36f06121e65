"""Whether a step gives the same values on its mesh as on one device: both computed in the ring, in a child process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

import ir
import passes
from ir.staging.static_leaves import hidden
from ir.types import TensorType
from levanter.compiler import errors
from levanter.compiler.compile import requested
from levanter.compiler.target import Target, UserStep, load_step
from levanter.compiler.user_shardings import beside, placed_by
from levanter.compiler.user_step import graph_of
from levanter.compiler.verify import answer_in_child
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from levanter.user_code import imported, load
from passes.shadow import unplaced
from passes.values import Reference, compare_values, flat

if TYPE_CHECKING:
    from ir.graph import Graph, Operand


def values_of_config(request: dict[str, Any]) -> dict[str, Any]:
    """The child's part for the training step of a configuration."""
    from levanter.config import loads

    config = loads(request["config"])
    return _values(ir.trace(train_step_of(config), state_shape(config), batch_shape(config)), request, {})


def values_of_step(request: dict[str, Any]) -> dict[str, Any]:
    """The child's part for a step of the user's."""
    step = load_step(Target(**request["target"]))
    return _values(graph_of(step), request, given_arrays(step))


def verified_step(
    target: Target, mesh: passes.DeviceMesh, shardings: Sequence[str] = (), against: str | None = None
) -> dict[str, Any]:
    """The answer of `levanter verify`: a step under shardings of its own, as `jax.jit` runs it, against one device.

    Args:
        target: the step.
        mesh: the devices.
        shardings: as `levanter.compiler.user_shardings` has them; none: `STEP_shardings` beside the step, if there.
        against: another step, which is the reference in place of this one.

    Raises:
        UserError: a step cannot be loaded, or the shardings do not fit.
        WorkFailed: the child process failed.
    """
    request = {
        "target": asdict(target),
        "mesh": mesh.as_dict(),
        "shardings": list(shardings),
        "against": against,
    }
    return answer_in_child(request, devices=mesh.devices, function="levanter.compiler.values:values_of_plain_step")


def values_of_plain_step(request: dict[str, Any]) -> dict[str, Any]:
    """The child's part of `verified_step`."""
    target = Target(**request["target"])
    step = load_step(target)
    graph = graph_of(step)
    reference = graph if request["against"] is None else _reference(request["against"], target, graph)
    sizes = request["mesh"]
    devices = np.array(jax.devices()[: prod(sizes.values())], dtype=object).reshape(tuple(sizes.values()))
    mesh = Mesh(devices, tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))
    given = _shardings(request["shardings"], target)
    function: Any = unplaced(flat(graph))
    if given is not None:
        before, after = placed_by(given, graph, step.arguments, mesh, target.step)
        function = jax.jit(function, in_shardings=tuple(before), out_shardings=after)
    wanted = Reference.of(reference, given=given_arrays(step))
    try:
        found = wanted.against(function)
    except ValueError as error:
        raise errors.cannot_place(target.step, error) from error
    return found.facts()


def _shardings(words: Sequence[str], target: Target) -> Any:
    """The shardings that the command line names, or those beside the step; None where there are none."""
    if words:
        return beside(load, words)
    module, _, name = target.step.rpartition(":")
    whole = imported(module, target.step)
    wanted = (f"{name}_shardings", "step_shardings")
    return next((getattr(whole, each) for each in wanted if hasattr(whole, each)), None)


def _reference(place: str, target: Target, graph: Graph) -> Graph:
    """The graph of the reference, which takes and gives the same arrays."""
    reference = graph_of(load_step(Target(place, target.arguments, target.names)))
    sides = (
        (graph.inputs, reference.inputs, errors.other_arguments),
        (graph.outputs, reference.outputs, errors.other_results),
    )
    for ours, theirs, error in sides:
        for a, b in zip_longest(map(_bare, ours), map(_bare, theirs), fillvalue="nothing"):
            if a != b:
                raise error(target.step, place, a, b)
    return reference


def _bare(operand: Operand) -> str:
    """The dtype and the shape of an array, without names."""
    return str(TensorType(operand.type.dtype)).removesuffix("[]") + str(list(operand.type.shape))


def given_arrays(step: UserStep) -> dict[int, Any]:
    """The arguments of a step that are arrays and no shapes, by position: what counts or is an index among them is
    taken as it is."""
    leaves = jax.tree.leaves(hidden(step.arguments))
    return {i: leaf for i, leaf in enumerate(leaves) if not isinstance(leaf, jax.ShapeDtypeStruct)}


def _values(graph: Graph, request: dict[str, Any], given: Mapping[int, Any]) -> dict[str, Any]:
    result = requested(graph, request)
    return compare_values(graph, result.placed, result.plan, partitioner=request["partitioner"], given=given).facts()
