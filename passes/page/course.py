"""A step as it goes: what is computed and what is sent, in the order of the program, with the seconds of each.

Neighbours of one phase and one kind are one piece, and a loop is gone through once with the time of all its trips.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ir.graph import Graph
from ir.ops import entered, op_of
from passes.hardware.network import Network
from passes.planner.cost import operation_seconds
from passes.planner.layouts import Layouts
from passes.planner.traffic import traffic
from passes.sharding.roles import assign_roles

COMPUTE = "compute"
MOST = 400
"""Pieces of a page; of more, the shortest go to their neighbours of the same kind."""

Row = dict[str, Any]


def course(placed: Graph, graph: Graph, plan: Layouts, network: Network) -> list[Row]:
    """The pieces of a step: `phase`, `kind` (compute, or that of a collective), `seconds`, and `what`: the axis and the
    mesh axes of a collective, or the source lines.

    Args:
        placed: the step after all passes.
        graph: the same as it was planned.
    """
    # What computing takes is known of the graph before it was placed, by the numbers of its results.
    roles, seconds = assign_roles(graph), dict[int, float]()

    def known(body: Graph) -> None:
        for node, moved in zip(body.nodes, traffic(body).moved, strict=True):
            if not entered(node) and node.outputs:
                seconds[node.outputs[0].id] = float(operation_seconds(node, moved, roles, plan.rules, plan.chip))
            for inner in entered(node):
                known(inner)

    known(graph)
    pieces: list[Row] = []
    for phase, kind, taken, what in _walk(placed, 1.0, seconds, plan, network):
        if taken <= 0:
            continue
        last = pieces[-1] if pieces else None
        if last is not None and (last["phase"], last["kind"], last["what"]) == (phase, kind, what):
            last["seconds"] += taken
        else:
            pieces.append({"phase": phase, "kind": kind, "seconds": taken, "what": what})
    return pieces if len(pieces) <= MOST else _shortened(pieces)


def _walk(
    body: Graph, times: float, seconds: dict[int, float], plan: Layouts, network: Network
) -> Iterator[tuple[str, str, float, str]]:
    sizes = plan.mesh.as_dict()
    for node in body.nodes:
        op = op_of(node)
        if op.communicates:
            over = " × ".join(node.words("mesh"))
            what = f"{', '.join(node.words('axis')) or '—'} over {over}"
            for kind, volume in op.sends(node, sizes):
                yield (
                    node.phase,
                    kind,
                    times * float(network.seconds(kind, plan.mesh.mask(node.words("mesh")), volume)),
                    what,
                )
        elif not entered(node) and node.outputs:
            yield node.phase, COMPUTE, times * seconds.get(node.outputs[0].id, 0.0), str(node.source or "—")
        for inner in entered(node):
            yield from _walk(inner, times * op.trips(node, plan.mesh.devices), seconds, plan, network)


def _shortened(pieces: list[Row]) -> list[Row]:
    """Fewer pieces: those of one phase and kind that follow each other, however their lines are called, are one."""
    found: list[Row] = []
    for each in pieces:
        last = found[-1] if found else None
        if last is not None and (last["phase"], last["kind"]) == (each["phase"], each["kind"]):
            last["seconds"] += each["seconds"]
            last["what"] = last["what"] if last["what"].endswith(" …") else f"{last['what']} …"
        else:
            found.append(dict(each))
    return found
