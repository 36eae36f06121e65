"""Where the runtime meets the compiler: the training step of a config is staged, planned for a mesh, lowered, reported.

This package is the only one of the runtime that knows `ir` and `passes`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import jax

import ir
import passes
from levanter.compiler.choices import asked_microbatches, explained_microbatches, remat_asked
from levanter.compiler.elastic import BATCH_AXES, check_elastic, check_elastic_graph, check_elastic_plan
from levanter.compiler.errors import elastic_needs_remat, elastic_padding, two_plans
from levanter.compiler.microbatches import Chosen, fastest, with_count
from levanter.compiler.moments import ChosenMoments, explained_moments, with_moments
from levanter.compiler.plan_files import PlanFile
from levanter.compiler.question import check_hardware
from levanter.config import dump
from levanter.config.schema import TrainConfig
from levanter.errors import UserError, WorkFailed, batch_does_not_divide, cannot_trace, no_graph
from levanter.runtime.state import LmBatch, Metrics, TrainState, batch_shape, state_shape, train_step_of
from passes import pipeline
from passes.alternatives import Explanation, explanation
from passes.cpu_memory import cpu_peak
from passes.planner.constraints import MICROBATCHES, MOMENTS, PADDING, REMAT, Constraints, Given
from passes.planner.document import CHOICES_OF_MEMORY
from passes.planner.remat import remat_of
from passes.planner.variants import plan_alone, unlimited_step
from passes.sharding.state import kinds_of
from passes.stage import Stage
from passes.summary import operation_times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ir.graph import Graph

ByHand = tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]
"""Sharding rules for compute and for storage."""
Platform = Literal["cpu", "tpu", "gpu"]
PEAK_DIFFERS = "predicted for the order in which XLA runs a step; compiled with the room that is lost between arrays"


Choice: TypeAlias = Chosen | ChosenMoments
"""Of the configuration's, what a plan says."""
_OF_THE_CONFIG = {MICROBATCHES: explained_microbatches, MOMENTS: explained_moments}


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
    result = planned_graph(graph, mesh, hardware, plan=plan, **how)
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
    """The config with what a plan chooses of it: the dtype of moments, and the number of micro-batches. The pins
    without these, and the choices that are not the config's.

    Raises:
        UserError: nothing fits the memory of a device; or what is pinned is no such choice.
    """
    plan = _followed(config, hardware, plan)

    def planned_so(each: TrainConfig, pins: Given | None) -> pipeline.Result:
        return planned(each, mesh, hardware, plan=plan, pin=pins, forbid=forbid, time_limit=time_limit)

    config, rest, moments = with_moments(config, plan, pin, planned_so)
    config, rest, parts = _with_microbatches(
        config, mesh, hardware, plan=plan, pin=rest, forbid=forbid, time_limit=time_limit
    )
    return config, rest, [each for each in (moments, parts) if each is not None]


