"""Where a run stands, read from its run directory: by `levanter status`, while it is written or later.

Nothing is imported that takes long: looking at a run every few seconds costs next to nothing.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from levanter.checkpoint import committed
from levanter.runtime import errors
from levanter.runtime.curve import curve
from levanter.runtime.run_directory import RunDirectory, is_locked
from levanter.trackers.console.progress import duration
from levanter.trackers.records import read

RECENT = 100
"""Steps that rates are over."""
_SILENT = 60.0


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        records: of all its steps, in their order.
        total: the step that it ends with; None where its config does not say.
        running: whether a process is writing the run directory just now.
        writer: what that process says of itself.
        checkpoints: complete ones, by step.
        now: when this was read, in seconds since 1970.
    """

    path: Path
    records: Sequence[dict[str, Any]]
    total: int | None
    running: bool
    writer: str
    checkpoints: dict[int, str]
    now: float

    @staticmethod
    def of(path: Path) -> Status:
        """Raises `UserError` where there is no run at `path`."""
        run = RunDirectory(path)
        try:
            config = yaml.safe_load(run.config_path.read_text(encoding="utf-8"))
            total = int(config["trainer"]["num_train_steps"])
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
            total = None
        if not run.config_path.is_file():
            raise errors.no_run(path)
        running = is_locked(path)
        checkpoints = {int(each.name.rpartition("-")[2]): str(each) for each in committed(run.checkpoints_path)}
        writer = (path / ".lock").read_text(encoding="utf-8", errors="replace").strip() if running else ""
        return Status(path, list(read(run.metrics_path)), total, running, writer, checkpoints, time.time())

    @property
    def step(self) -> int:
        """Steps done, and recorded."""
        return self.records[-1]["step"] if self.records else 0

    @property
    def state(self) -> str:
        """In a word: starting, running, finished or stopped."""
        if self.running:
            return "running" if self.records else "starting"
        return "finished" if self.total is not None and self.step >= self.total else "stopped"

    @property
    def recent(self) -> Sequence[dict[str, Any]]:
        """The last records that say how long their step took."""
        return [each for each in self.records[-RECENT:] if "step_seconds" in each]

    @property
    def seconds_left(self) -> float | None:
        """What the steps that are left will take, evaluations apart; None where that is not known."""
        recent = self.recent
        if self.total is None or not recent:
            return None
        spent = math.fsum(each["step_seconds"] + each.get("checkpoint_stall_seconds", 0.0) for each in recent)
        return max(self.total - self.step, 0) * spent / len(recent)

    def share(self, key: str) -> float | None:
        """Seconds under `key` for each second of the last steps."""
        spent = math.fsum(each["step_seconds"] for each in self.recent)
        return math.fsum(each.get(key, 0.0) for each in self.recent) / spent if spent else None

    def last(self, key: str) -> tuple[int, Any] | None:
        """The last value under `key`, and its step."""
        found = next((each for each in reversed(self.records) if key in each), None)
        return None if found is None else (found["step"], found[key])

    def facts(self) -> dict[str, Any]:
        """Everything as plain data: what `--json` prints."""
        record = self.records[-1] if self.records else {}
        heldout = self.last("heldout_loss")
        newest = max(self.checkpoints, default=None)
        return {
            "run": str(self.path),
            "state": self.state,
            "running": self.running,
            "writer": self.writer or None,
            "step": self.step,
            "num_train_steps": self.total,
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 3),
            "seconds_since_last_step": round(self.now - record["time"], 3) if "time" in record else None,
            "loss": _plain(record.get("loss")),
            "heldout_loss": None if heldout is None else {"step": heldout[0], "loss": _plain(heldout[1])},
            **{key: record.get(key) for key in ("tokens_per_second", "flops_per_second", "mfu", "goodput")},
            "data_wait_share": _rounded(self.share("data_wait_seconds")),
            "checkpoint_stall_share": _rounded(self.share("checkpoint_stall_seconds")),
            "last_checkpoint": None if newest is None else {"step": newest, "path": self.checkpoints[newest]},
        }

    def lines(self, width: int = 80) -> Iterator[str]:
        """The same for people, with the loss curve."""
        facts = self.facts()
        of = f" of {self.total:,}" if self.total is not None else ""
        percent = f" ({self.step / self.total:.0%})" if self.total else ""
        yield f"{self.path}  {self.state}" + (f" ({self.writer})" if self.writer else "")
        yield f"  step        {self.step:,}{of}{percent}" + self._when(facts)
        if self.records:
            yield f"  loss        {self._losses(facts)}"
        if speed := _speed(facts):
            yield f"  speed       {speed}"
        if shares := _shares(facts):
            yield f"  time        {shares}"
        if (newest := facts["last_checkpoint"]) is not None:
            yield f"  checkpoint  {newest['path']}"
        else:
            yield "  checkpoint  none yet"
        losses = [(each["step"], float(each["loss"])) for each in self.records if "loss" in each]
        if len(losses) > 1:
            yield ""
            chart = curve(*zip(*losses, strict=True), width=max(20, min(width, 100) - 14))
            yield from (f"  {line}" for line in chart)

    def _when(self, facts: dict[str, Any]) -> str:
        parts = []
        if self.running and facts["seconds_left"] is not None:
            parts.append(f"about {duration(facts['seconds_left'])} left")
        silent = facts["seconds_since_last_step"]
        if silent is not None and not (self.running and silent < _SILENT):
            parts.append(f"the last one {duration(silent)} ago")
        return "".join(f", {each}" for each in parts)

    def _losses(self, facts: dict[str, Any]) -> str:
        parts = [] if facts["loss"] is None else [f"{float(facts['loss']):.4f}"]
        if facts["heldout_loss"] is not None:
            parts.append(
                f"held-out {float(facts['heldout_loss']['loss']):.4f} at step {facts['heldout_loss']['step']:,}"
            )
        return ", ".join(parts)


def _speed(facts: dict[str, Any]) -> str:
    parts = []
    if facts["tokens_per_second"] is not None:
        parts.append(f"{facts['tokens_per_second']:,.0f} tokens/s")
    if facts["flops_per_second"] is not None:
        parts.append(f"{facts['flops_per_second']:.3g} FLOP/s")
    if facts["mfu"] is not None:
        parts.append(f"MFU {facts['mfu']:.1%}")
    return ", ".join(parts)


def _shares(facts: dict[str, Any]) -> str:
    names = {"data_wait_share": "waits for data", "checkpoint_stall_share": "waits for checkpoints"}
    parts = [f"{facts[key]:.1%} {said}" for key, said in names.items() if facts[key] is not None]
    if facts["goodput"] is not None:
        parts.insert(0, f"goodput {facts['goodput']:.0%} since the first start")
    return ", ".join(parts)


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 5)


def _plain(value: Any) -> Any:
    """JSON has no number for what is not finite."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def lines_of(statuses: Sequence[Status], width: int) -> Iterator[str]:
    """Several runs below one another."""
    blocks = [list(each.lines(width)) for each in statuses]
    yield from itertools.chain.from_iterable(block if at == 0 else ["", *block] for at, block in enumerate(blocks))
