"""What is predicted of a plan, in a few sentences: the comments on top of its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from passes.report.units import format_bytes, format_percent, format_seconds

HOW = ("Edit it; `levanter compile --plan FILE` prices it, `levanter train --plan FILE` follows it.", "")


def heading(report: Mapping[str, Any]) -> list[str]:
    """The sentences of a report; the same for the same plan of a step."""
    subject = f"How the training step of {report['model']} is sharded over {report['devices']} × {report['hardware']}."
    return [subject, *HOW, *_sentences(report)]


def _sentences(report: Mapping[str, Any]) -> Iterator[str]:
    time, memory, collectives = report["time"], report["memory"], report["collectives"]
    hidden = time["communication"] - time["exposed"]
    parts = f"compute {format_seconds(time['compute'])}, exposed communication {format_seconds(time['exposed'])}"
    yield f"Predicted: a step of {format_seconds(time['step'])} ({parts}; {format_seconds(max(hidden, 0.0))} hidden)."
    rate = report["rate"]
    counts = [(rate[f"{unit}_per_second"], unit) for unit in ("tokens", "examples")]
    speed = next((f"{count:,.0f} {unit} a second, " for count, unit in counts if count is not None), "")
    yield f"{speed}MFU {rate['mfu']:.1%}."
    share = format_percent(memory["peak"], memory["capacity"])
    yield f"Peak memory {format_bytes(memory['peak'])} a device, {share} of {format_bytes(memory['capacity'])}."
    yield f"{sum(each['count'] for each in collectives):,} collectives."
