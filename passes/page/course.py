"""A step as it goes: what is computed and what is sent, in the order of the program, with the seconds of each.

Neighbours of one phase and one kind are one piece, and a loop is gone through once with the time of all its trips.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ir.graph import Graph
from ir.ops import OPS, entered, op_of
from passes import summary
from passes.hardware.network import Network
from passes.planner.layouts import Layouts
from passes.sent import Sending

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
    computed = _Computed()
    for node, taken in summary.timed(graph, plan):
        if node.outputs:
            computed.add(node.phase, str(node.source or "—"), node.outputs[0].id, taken)
    pieces: list[Row] = []
    for phase, kind, taken, what in _walk(placed, 1.0, computed, plan, network, Sending.of(placed, plan)):
        if taken <= 0:
            continue
        last = pieces[-1] if pieces else None
        if last is not None and (last["phase"], last["kind"], last["what"]) == (phase, kind, what):
            last["seconds"] += taken
        else:
            pieces.append({"phase": phase, "kind": kind, "seconds": taken, "what": what})
    for (phase, source), left in computed.left():
        pieces.insert(_last_of(pieces, phase), {"phase": phase, "kind": COMPUTE, "seconds": left, "what": source})
    return pieces if len(pieces) <= MOST else _shortened(pieces)


class _Computed:
    """What computing takes, by the numbers of results: of the graph as it was planned. A pass may give a result another
    number; its time is then that which is left of its phase and source line."""

    def __init__(self) -> None:
        self.of_result: dict[int, float] = {}
        self.of_line: dict[tuple[str, str], float] = {}

    def add(self, phase: str, source: str, number: int, taken: float) -> None:
        self.of_result[number] = taken
        self.of_line[phase, source] = self.of_line.get((phase, source), 0.0) + taken

    def take(self, phase: str, source: str, number: int) -> float:
        """The time of a result, of which it is taken."""
        taken = self.of_result.pop(number, 0.0)
        self.of_line[phase, source] = self.of_line.get((phase, source), 0.0) - taken
        return taken

    def left(self) -> list[tuple[tuple[str, str], float]]:
        """What nothing has taken."""
        total = sum(self.of_result.values())
        return [(line, left) for line, left in self.of_line.items() if left > 1e-9 * total > 0]


def _walk(
    body: Graph, times: float, computed: _Computed, plan: Layouts, network: Network, sending: Sending
) -> Iterator[tuple[str, str, float, str]]:
    """Phase, kind, seconds and what it is, of all that happens, in order."""
    sizes = plan.mesh.as_dict()
    for node in body.nodes:
        op = op_of(node)
        if op.communicates:
            mesh = node.words("mesh")
            what = f"{', '.join(node.words('axis')) or '—'} over {' × '.join(mesh)}"
            for kind, _, sent in sending.for_node(node):
                if OPS[kind].gathers or OPS[kind].scatters:
                    yield node.phase, COMPUTE, times * plan.chip.start, str(node.source or "—")
                if sent is not None:
                    how = node.kind if op.one_way else sent.kind
                    over, moving = plan.mesh.mask(sent.mesh_axes), str(node.attrs["moving"])
                    taken = float(network.seconds(how, over, sent.bytes, summary.awaited(moving)))
                    yield node.phase, sent.kind, times * taken, what
        elif not entered(node) and node.outputs:
            source = str(node.source or "—")
            yield node.phase, COMPUTE, computed.take(node.phase, source, node.outputs[0].id), source
        for inner, turns in op.rounds(node, sizes):
            yield from _walk(inner, times * turns, computed, plan, network, sending)
        for inner in entered(node):
            yield from _walk(inner, times * node.count("trips", 1), computed, plan, network, sending)


def _last_of(pieces: list[Row], phase: str) -> int:
    """The position behind the last piece of a phase; that of the end where it has none."""
    return next((i + 1 for i in reversed(range(len(pieces))) if pieces[i]["phase"] == phase), len(pieces))


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
