"""Where the runtime meets the compiler: the training step of a config is staged, planned for a mesh, lowered, reported.

This package is the only one of the runtime that knows `ir` and `passes`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import jax

import ir
import passes
from levanter.compiler.choices import asked_microbatches, explained_microbatches, remat_asked
from levanter.compiler.dtypes import ChosenDtype, explained_dtype, with_dtype
from levanter.compiler.elastic import BATCH_AXES, check_elastic, check_elastic_graph, check_elastic_plan
from levanter.compiler.errors import elastic_needs_remat, elastic_padding, two_plans
from levanter.compiler.gradients import GRADIENTS_DTYPE
from levanter.compiler.microbatches import Chosen, fastest, with_count
from levanter.compiler.moments import MOMENTS_DTYPE
from levanter.compiler.plan_files import PlanFile
from levanter.compiler.question import check_hardware
from levanter.compiler.user_errors import user_errors
from levanter.compiler.verifying import (
    Platform,
    plan_request,
    platform_written_for,
    requested_devices,
    requested_plan,
    verified,
)
from levanter.config import dump
from levanter.config.schema import TrainConfig
from levanter.errors import batch_does_not_divide
from levanter.runtime.state import LmBatch, Metrics, TrainState, batch_shape, state_shape, train_step_of
from passes import pipeline
from passes.alternatives import Explanation, explanation
from passes.planner.constraints import GRADIENTS, MICROBATCHES, MOMENTS, PADDING, REMAT, Constraints, Given
from passes.planner.variants import plan_alone, unlimited_step

if TYPE_CHECKING:
    from ir.graph import Graph

ByHand = tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]
"""Sharding rules for compute and for storage."""
Choice: TypeAlias = Chosen | ChosenDtype
"""Of the configuration's, what a plan says."""
_OF_THE_CONFIG = {
    MICROBATCHES: explained_microbatches,
    MOMENTS: partial(explained_dtype, MOMENTS_DTYPE),
    GRADIENTS: partial(explained_dtype, GRADIENTS_DTYPE),
}


@dataclass(frozen=True)
class Compiled:
    """A training step laid out on devices.

    Attributes:
        graph: the canonical graph that was planned.
        plan: the layout of every name.
        train_step: (state, batch) → (state, metrics), jitted; the state is donated.
        state_shardings, batch_shardings: a sharding for every array of the state and of a batch, in their structure.
    """

    graph: Graph
    plan: passes.Plan
    train_step: Callable[[TrainState, LmBatch], tuple[TrainState, Metrics]]
    state_shardings: Any
    batch_shardings: Any
    devices: Sequence[Any] | None = None
    ordered_sums: bool = False

    def lower_for(self, function: Callable[..., Any], *shapes: Any) -> Callable[..., Any]:
        """Another function of the same axes (an evaluation, say), jitted under the same plan.

        Args:
            shapes: its arguments, with a `jax.ShapeDtypeStruct` for every array; the first is (part of) the state.
        """
        with user_errors():
            graph = passes.check_axes(ir.trace(function, *shapes))
            return passes.lower(graph, self.plan, self.devices, at_rest=(0,), ordered_sums=self.ordered_sums)


def compile_training(
    config: TrainConfig, devices: Sequence[Any] | None = None, *, reproducible: bool = False
) -> Compiled:
    """The training step of a config for its mesh (`trainer.mesh`; one device where there is none).

    Args:
        devices: as many as the mesh has; default: the first of `jax.devices()`.
        reproducible: whether CPU devices are to make the same bits in several processes as in one.

    Raises:
        UserError: the axes do not agree, the batch does not divide, nothing fits, or there are too few devices.
    """
    with user_errors():
        result = planned(config, config.mesh.as_dict(), config.trainer.hardware)
        mesh = passes.device_mesh(result.plan, devices)
        state_shardings, batch_shardings = passes.input_shardings(result.placed, mesh)
        # Within a process, and between them, other libraries add up what CPU devices have, in other orders.
        ordered = reproducible and mesh.devices.flat[0].platform == "cpu"
        step = passes.lower_placed(result.placed, result.plan, devices, donate=True, ordered_sums=ordered)
    return Compiled(result.graph, result.plan, step, state_shardings, batch_shardings, devices, ordered)


