"""A model laid out over a mesh for use and not for training: the plan is that of its forward pass.

The parameters lie as that plan has them. A program of the model is then jitted as it is, with what it carries from
token to token laid out by the same names; the rest follows from the parameters, by XLA's propagation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

import ir
import passes
from haliax import Axis, NamedArray
from levanter.compiler.compile import planned_graph
from levanter.compiler.question import check_hardware
from levanter.compiler.user_errors import user_errors
from levanter.models.lm_model import LmModel

PLANNED_LENGTH = 2048
"""Places of a text that a plan counts with, at most: few texts are as long as a model can read."""


@dataclass(frozen=True)
class Layout:
    """How a model lies on devices.

    Attributes:
        plan: the layout of every name.
        mesh: the devices.
        model: a sharding for every array of the model, in its structure.
    """

    plan: passes.Plan
    mesh: jax.sharding.Mesh
    model: Any

    def place(self, tree: Any, replicated: Sequence[str] = ()) -> Any:
        """The tree, inside `jit`, with every `NamedArray` sharded as the plan shards its names in the computation.

        Args:
            replicated: names that are not sharded here whatever the plan says.
        """
        rules = {name: axes for name, axes in self.plan.compute.items() if name not in replicated}

        def placed(part: Any) -> Any:
            if not isinstance(part, NamedArray):
                return part
            spec = _spec(part.axes, rules, self.mesh)
            return NamedArray(jax.lax.with_sharding_constraint(part.array, NamedSharding(self.mesh, spec)), part.axes)

        return jax.tree.map(placed, tree, is_leaf=lambda part: isinstance(part, NamedArray))


def plan_inference(
    model: LmModel,
    batch: int,
    mesh: Mapping[str, int],
    hardware: str,
    *,
    plan: passes.Plan | None = None,
    devices: Sequence[Any] | None = None,
) -> Layout:
    """The layout of a model for reading `batch` texts at once.

    Args:
        model: the model with a `jax.ShapeDtypeStruct` for every array.
        plan: one by hand; None lets the planner choose.
        devices: as many as the mesh has; default: the first of `jax.devices()`.

    Raises:
        UserError: the axes do not agree, or nothing fits.
    """
    check_hardware(hardware)
    axes = (Axis("batch", batch), model.Pos.resize(min(model.Pos.size, PLANNED_LENGTH)))
    tokens = NamedArray(jax.ShapeDtypeStruct(tuple(axis.size for axis in axes), jnp.int32), axes)
    with user_errors():
        result = planned_graph(ir.trace(_last_scores, model, tokens), mesh, hardware, plan=plan)
        devices_mesh = passes.device_mesh(result.plan, devices)
        shardings, _ = passes.input_shardings(result.placed, devices_mesh)
    return Layout(result.plan, devices_mesh, shardings)


def _last_scores(model: LmModel, tokens: NamedArray) -> NamedArray:
    return model.logits(model.activations(tokens, key=None)[model.Pos.name, -1])


def _spec(axes: Sequence[Axis], rules: Mapping[str, Sequence[str]], mesh: jax.sharding.Mesh) -> PartitionSpec:
    """What the rules say of each axis, so far as the sizes divide and no mesh axis comes twice."""
    used: set[str] = set()
    dims = []
    for axis in axes:
        over: list[str] = []
        for name in rules.get(axis.name, ()):
            if name not in used and axis.size % math.prod([mesh.shape[each] for each in (*over, name)]) == 0:
                over.append(name)
        used.update(over)
        dims.append(tuple(over) or None)
    return PartitionSpec(*dims)
