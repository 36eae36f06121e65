"""Whether a step gives the same values on its mesh as on one device: both computed in the ring, in a child process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax

import ir
import passes
from ir.staging.static_leaves import hidden
from levanter.compiler.compile import plan_request, planned_graph, requested_plan
from levanter.compiler.target import Target, UserStep, load_step
from levanter.compiler.user_step import graph_of
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes.values import compare_values

if TYPE_CHECKING:
    from ir.graph import Graph

CONFIG_VALUES = "levanter.compiler.values:values_of_config"
STEP_VALUES = "levanter.compiler.values:values_of_step"


def checked_values(subject: Mapping[str, Any], function: str, plan: passes.Plan) -> dict[str, Any]:
    """The `values` of `levanter compile --json` (see docs/compile.md).

    Args:
        subject: which step, as JSON can hold it.
        function: `CONFIG_VALUES` or `STEP_VALUES`.
        plan: the layout to check.

    Raises:
        UserError: the step cannot be loaded again in the child process.
        WorkFailed: the child process failed.
    """
    from levanter.compiler.verify import answer_in_child

    return answer_in_child(plan_request(subject, plan), devices=plan.mesh.devices, function=function)


def values_of_config(request: dict[str, Any]) -> dict[str, Any]:
    """The child's part for the training step of a configuration."""
    from levanter.config import loads

    config = loads(request["config"])
    return _values(ir.trace(train_step_of(config), state_shape(config), batch_shape(config)), request, {})


def values_of_step(request: dict[str, Any]) -> dict[str, Any]:
    """The child's part for a step of the user's."""
    step = load_step(Target(**request["target"]))
    return _values(graph_of(step), request, given_arrays(step))


def given_arrays(step: UserStep) -> dict[int, Any]:
    """The arguments of a step that are arrays and no shapes, by position: what counts or is an index among them is
    taken as it is."""
    leaves = jax.tree.leaves(hidden(step.arguments))
    return {i: leaf for i, leaf in enumerate(leaves) if not isinstance(leaf, jax.ShapeDtypeStruct)}


def _values(graph: Graph, request: dict[str, Any], given: Mapping[int, Any]) -> dict[str, Any]:
    result = planned_graph(graph, request["mesh"], request["hardware"], plan=requested_plan(request))
    return compare_values(graph, result.placed, result.plan, given=given).facts()