def planned(
    config: TrainConfig,
    mesh: Mapping[str, int],
    hardware: str,
    *,
    plan: passes.Plan | None = None,
    dump_ir: Path | None = None,
    time_limit: float | None = None,
    pin: Given | None = None,
    forbid: Given | None = None,
    platform: Platform = "cpu",
) -> pipeline.Result:
    """The whole training step, staged and planned; nothing is computed or allocated. On one device any size fits: what
    it runs on is the user's business, not the planner's."""
    check_hardware(hardware)
    config, pin = remat_asked(config, plan, pin)
    given: dict[str, Any] = {"pin": pin, "forbid": forbid, "time_limit": time_limit}
    config, pin, choices = with_choices(config, mesh, hardware, plan=plan, **given)
    check_mesh(config, mesh)
    graph = ir.trace(train_step_of(config), state_shape(config), batch_shape(config))
    plan = _followed(config, hardware, plan)
    if config.trainer.elastic:
        if PADDING in (pin or {}) or plan is not None and plan.padding:
            raise elastic_padding()
        check_elastic_graph(graph)
        if plan is not None:
            check_elastic_plan(graph, plan)
    how = {"dump_ir": dump_ir, "time_limit": time_limit, "pin": pin, "forbid": forbid}
    result = planned_graph(graph, mesh, hardware, plan=plan, platform=platform, **how)
    if config.trainer.elastic and result.plan.remat:
        raise elastic_needs_remat(result.plan.remat)
    return _with(result, choices)


def _with(result: pipeline.Result, choices: Sequence[Choice]) -> pipeline.Result:
    """What was planned, with what was chosen before as choices of the plan."""
    for each in choices:
        result = replace(result, plan=each.on(result.plan))
    return result


def _followed(config: TrainConfig, hardware: str, plan: passes.Plan | None) -> passes.Plan | None:
    """A plan that is given, or that of the config."""
    if plan is not None or config.trainer.plan is None:
        return plan
    return passes.Plan.of_document(config.trainer.plan, hardware)


def check_mesh(config: TrainConfig, mesh: Mapping[str, int]) -> None:
    """Whether the batch of a config can be shared out over a mesh. Raises `UserError` where it cannot."""
    if config.trainer.elastic:
        check_elastic(mesh, config.trainer.virtual_shards)
    _check_batch(config.trainer.train_batch_size, config.trainer.microbatches or 1, mesh)


def with_choices(
    config: TrainConfig,
    mesh: Mapping[str, int],
    hardware: str,
    *,
    plan: passes.Plan | None = None,
    pin: Given | None = None,
    forbid: Given | None = None,
    time_limit: float | None = None,
) -> tuple[TrainConfig, Given | None, list[Choice]]:
    """The config with what a plan chooses of it: dtypes of moments and gradients, and the number of micro-batches. The
    pins without these, and the choices that are not the config's.

    Raises:
        UserError: nothing fits the memory of a device; or what is pinned is no such choice.
    """
    plan = _followed(config, hardware, plan)

    def planned_so(each: TrainConfig, pins: Given | None) -> pipeline.Result:
        return planned(each, mesh, hardware, plan=plan, pin=pins, forbid=forbid, time_limit=time_limit)

    def unlimited(each: TrainConfig, pins: Given | None) -> float:
        asked, rest = remat_asked(each, plan, pins)
        graph = pipeline.prepare(ir.trace(train_step_of(asked), state_shape(asked), batch_shape(asked)))
        return unlimited_step(graph, passes.DeviceMesh.of(mesh), hardware, plan, rest, forbid)

    config, rest, moments = with_dtype(MOMENTS_DTYPE, config, plan, pin, planned_so)
    config, rest, gradients = with_dtype(GRADIENTS_DTYPE, config, plan, rest, planned_so)
    shards = math.prod(mesh.get(axis, 1) for axis in BATCH_AXES)
    config, rest, parts = _with_microbatches(config, plan, rest, shards, planned_so, unlimited)
    return config, rest, [each for each in (moments, gradients, parts) if each is not None]


