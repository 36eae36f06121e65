"""What there is to say of a plan, as JSON can hold it: layouts and reasons, parameters, collectives, memory, time."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from haliax.core.staging import WRAPPERS
from ir.graph import Graph, Value
from ir.names import whole
from passes import placing, summary
from passes.as_planned import own_sizes
from passes.hardware.network import Network
from passes.planner.attention import ATTENTION
from passes.planner.constraints import GRADIENTS, MICROBATCHES, MOMENTS, NETWORK, PADDING, REMAT
from passes.planner.layouts import Layouts, Search, Subject
from passes.planner.regather import regathers
from passes.planner.undivided import undivided_batch
from passes.proof.proof import Proof
from passes.prove import prove
from passes.sharding.roles import assign_roles, read_by_passes

Row = dict[str, Any]


def question(plan: Layouts, stored: Mapping[str, tuple[str, ...]] | None = None) -> Row:
    """What a plan alone says: the mesh, the chip, the layouts.

    Args:
        stored: what it says of storage, where that is known better.
    """
    return {
        "mesh": plan.mesh.as_dict(),
        "devices": plan.mesh.devices,
        "hardware": plan.hardware,
        "plan": {
            "compute": _axes(plan.compute),
            "storage": _axes(plan.storage if stored is None else stored),
            "stored": list(plan.stored),
            "order": _axes(plan.order_where),
        },
        "remat": {"policy": list(plan.remat), "reason": plan.reasons.get(REMAT, "")},
        "padding": {"sizes": dict(plan.padding), "reason": plan.reasons.get(PADDING, "")},
        ATTENTION: {"way": plan.attention, "reason": plan.reasons.get(ATTENTION, "")},
        "microbatches": {"count": plan.microbatches, "reason": plan.reasons.get(MICROBATCHES, "")},
        "moments": {"dtype": plan.moments, "reason": plan.reasons.get(MOMENTS, "")},
        "gradients": {"dtype": plan.gradients, "reason": plan.reasons.get(GRADIENTS, "")},
    }


def facts(subject: Subject, plan: Layouts, placed: Graph | None = None, proof: Proof | None = None) -> Row:
    """What a plan says of the step that it is for: the keys of docs/compile.md but `model`.

    Args:
        placed, proof: the step after all passes, and what is proved of it, where that is at hand.
    """
    graph = subject.graph
    if placed is None:
        placed = placing.placed(graph, plan)
    if proof is None:
        proof = prove(placed, graph, plan.mesh)
    times, memory = summary.times(graph, placed, plan), summary.memory(graph, plan, placed)
    lacks = memory["peak"] > memory["capacity"] > 0
    stored = stored_axes(graph, plan)
    return {
        **question(plan, stored),
        "network": {
            **network_row(plan.physical),
            "given": dict(plan.network),
            "reason": plan.reasons.get(NETWORK, ""),
        },
        "axes": _axis_rows(graph, plan, stored),
        "order_reason": plan.reasons.get("order", "") if plan.order_where else "",
        "parameters": _parameter_rows(graph, placed, plan),
        "collectives": [each.row() for each in summary.collectives(placed, plan)],
        "memory": memory,
        "filling": [asdict(each) for each in summary.what_fills(graph, plan)],
        "shard_next": asdict(found) if lacks and (found := summary.advice(graph, plan)) is not None else None,
        "regather": regathers(graph, plan, assign_roles(graph, stored=plan.stored)),
        "time": {**asdict(times), "bound": times.bound},
        "rate": asdict(summary.rate(subject, plan, times.step)),
        "search": _search(plan),
        "runner_up": _runner_up(plan),
        "proof": {
            "values": proof.values,
            "assumptions": [str(each) for each in proof.assumptions],
            "against": proof.against,
        },
        "notes": [*undivided_batch(graph, plan.mesh), *subject.notes],
    }


def network_row(network: Network) -> Row:
    """Where mesh axes lie physically: islands (slices or nodes) of so many devices, the form of a slice, and of each
    mesh axis the part along each dim of it, or inside a node, and how many islands it goes over."""
    islands, torus = network.islands, network.torus
    return {
        "islands": network.mesh.devices // islands.size,
        "island": islands.size,
        "form": list(torus.form) if torus is not None else None,
        "axes": {
            axis: {
                "inside": list(torus.parts[i]) if torus is not None else [islands.inside[i]],
                "across": size // islands.inside[i],
            }
            for i, (axis, size) in enumerate(network.mesh.as_dict().items())
        },
    }


def _axes(mapping: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {name: list(axes) for name, axes in mapping.items() if axes}


def stored_axes(graph: Graph, plan: Layouts) -> dict[str, tuple[str, ...]]:
    """The storage axes of a plan, of the names that something stored has. A plan by hand, or of a file, says of every
    name how it is stored."""
    roles = assign_roles(graph, stored=plan.stored)
    dims = (dim for value in graph.values() if roles[value.id] == "storage" for dim in value.type.dims)
    names = {whole(dim.name) for dim in dims if dim.name is not None}
    return {name: axes for name, axes in plan.storage.items() if name in names or plan.search is not None}


def _axis_rows(graph: Graph, plan: Layouts, stored: Mapping[str, tuple[str, ...]]) -> list[Row]:
    """Every axis of the step, those with a place on the mesh first."""
    sizes = own_sizes(graph, plan)
    placed = [name for name in plan.order if name in sizes and (name in plan.compute or name in stored)]
    rest = [name for name in sizes if name not in placed]
    return [
        {
            "name": name,
            "size": sizes[name],
            "compute": list(plan.compute.get(name, ())),
            "storage": list(stored.get(name, ())),
            "reason": plan.reasons.get(name, "one device" if plan.mesh.devices == 1 else "given"),
        }
        for name in (*placed, *rest)
    ]


def _parameter_rows(graph: Graph, placed: Graph, plan: Layouts) -> list[Row]:
    """The parameters of the model, as they are stored."""
    mesh = plan.mesh.as_dict()
    stored = {value.id: value for value in placed.inputs}
    return [_parameter_row(path, stored[value.id], mesh) for path, value in parameters(graph)]


def parameters(graph: Graph) -> list[tuple[str, Value]]:
    """The parameters of the model with their paths: the state that the forward or backward pass reads. Counters are
    none, and what the paths of all have in front, the name of the argument, is left out."""
    read = read_by_passes(graph)
    carried = {before for before, _ in graph.carried}
    found: list[tuple[list[str], Value]] = []
    for i, (value, path) in enumerate(zip(graph.inputs, graph.input_paths, strict=False)):
        counter = not value.type.dims and not value.type.dtype.startswith(("float", "bfloat"))
        if i in carried and value.id in read and not counter:
            found.append(([part for part in path.split(".") if part not in WRAPPERS], value))
    heads = {parts[0] for parts, _ in found}
    shared = len(heads) == 1 and all(len(parts) > 1 for parts, _ in found)
    return [(".".join(parts[1:] if shared else parts), value) for parts, value in found]


def _parameter_row(path: str, value: Value, mesh: Mapping[str, int]) -> Row:
    type_ = value.type
    return {
        "path": path,
        "dtype": type_.dtype,
        "axes": {dim.name or f"_{k}": dim.size for k, dim in enumerate(type_.dims)},
        "layout": [list(dim.mesh) for dim in type_.dims],
        "bytes": type_.bytes,
        "bytes_per_device": type_.local_bytes(mesh),
    }


def _search(plan: Layouts) -> Row:
    """How the plan was found; of one that was given nothing is known, unless there is no other."""
    if plan.search is not None:
        return asdict(plan.search)
    return asdict(Search(1, 0.0, True)) if plan.mesh.devices == 1 else {**asdict(Search(0, 0.0, False)), "gap": None}


def _runner_up(plan: Layouts) -> Row | None:
    other = plan.runner_up
    if other is None:
        return None
    layouts = {
        "compute": _axes(other.compute),
        "storage": _axes(other.storage),
        "order": _axes(other.order_where),
    }
    return {"plan": layouts, "step": other.step, "peak": other.peak}