def _with_microbatches(
    config: TrainConfig,
    mesh: Mapping[str, int],
    hardware: str,
    *,
    plan: passes.Plan | None = None,
    pin: Given | None = None,
    forbid: Given | None = None,
    time_limit: float | None = None,
) -> tuple[TrainConfig, Given | None, Chosen | None]:
    """The config with a number of micro-batches: that of the plan, that which is pinned, or the fastest where `any` is
    pinned or the config has null. The pins without it, and the choice, where it is not the config's.

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
    shards = math.prod(mesh.get(axis, 1) for axis in BATCH_AXES)
    how: dict[str, Any] = {"plan": plan, "pin": rest, "forbid": forbid, "time_limit": time_limit}

    def unlimited(each: TrainConfig) -> float:
        asked, pins = remat_asked(each, plan, rest)
        graph = pipeline.prepare(ir.trace(train_step_of(asked), state_shape(asked), batch_shape(asked)))
        return unlimited_step(graph, passes.DeviceMesh.of(mesh), hardware, plan, pins, forbid)

    config, chosen = fastest(config, shards, lambda each: planned(each, mesh, hardware, **how), unlimited)
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
) -> pipeline.Result:
    """The same for the graph of any step."""
    alone = plan is None and not forbid and all(size == 1 for size in mesh.values())
    if alone and not pin:
        plan = passes.Plan.by_hand(mesh, {}, hardware=hardware)
    elif alone and pin and set(pin) == {REMAT}:
        layout = passes.DeviceMesh.of(mesh)
        plan, pin = plan_alone(pipeline.prepare(graph), layout, hardware, Constraints.of(pin, None, layout).remat), None
    how = {"time_limit": time_limit, "pin": pin, "forbid": forbid}
    return pipeline.run(graph, mesh, hardware, plan=plan, dump=dump_ir, **how)


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
    with user_errors():
        plan = plan_by_hand(mesh, hardware, by_hand)
        if plan is not None and config.trainer.plan is not None:
            raise two_plans(config.trainer.plan.source)
        config, pin = remat_asked(config, plan, pin)
        given: dict[str, Any] = {"pin": pin, "forbid": forbid, "time_limit": time_limit}
        config, pin, choices = with_choices(config, mesh, hardware, plan=plan, **given)
        asked = {"plan": plan, "dump_ir": dump_ir, "time_limit": time_limit, "pin": pin, "forbid": forbid}

        result, found = explained(lambda: _with(planned(config, mesh, hardware, **asked), choices))
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

        request = plan_request({"config": dump(config)}, result.plan)
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


def verified(
    config: TrainConfig,
    result: pipeline.Result,
    found: Mapping[str, Any],
    platform: Platform = "cpu",
    partitioner: passes.Partitioner = "explicit",
) -> dict[str, Any]:
    """The prediction set against what XLA makes of the step on as many devices, in a child process."""
    from levanter.compiler.verify.isolate import LOWER_STEP

    subject = {"config": dump(config), "partitioner": partitioner}
    return verified_plan(subject, LOWER_STEP, result, found, platform)


def verified_plan(
    subject: Mapping[str, Any],
    lower: str,
    result: pipeline.Result,
    found: Mapping[str, Any],
    platform: Platform = "cpu",
) -> dict[str, Any]:
    """The same for any step.

    Args:
        subject: which step, as JSON can hold it.
        lower: `module:name` of the function that lowers it, for a request of the subject and the plan.
        found: what is said of the result (`Result.facts`).
        platform: what to compile it for.
    """
    from levanter.compiler.verify import collectives as read_collectives
    from levanter.compiler.verify import compare, compile_in_child
    from levanter.compiler.verify.cycles import beside_cycles
    from levanter.compiler.verify.gpu_habits import settled as settled_on_gpus
    from levanter.compiler.verify.gpus import gpus_for
    from levanter.compiler.verify.topology import topology_for
    from levanter.compiler.verify.tpu_habits import settled

    plan = result.plan
    mesh = plan.mesh.as_dict()
    described = {"tpu": topology_for, "gpu": gpus_for}.get(platform)
    topology = described(plan.hardware, mesh) if described is not None else None
    request = plan_request(subject, plan)
    program = compile_in_child(request, devices=plan.mesh.devices, function=lower, topology=topology)
    compiled = read_collectives(program.text, mesh) if program.text else []
    # A CPU has none of the tiles and on-chip memory of the chip that is planned for.
    predicted_peak = found["memory"]["peak"] if topology else cpu_peak(result.placed, mesh)
    answer = compare(
        found["collectives"],
        compiled,
        mesh,
        predicted_peak=predicted_peak,
        compiled_peak=program.peak,
        habits={"tpu": settled, "gpu": settled_on_gpus}.get(platform),
    )
    if topology is None:
        answer["explained"].append({"what": "peak memory", "reason": PEAK_DIFFERS})
        return {"platform": platform, **answer}
    if platform == "gpu":
        return {"platform": platform, "topology": topology.name, **answer}
    times = beside_cycles(operation_times(result.graph, plan), program.text)
    return {"platform": platform, "topology": topology.name, **answer, "cycles": times}


def plan_request(subject: Mapping[str, Any], plan: passes.Plan) -> dict[str, Any]:
    """A request to the verifying process: which step, as JSON can hold it, and the plan (see `requested_plan`)."""
    return {
        **subject,
        "mesh": plan.mesh.as_dict(),
        "hardware": plan.hardware,
        "order": list(plan.order),
        "compute": _axes(plan.compute),
        "storage": _axes(plan.storage),
        "stored": list(plan.stored),
        "order_where": _axes(plan.order_where),
        "remat": list(plan.remat),
        "padding": dict(plan.padding),
        "microbatches": plan.microbatches,
        "moments": plan.moments,
        "choices": {each: getattr(plan, each) for each in CHOICES_OF_MEMORY},
    }


def findings_of(graph: Graph, ignore: Sequence[str]) -> list[dict[str, Any]]:
    """The axis mistakes of a traced step: `code`, `severity`, `what`, `source` and `text` of each.

    Args:
        ignore: codes of warnings that are not wanted.

    Raises:
        UserError: a code is no warning's.
    """
    with user_errors():
        found = passes.axis_findings(graph, ignore)
    return [
        {
            "code": each.code,
            "severity": each.severity,
            "what": each.what,
            "source": str(each.source) if each.source is not None else None,
            "text": each.text,
        }
        for each in found
    ]


def check_config(config: TrainConfig, ignore: Sequence[str]) -> list[dict[str, Any]]:
    """The axis mistakes of the training step of a config; see `findings_of`."""
    step, name = train_step_of(config), config.trainer.run_name or "the training step"
    return findings_of(traced(step, (state_shape(config), batch_shape(config)), name), ignore)


def traced(step: Callable[..., Any], arguments: Sequence[Any], name: str, names: ir.Naming | None = None) -> Graph:
    """The graph of any step.

    Args:
        arguments: arrays, or shapes, as the step takes them.
        name: what the user calls the step.
        names: of the dims of arrays that are no NamedArrays; see `ir.trace`.

    Raises:
        UserError: JAX cannot trace the step for these arguments, or the names do not fit them.
    """
    try:
        return ir.trace(step, *arguments, names=names)
    except ir.NamingError as error:
        raise UserError(f"the names of `{name}` do not fit its arguments:\n{error}") from error
    except Exception as error:
        raise cannot_trace(name, error) from error


def graph_changes(before: str, after: str, before_name: str, after_name: str) -> str:
    """What changed from one graph to another, both as text; see `ir.analysis.diff`.

    Raises:
        UserError: a text is no graph.
    """
    graphs: list[Graph] = []
    for text, name in ((before, before_name), (after, after_name)):
        try:
            graphs.append(ir.parse(text))
        except ir.ParseError as error:
            raise no_graph(name, error) from error
    return ir.changes(*graphs).text(before_name, after_name)


def run_pass(
    name: str,
    text: str,
    source: str,
    *,
    mesh: Mapping[str, int] | None = None,
    hardware: str = "v5e",
    compute: Mapping[str, Sequence[str]] | None = None,
    storage: Mapping[str, Sequence[str]] | None = None,
    at_rest: Sequence[int] = (),
    options: Mapping[str, str] | None = None,
) -> tuple[str, list[str]]:
    """The text of a graph after one pass, and what the pass warns of.

    Args:
        source: what the user calls the text.
        compute, storage: a plan by hand, for a pass that needs one; without either the planner chooses it.
        at_rest: positions of inputs that are stored as state is.
        options: those of the pass, as text.

    Raises:
        UserError: the text is no graph, or a malformed one; there is no such pass or option; the pass lacks a mesh, or
            finds axis errors.
    """
    try:
        graph = ir.verify(ir.parse(text))
    except (ir.ParseError, ir.MalformedGraph) as error:
        raise no_graph(source, error) from error
    with user_errors(), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", passes.AxisWarning)
        warnings.simplefilter("always", passes.PlanWarning)
        layout = passes.DeviceMesh.of(mesh) if mesh is not None else None
        plan = None
        if layout is not None and (compute or storage):
            wanted, kept = (
                {axis: list(over) for axis, over in (listed or {}).items()} for listed in (compute, storage)
            )
            plan = passes.Plan.by_hand(layout, wanted, kept, hardware)
        stage = Stage(graph, layout, hardware, plan, tuple(at_rest))
        answer = str(pipeline.run_one(name, stage, options).graph)
    return answer, [str(each.message) for each in warned]


def lower_for_verify(request: dict[str, Any]) -> jax.stages.Lowered:
    """The child's part of `verified`: the step of the request, laid out by the plan of the request, lowered."""
    from levanter.config import loads

    config = loads(request["config"])
    plan = requested_plan(request)
    result = planned(config, request["mesh"], request["hardware"], plan=plan)
    how = {"donate": True, "partitioner": request.get("partitioner", "explicit")}
    step = passes.lower_placed(result.placed, result.plan, requested_devices(request), **how)
    lowered: jax.stages.Lowered = step.lower(state_shape(config), batch_shape(config))  # type: ignore[attr-defined]
    return lowered