def _with_microbatches(
    config: TrainConfig,
    plan: passes.Plan | None,
    pin: Given | None,
    shards: int,
    planned_so: Callable[[TrainConfig, Given | None], pipeline.Result],
    unlimited: Callable[[TrainConfig, Given | None], float],
) -> tuple[TrainConfig, Given | None, Chosen | None]:
    """The config with a number of micro-batches: that of the plan, that which is pinned, or the fastest where `any` is
    pinned or the config has null. The pins without it, and the choice, where it is not the config's.

    Args:
        shards: that the batch axes of the mesh cut a batch into.
        planned_so, unlimited: the plan of a config, and the seconds of its step on unlimited memory, with some pins.

    Raises:
        UserError: no number of them fits the memory of a device; or what is pinned is none.
    """
    pinned, rest = asked_microbatches(config, plan, pin)
    if plan is not None and plan.microbatches is not None:
        return with_count(config, plan.microbatches), rest, None
    if isinstance(pinned, int):
        return with_count(config, pinned), rest, Chosen(pinned, "pinned", {})
    if config.trainer.microbatches is not None and pinned is None:
        return config, rest, None
    config, chosen = fastest(config, shards, lambda each: planned_so(each, rest), lambda each: unlimited(each, rest))
    return config, rest, chosen


def planned_graph(
    graph: Graph,
    mesh: Mapping[str, int],
    hardware: str,
    *,
    plan: passes.Plan | None = None,
    dump_ir: Path | None = None,
    time_limit: float | None = None,
    pin: Given | None = None,
    forbid: Given | None = None,
    platform: Platform = "cpu",
) -> pipeline.Result:
    """The same for the graph of any step."""
    alone = plan is None and not forbid and all(size == 1 for size in mesh.values())
    if alone and not pin:
        plan = passes.Plan.by_hand(mesh, {}, hardware=hardware)
    elif alone and pin and set(pin) == {REMAT}:
        layout = passes.DeviceMesh.of(mesh)
        plan, pin = plan_alone(pipeline.prepare(graph), layout, hardware, Constraints.of(pin, None, layout).remat), None
    how = {"time_limit": time_limit, "pin": pin, "forbid": forbid}
    return pipeline.run(graph, mesh, hardware, plan=plan, dump=dump_ir, platform=platform, **how)


def requested(graph: Graph, request: dict[str, Any]) -> pipeline.Result:
    """The same, as a request to the verifying process says (`levanter.compiler.verifying.plan_request`)."""
    how: dict[str, Any] = {"plan": requested_plan(request), "platform": request.get("platform", "cpu")}
    return planned_graph(graph, request["mesh"], request["hardware"], **how)


def report(
    config: TrainConfig,
    mesh: Mapping[str, int],
    hardware: str,
    *,
    by_hand: ByHand = ({}, {}),
    time_limit: float | None = None,
    pin: Given | None = None,
    forbid: Given | None = None,
    plan_file: PlanFile | None = None,
    explain: Sequence[str] = (),
    dump_ir: Path | None = None,
    verify: bool = False,
    platform: Platform = "cpu",
    values: bool = False,
    partitioner: passes.Partitioner = "explicit",
) -> dict[str, Any]:
    """All that `levanter compile` says, as one JSON object (see docs/compile.md for its keys).

    Args:
        by_hand: sharding rules for compute and for storage; without any, and without a plan in the config, the planner
            chooses.
        time_limit: seconds after which the planner takes the best plan that it has found.
        pin, forbid: mesh axes that names are pinned to, and that are forbidden to them (`passes.plan`).
        plan_file: what the config is called, and a file to write the plan to.
        explain: names to say more of: what each alternative costs.
        dump_ir: a folder for the graph after each pass.
        verify: whether to compile the step for the mesh and compare.
        platform: what to compile it for: CPU devices, or the TPU slice or GPUs that the hardware names.
        values: whether to compute it in the ring on the mesh and on one device and compare.
        partitioner: whose program of one device both are about, as in `passes.lower`.

    Raises:
        UserError: see `compile_training`.
    """
    written_for = platform_written_for(platform, partitioner)
    with user_errors():
        plan = plan_by_hand(mesh, hardware, by_hand)
        if plan is not None and config.trainer.plan is not None:
            raise two_plans(config.trainer.plan.source)
        config, pin = remat_asked(config, plan, pin)
        given: dict[str, Any] = {"pin": pin, "forbid": forbid, "time_limit": time_limit}
        config, pin, choices = with_choices(config, mesh, hardware, plan=plan, **given)
        asked = {"plan": plan, "dump_ir": dump_ir, "time_limit": time_limit, "pin": pin, "forbid": forbid}

        result, found = explained(
            lambda: _with(planned(config, mesh, hardware, platform=written_for, **asked), choices)
        )
    found["notes"] = [*[each.said for each in choices if each.needs], *found["notes"]]
    if plan_file is not None:
        found["notes"] = [*found["notes"], *plan_file.notes(result)]
    answer: dict[str, Any] = {
        "mesh": dict(mesh),
        "devices": found["devices"],
        "hardware": hardware,
        "batch_size": config.trainer.train_batch_size,
        "seq_len": config.model.seq_len,
        **{key: value for key, value in found.items() if key not in ("mesh", "devices", "hardware")},
    }
    if plan_file is not None:
        with user_errors():
            answer |= plan_file.write(result, answer)
    if explain:
        with user_errors():
            own = {name: _OF_THE_CONFIG[name](config, result) for name in explain if name in _OF_THE_CONFIG}
        answer["explained"] = explanations(result, explain, own)
    if verify:
        answer["verify"] = verified(config, result, found, platform, partitioner)
    if values:
        from levanter.compiler.verify.values import CONFIG_VALUES, checked_values

        request = plan_request({"config": dump(config), "platform": written_for}, result.plan)
        answer["values"] = checked_values(request, result.plan.mesh.devices, CONFIG_VALUES, partitioner)
    return answer


