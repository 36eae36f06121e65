"""Steps of a run made again and compared with what the run recorded, bit by bit.

From the nearest checkpoint before the first of them (or from the start) each step is made as the run made it: with the
configuration that it had then, the data that it read, and as many CPU threads. Its numbers must be those of
`metrics.jsonl`, and the arrays at each checkpoint on the way those of the checkpoint. Nothing is written to the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from levanter import data as text
from levanter.checkpoint import Location, load, read_manifest
from levanter.compiler.compile import compile_training
from levanter.config import TrainConfig
from levanter.runtime import environment, errors, evaluate, heldout
from levanter.runtime.asked import Request, checkpoint_before, records_of, step_of
from levanter.runtime.heldout import HeldOut
from levanter.runtime.record import as_of, since
from levanter.runtime.rerun import Rerun
from levanter.runtime.run_directory import KEEPS_BITS
from levanter.runtime.state import TrainState, batch_shape, flat_names, state_shape
from levanter.trackers.scalars import record as record_line

Tell = Callable[[str], None]


@dataclass
class _Seen:
    """What has been compared."""

    records: int = 0
    arrays: dict[str, int] = field(default_factory=dict)
    unrecorded: list[int] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def reproduce(request: Request, tell: Tell) -> str:
    """Make the steps again and compare; returns what was proved, in words.

    Raises:
        WorkFailed: something differs; it names the first step and the first array.
        UserError: the data, or the weights that the run started from, are gone.
    """
    run, seen = request.run, _Seen()
    checkpoint = checkpoint_before(run, request.start)
    start = step_of(checkpoint)
    if start != request.start:
        tell(errors.starts_earlier(checkpoint, start, request.start))
    _tell_environment(request, checkpoint, tell)
    records, state, tokens = records_of(run), None, None
    for first, end, config in _pieces(request, start):
        if tokens is None:
            tokens = _data(config, checkpoint)
        rerun = Rerun(config, run, tokens, compile_training(config, reproducible=True))
        state = rerun.state(checkpoint) if state is None else jax.device_put(state, rerun.compiled.state_shardings)
        judge = _Judge(rerun, records, seen)
        for step, after, metrics in rerun.steps(state, first, end):
            state = after
            judge.step(step, after, metrics)
            # Where a number differs, the next checkpoint tells in which array.
            if seen.differences and (f"step-{step}" in seen.arrays or step == request.end):
                raise errors.not_reproduced(run.path, seen.differences)
    if seen.unrecorded:
        tell(errors.no_record(seen.unrecorded))
    if f"step-{request.end}" not in seen.arrays:
        tell(errors.not_compared(request.end))
    return errors.reproduced(run.path, start, request.end, seen.records, seen.arrays)


class _Judge:
    """Compares steps with what the run recorded of them."""

    def __init__(self, rerun: Rerun, records: Mapping[int, Mapping[str, Any]], seen: _Seen) -> None:
        self._rerun, self._records, self._seen = rerun, records, seen
        self._evaluation = _Evaluation(rerun)

    def step(self, step: int, state: TrainState, metrics: Mapping[str, Any]) -> None:
        """Compare the numbers of a step, and the state after it where there is a checkpoint."""
        kept = self._records.get(step)
        if kept is None:
            self._seen.unrecorded.append(step)
        else:
            now = json.loads(record_line(step, jax.device_get(metrics)))
            if heldout.LOSS in kept:
                now |= json.loads(record_line(step, self._evaluation.losses(state)))
            self._seen.records += 1
            if not self._seen.differences:
                differing = [name for name in now if kept.get(name) != now[name]]
                self._seen.differences += [
                    errors.number_differs(step, name, kept.get(name), now[name]) for name in differing[:1]
                ]
        path = checkpoint_before(self._rerun.run, step)
        if path is not None and step_of(path) == step:
            self._arrays(path, step, state)

    def _arrays(self, path: Location, step: int, state: TrainState) -> None:
        now = flat_names(state)
        kept = load(path, like=flat_names(state_shape(self._rerun.config)))
        differing = [name for name, array in now.items() if not _same_bits(array, kept[name])]
        self._seen.arrays[path.name] = len(now)
        if differing:
            self._seen.differences.append(errors.array_differs(step, differing[0], len(differing), len(now)))


class _Evaluation:
    """The held-out losses as the run computes them."""

    def __init__(self, rerun: Rerun) -> None:
        self._rerun = rerun
        self._step: Any = None

    def losses(self, state: TrainState) -> dict[str, float]:
        rerun = self._rerun
        config = rerun.config
        averages = config.optimizer.averages
        if self._step is None:
            shape = state_shape(config)
            function = evaluate.eval_step_of(config) if averages else evaluate.eval_step
            self._step = rerun.compiled.lower_for(function, shape if averages else shape.model, batch_shape(config))
        size = config.trainer.train_batch_size
        held = HeldOut(rerun.tokens, config.trainer.eval_batches, size, lambda rows: rerun.place(rows(np.arange(size))))
        return held.losses(self._step, state if averages else state.model)


def _pieces(request: Request, start: int) -> Iterator[tuple[int, int, TrainConfig]]:
    """The steps from `start` to the end of the request, cut where a resume changed what a step computes."""
    changed = {
        entry.step
        for entry in since(request.record.history, start)
        if start < entry.step < request.end and any(map(_changes_bits, entry.changed))
    }
    ends = sorted({*changed, request.end})
    for first, end in zip([start, *ends], ends, strict=False):
        yield first, end, request.config(end)


def _changes_bits(name: str) -> bool:
    return not any(f"{name}.".startswith(f"{kept}.") for kept in (*KEEPS_BITS, environment.KEY))


def _data(config: TrainConfig, checkpoint: Location | None) -> text.TokenData:
    tokens = text.build(
        config.data,
        seq_len=config.model.seq_len,
        seed=config.trainer.seed,
        batch_size=config.trainer.train_batch_size,
    )
    if checkpoint is not None:
        manifest = read_manifest(checkpoint)
        if manifest.metadata.get("data") != tokens.identity_at(manifest.step):
            raise errors.other_data(checkpoint)
    return tokens


def _tell_environment(request: Request, checkpoint: Location | None, tell: Tell) -> None:
    """Say what bits depend on and is not as it was, each once."""
    now, told = environment.current(), dict[str, None]()
    for then in _environments(request, checkpoint):
        told |= {errors.environment_differs(name, *each): None for name, each in environment.changes(then, now).items()}
    for line in told:
        tell(line)


def _environments(request: Request, checkpoint: Location | None) -> Iterator[Mapping[str, Any]]:
    """What the steps after `checkpoint` were made with: a checkpoint says it of the process that wrote it, and the
    record of each that resumed with something else."""
    start = step_of(checkpoint)
    resumed = {entry.step for entry in request.record.history if start <= entry.step < request.end}
    if checkpoint is not None and start not in resumed:
        yield read_manifest(checkpoint).metadata.get(environment.KEY, {})
    for step in sorted(resumed | ({start} if checkpoint is None else set())):
        yield as_of(request.run.config_text, request.record, step + 1)[1].environment


def _same_bits(left: Any, right: Any) -> bool:
    left, right = np.asarray(left), np.asarray(right)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