def requested_plan(request: dict[str, Any]) -> passes.Plan:
    """The plan of a request to the verifying process."""
    return passes.Plan(
        passes.DeviceMesh.of(request["mesh"]),
        tuple(request["order"]),
        {name: tuple(axes) for name, axes in request["compute"].items()},
        {name: tuple(axes) for name, axes in request["storage"].items()},
        request["hardware"],
        stored=kinds_of(request["stored"]),
        order_where={where: tuple(names) for where, names in request["order_where"].items()},
        remat=remat_of(request["remat"]),
        padding=request["padding"],
        microbatches=request["microbatches"],
        moments=request["moments"],
        **request["choices"],
    )


def requested_devices(request: Mapping[str, Any]) -> list[Any] | None:
    """The devices that a request is compiled for: its GPUs or the chips of its TPU slice; None for those of this
    process."""
    from levanter.compiler.verify.gpus import GpuTopology, gpu_devices
    from levanter.compiler.verify.topology import Topology, mesh_devices

    if "topology" not in request:
        return None
    if request["topology"].get("platform") == "gpu":
        return gpu_devices(GpuTopology.of_json(request["topology"]))
    return mesh_devices(Topology.of_json(request["topology"]), request["mesh"])


def _check_batch(batch: int, microbatches: int, mesh: Mapping[str, int]) -> None:
    """The axes of a mesh that are there for the batch must divide it, and each part of it that is computed at once; the
    planner may put it on others besides."""
    shards = math.prod(mesh.get(axis, 1) for axis in BATCH_AXES) * microbatches
    if shards > 0 and batch % shards:
        axes = {axis: mesh[axis] for axis in BATCH_AXES if axis in mesh}
        raise batch_does_not_divide(batch, axes | ({"microbatches": microbatches} if microbatches > 1 else {}), shards)


@contextmanager
def user_errors() -> Iterator[None]:
    """What the compiler refuses is the user's to fix: the same words, as this package's error."""
    try:
        yield
    except (passes.AxisErrors, passes.PlanError, passes.UnknownCode, passes.UnknownPass, passes.BadOption) as error:
        raise UserError(str(error)) from error
    except passes.NotProved as error:
        raise WorkFailed(str(error)) from error


def _axes(mapping: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {name: list(axes) for name, axes in mapping.items()}
