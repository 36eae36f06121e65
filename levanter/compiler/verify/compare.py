"""Sets the collectives a plan predicts beside those the compiler made.

Both sides are counted in one table: (kind, mesh axes, bytes) → how many times a step. Rows of the result add up one
(kind, mesh axes) and keep every size below them, so that two wrong sizes cannot cancel out. Where a count differs, the
difference is a *surprise*, unless an `Explanation` says why the two cannot agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from levanter.compiler.verify.hlo import CompiledCollective
from passes.report.units import format_bytes

_Key = tuple[str, tuple[str, ...], int]
Habits = Callable[[list[dict[str, Any]]], Mapping[tuple[str, tuple[str, ...]], tuple[str, str]]]
"""From rows to those that differ only by a habit of the compiler, by (kind, mesh axes): what differs, and why."""


@dataclass(frozen=True)
class Difference:
    """One size of one collective whose predicted and compiled counts differ.

    Attributes:
        kind, mesh_axes, bytes: which collective, as docs/compile.md describes it.
        predicted_count, compiled_count: how many times a step.
        axes: the axis names whose collectives were predicted here.
        sources: the source lines it came from, predicted and compiled.
        op_names: JAX's names of the compiled operations.
        count_known: False when a compiled one is in a loop whose trip count the program does not say.
    """

    kind: str
    mesh_axes: tuple[str, ...]
    bytes: int
    predicted_count: int
    compiled_count: int
    axes: tuple[str, ...]
    sources: tuple[str, ...]
    op_names: tuple[str, ...]
    count_known: bool

    def what(self) -> str:
        """The difference in one line, for people."""
        over = f"over {', '.join(self.mesh_axes)}" if self.mesh_axes else "over devices that are no mesh axis"
        size = f"{format_bytes(self.bytes)}" + (f" ({self.bytes:,} bytes)" if self.bytes >= 1024 else "")
        named = f" for axis {', '.join(f'`{axis}`' for axis in self.axes)}" if self.axes else ""
        counts = f"{self.predicted_count} a step predicted, {self.compiled_count} compiled"
        notes = [*self.sources, *(f"op `{name}`" for name in self.op_names)]
        if not self.count_known:
            notes.append("in a loop of unknown trip count, counted as one trip")
        return f"{self.kind} {over} of {size}{named}: {counts}" + (f" ({'; '.join(notes)})" if notes else "")


@dataclass(frozen=True)
class Explanation:
    """A reason why some differences cannot go away: those for which `applies` is true are not surprises."""

    applies: Callable[[Difference], bool]
    reason: str


# Every entry weakens the check, so each one names a compiler's habit that no plan can predict. None is known.
EXPLANATIONS: tuple[Explanation, ...] = ()


def compare(
    predicted: Sequence[Mapping[str, Any]],
    compiled: Sequence[CompiledCollective],
    mesh: Mapping[str, int] | None = None,
    *,
    predicted_peak: int = 0,
    compiled_peak: int = 0,
    habits: Habits | None = None,
    explanations: Sequence[Explanation] = EXPLANATIONS,
) -> dict[str, Any]:
    """The `verify` object of `levanter compile --json` (docs/compile.md).

    Args:
        predicted: the `collectives` of the plan's report (kind, axis, mesh_axes, count, bytes, source).
        compiled: what `levanter.compiler.verify.hlo.collectives` read.
        mesh: axis name → size, for the order of `mesh_axes`; without it, the order in which axes are first seen.
        predicted_peak, compiled_peak: bytes per device, passed through.
        habits: tells which rows differ only by what the compiler is known to do; see `tpu_habits.settled`.
        explanations: known reasons for differences.

    Returns:
        `collectives`: a row for each (kind, mesh_axes) with counts and total bytes of a step, and under `sizes` each
        (bytes, predicted_count, compiled_count, axes, sources, op_names); `peak`; `surprises`: a text for each
        difference; `explained`: `{"what", "reason"}` for each difference with a known reason.
    """
    order = list(mesh) if mesh else _seen([*(c.mesh_axes for c in compiled), *(p["mesh_axes"] for p in predicted)])
    tally = _Tally(order)
    for item in predicted:
        tally.predict(item)
    for collective in compiled:
        tally.compile(collective)
    surprises: list[str] = []
    explained: list[dict[str, str]] = []
    usual = habits(tally.rows(with_dtypes=True)) if habits is not None else {}
    explained.extend({"what": what, "reason": reason} for what, reason in usual.values())
    for difference in tally.differences():
        if (difference.kind, difference.mesh_axes) in usual:
            continue
        reason = next((e.reason for e in explanations if e.applies(difference)), None)
        if reason is None:
            surprises.append(difference.what())
        else:
            explained.append({"what": difference.what(), "reason": reason})
    return {
        "collectives": tally.rows(),
        "peak": {"predicted": predicted_peak, "compiled": compiled_peak},
        "surprises": surprises,
        "explained": explained,
    }


class _Tally:
    """Counts both sides by (kind, mesh axes, bytes), in the order in which they were first seen."""

    def __init__(self, mesh_order: list[str]):
        self._order = {name: place for place, name in enumerate(mesh_order)}
        self._sizes: dict[_Key, dict[str, Any]] = {}

    def predict(self, item: Mapping[str, Any]) -> None:
        entry = self._entry(item["kind"], item["mesh_axes"], item["bytes"])
        entry["predicted_count"] += item["count"]
        _note(entry["axes"], item.get("axis"))
        _note(entry["sources"], item.get("source"))

    def compile(self, collective: CompiledCollective) -> None:
        entry = self._entry(collective.kind, collective.mesh_axes, collective.bytes)
        entry["compiled_count"] += collective.count
        entry["count_known"] &= collective.count_known
        _note(entry["sources"], collective.source)
        _note(entry["op_names"], collective.op_name)
        entry["dtypes"][collective.dtype] = entry["dtypes"].get(collective.dtype, 0) + collective.count

    def differences(self) -> list[Difference]:
        return [
            Difference(
                *key,
                entry["predicted_count"],
                entry["compiled_count"],
                tuple(entry["axes"]),
                tuple(entry["sources"]),
                tuple(entry["op_names"]),
                entry["count_known"],
            )
            for key, entry in self._sorted()
            if entry["predicted_count"] != entry["compiled_count"]
        ]

    def rows(self, with_dtypes: bool = False) -> list[dict[str, Any]]:
        hidden = ("count_known",) if with_dtypes else ("count_known", "dtypes")
        rows: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}
        for (kind, axes, size), entry in self._sorted():
            zero = {"predicted_count": 0, "compiled_count": 0, "predicted_bytes": 0, "compiled_bytes": 0, "sizes": []}
            row = rows.setdefault((kind, axes), {"kind": kind, "mesh_axes": list(axes), **zero})
            for side in ("predicted", "compiled"):
                row[f"{side}_count"] += entry[f"{side}_count"]
                row[f"{side}_bytes"] += entry[f"{side}_count"] * size
            row["sizes"].append({"bytes": size, **{key: entry[key] for key in entry if key not in hidden}})
        return list(rows.values())

    def _entry(self, kind: str, mesh_axes: Sequence[str], size: int) -> dict[str, Any]:
        axes = tuple(sorted(mesh_axes, key=lambda name: self._order.get(name, len(self._order))))
        empty = {"predicted_count": 0, "compiled_count": 0, "axes": [], "sources": [], "op_names": [], "dtypes": {}}
        return self._sizes.setdefault((kind, axes, size), {**empty, "count_known": True})

    def _sorted(self) -> list[tuple[_Key, dict[str, Any]]]:
        """By kind, then mesh axes in mesh order, then the largest first."""
        return sorted(
            self._sizes.items(),
            key=lambda item: (
                item[0][0],
                [self._order.get(name, len(self._order)) for name in item[0][1]],
                -item[0][2],
            ),
        )


def _note(notes: list[str], text: str | None) -> None:
    if text and text not in notes:
        notes.append(text)


def _seen(lists: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in lists for name in names))
