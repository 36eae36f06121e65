"""What a TPU is predicted to send for a printed program, as it is set beside the compiled one.

By which rules is told in `passes.hardware.sends`, with which plans are priced too. Other habits of the TPU compiler
depend on the layouts that it chooses: `levanter.compiler.verify.tpu_habits`.
"""

from __future__ import annotations

from typing import Any

from ir.graph import Graph
from passes.planner.layouts import Layouts
from passes.report.units import format_bytes
from passes.summary import Collective, collectives


def sent_rows(placed: Graph, plan: Layouts) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The collectives of a step as a TPU sends them, as rows of docs/compile.md, and those that are printed otherwise.

    Args:
        placed: the program of one device.
    """
    found = collectives(placed, plan)
    rows = [{**each.row(), **each.row()["sent"]} for each in found if each.sent is not None]
    return rows, _explained(found)


def _explained(found: list[Collective]) -> list[dict[str, str]]:
    """What is sent in another way than it is printed, and why: as `explained` of docs/compile.md."""
    differing: dict[tuple[str, str, str], int] = {}
    for each in found:
        if each.sent is not None and each.sent.reason:
            printed = f"{each.kind} over {', '.join(each.sent.mesh_axes)} of {format_bytes(each.bytes)}"
            key = printed, f"{each.sent.kind} of {format_bytes(each.sent.bytes)}", each.sent.reason
            differing[key] = differing.get(key, 0) + each.count
    return [
        {"what": f"{times} × {printed}: sent as {sent}", "reason": reason}
        for (printed, sent, reason), times in differing.items()
    ]
