"""`--devices 64`: the mesh of so many devices on which the step of a configuration, or one of your own, is fastest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ir
from levanter.compiler.choices import remat_asked
from levanter.compiler.compile import check_mesh, with_choices
from levanter.compiler.question import check_hardware
from levanter.compiler.user_errors import user_errors
from levanter.errors import UserError
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes import pipeline
from passes.planner.constraints import GRADIENTS, MICROBATCHES, MOMENTS
from passes.planner.meshes import MeshChoice, choose_mesh, rows

__all__ = ["MeshChoice", "answer_mesh", "mesh_for_config", "mesh_for_step", "rows"]

if TYPE_CHECKING:
    from ir.graph import Graph
    from levanter.compiler.target import Target
    from levanter.config.schema import TrainConfig
    from passes.sharding.mesh import DeviceMesh


def mesh_for_config(config: TrainConfig, devices: int, hardware: str, **how: Any) -> MeshChoice:
    """The mesh on which the training step of a config is fastest.

    Args:
        how: what `choose_mesh` is told besides.

    Raises:
        UserError: none has a plan that fits, or the axes do not agree.
    """
    check_hardware(hardware)
    config, pin = remat_asked(config, None, how.get("pin"))
    choices = {name: each for name, each in (pin or {}).items() if name in (GRADIENTS, MICROBATCHES, MOMENTS)}
    how |= {"pin": {name: each for name, each in (pin or {}).items() if name not in choices}}
    graphs: dict[tuple[object, ...], Graph] = {}

    def graph_for(mesh: DeviceMesh) -> Graph:
        fixed, _, _ = with_choices(config, mesh.as_dict(), hardware, pin=choices)
        check_mesh(fixed, mesh.as_dict())
        key = fixed.trainer.microbatches, fixed.trainer.gradients_dtype, getattr(fixed.optimizer, "moments_dtype", "")
        if key not in graphs:
            graphs[key] = pipeline.prepare(ir.trace(train_step_of(fixed), state_shape(fixed), batch_shape(fixed)))
        return graphs[key]

    with user_errors():
        return choose_mesh(devices, hardware, graph_for, (UserError,), **how)


def mesh_for_step(target: Target, devices: int, hardware: str, **how: Any) -> MeshChoice:
    """The same for a step of the user's own."""
    from levanter.compiler.target import load_step
    from levanter.compiler.user_step import graph_of

    check_hardware(hardware)
    graph = graph_of(load_step(target))
    with user_errors():
        prepared = pipeline.prepare(graph)
        return choose_mesh(devices, hardware, lambda mesh: prepared, **how)


def answer_mesh(request: Mapping[str, Any]) -> dict[str, Any]:
    """The child's part of `levanter train --devices`: the mesh for the config of the request, and what was tried."""
    from levanter.config import loads

    config = loads(request["config"])
    choice = mesh_for_config(config, request["devices"], config.trainer.hardware)
    return {"mesh": str(choice.mesh), "tried": rows(choice.tried)}