def explanations(
    result: pipeline.Result, names: Sequence[str], own: Mapping[str, Explanation] | None = None
) -> list[dict[str, Any]]:
    """Of each of some names why it is where it is, and what each alternative costs.

    Args:
        own: what there is to say of choices that no graph tells, such as `microbatches`.

    Raises:
        UserError: the step has no such name.
    """
    with user_errors():
        graph = result.canonical or result.graph
        return [asdict((own or {}).get(name) or explanation(graph, result.plan, name)) for name in dict.fromkeys(names)]


def plan_by_hand(mesh: Mapping[str, int], hardware: str, rules: ByHand) -> passes.Plan | None:
    """The plan that rules for compute and for storage make; None where there are none."""
    compute, storage = ({name: list(axes) for name, axes in each.items()} for each in rules)
    return passes.Plan.by_hand(mesh, compute, storage, hardware) if compute or storage else None


def explained(run: Callable[[], pipeline.Result]) -> tuple[pipeline.Result, dict[str, Any]]:
    """What the pipeline makes, and all there is to say of it; warnings are among the notes."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", passes.PlanWarning)
        warnings.simplefilter("ignore", passes.AxisWarning)  # the plan itself has them as notes
        result = run()
        found = result.facts()
    said = dict.fromkeys(str(each.message) for each in warned if issubclass(each.category, passes.PlanWarning))
    found["notes"] = [*found["notes"], *said]
    return result, found


def lower_for_verify(request: dict[str, Any]) -> jax.stages.Lowered:
    """The child's part of `verified`: the step of the request, laid out by the plan of the request, lowered."""
    from levanter.config import loads

    config = loads(request["config"])
    plan = requested_plan(request)
    result = planned(config, request["mesh"], request["hardware"], plan=plan, platform=request.get("platform", "cpu"))
    how = {"donate": True, "partitioner": request.get("partitioner", "explicit")}
    step = passes.lower_placed(result.placed, result.plan, requested_devices(request), **how)
    lowered: jax.stages.Lowered = step.lower(state_shape(config), batch_shape(config))  # type: ignore[attr-defined]
    return lowered


def _check_batch(batch: int, microbatches: int, mesh: Mapping[str, int]) -> None:
    """The axes of a mesh that are there for the batch must divide it, and each part of it that is computed at once; the
    planner may put it on others besides."""
    shards = math.prod(mesh.get(axis, 1) for axis in BATCH_AXES) * microbatches
    if shards > 0 and batch % shards:
        axes = {axis: mesh[axis] for axis in BATCH_AXES if axis in mesh}
        raise batch_does_not_divide(batch, axes | ({"microbatches": microbatches} if microbatches > 1 else {}), shards)
