"""What is said of a plan, set against what XLA makes of the step: the parent's part, and what its child is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import passes
from levanter.config import dump
from passes import pipeline
from passes.cpu_memory import cpu_peak
from passes.planner.document import CHOICES_OF_MEMORY
from passes.planner.remat import remat_of
from passes.sharding.state import kinds_of
from passes.summary import operation_times

if TYPE_CHECKING:
    from levanter.config.schema import TrainConfig

Platform = Literal["cpu", "tpu", "gpu"]
PEAK_DIFFERS = "predicted for the order in which XLA runs a step; compiled with the room that is lost between arrays"


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
    from levanter.compiler.verify.topology import Topology, topology_of
    from levanter.compiler.verify.tpu_habits import settled
    from levanter.compiler.verify.tpu_sends import sent_rows

    plan = result.plan
    mesh = plan.mesh.as_dict()
    topology = None
    if platform != "cpu":
        topology = topology_of(plan) if platform == "tpu" else gpus_for(plan.hardware, mesh)
    written_for = platform_written_for(platform, subject["partitioner"])
    request = plan_request({**subject, "platform": written_for}, plan)
    program = compile_in_child(request, devices=plan.mesh.devices, function=lower, topology=topology)
    compiled = read_collectives(program.text, mesh, program.chips) if program.text else []
    # A CPU has none of the tiles and on-chip memory of the chip that is planned for.
    predicted_peak = found["memory"]["peak"] if topology else cpu_peak(result.placed, mesh)
    predicted, differing = found["collectives"], list[dict[str, str]]()
    if isinstance(topology, Topology):
        predicted, differing = sent_rows(result.placed, plan)
    answer = compare(
        predicted,
        compiled,
        mesh,
        predicted_peak=predicted_peak,
        compiled_peak=program.peak,
        habits={"tpu": settled, "gpu": settled_on_gpus}.get(platform),
    )
    answer["explained"] = [*differing, *answer["explained"]]
    if topology is None:
        answer["explained"].append({"what": "peak memory", "reason": PEAK_DIFFERS})
        return {"platform": platform, **answer}
    if platform == "gpu":
        return {"platform": platform, "topology": topology.name, **answer}
    times = beside_cycles(operation_times(result.graph, plan), program.text)
    return {"platform": platform, "topology": topology.name, **answer, "cycles": times}


def platform_written_for(platform: Platform, partitioner: passes.Partitioner) -> Platform:
    """The platform whose compiler a program is written for (`passes.for_tpu`): XLA partitions any alike."""
    return platform if partitioner == "explicit" else "cpu"


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
        "network": dict(plan.network),
        "attention": plan.attention,
        "microbatches": plan.microbatches,
        "moments": plan.moments,
        "gradients": plan.gradients,
        "choices": {each: getattr(plan, each) for each in CHOICES_OF_MEMORY},
    }


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
        network=tuple(request["network"].items()),
        attention=request["attention"],
        microbatches=request["microbatches"],
        moments=request["moments"],
        gradients=request["gradients"],
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
    return mesh_devices(Topology.of_json(request["topology"]), requested_plan(dict(request)).physical)


def _axes(mapping: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {name: list(axes) for name, axes in mapping.items()}
