"""What looks on while the loop makes steps: speed, norms of parameters, a trace, callbacks, the cache of programs.

None of it changes a bit of the run. The loop calls each method where its name says.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levanter.runtime.callbacks import Callback, RunStart, callbacks_of
from levanter.runtime.pace import Before, Pace
from levanter.runtime.profile import Profile
from levanter.runtime.watch import Watch

if TYPE_CHECKING:
    from levanter.compiler.compile import Compiled
    from levanter.config import TrainConfig
    from levanter.runtime.compile_cache import Programs

PROFILE = "profile"


class Instruments:
    """All of them, for one run.

    Args:
        directory: of the run.
        before: what the run did before this process; default: nothing.
        programs: the cache of compiled programs, where one is used.
        callbacks: those of the caller; the configuration's come after them.
        process: the number of this one, of several.

    Raises:
        UserError: the configuration names a callback or a parameter that there is not.
    """

    def __init__(
        self,
        config: TrainConfig,
        compiled: Compiled,
        directory: Path,
        *,
        before: Before | None = None,
        programs: Programs | None = None,
        callbacks: Sequence[Callback] = (),
        process: int = 0,
    ) -> None:
        from levanter.compiler.arithmetic import step_arithmetic

        self.pace = Pace(config.trainer.train_batch_size * config.model.seq_len, step_arithmetic(compiled), before)
        self._config, self._directory = config, directory
        self._watch = Watch(config, compiled)
        self._profile = Profile(directory / PROFILE, config.trainer.profiled, process)
        self._programs = programs
        self._callbacks = [*callbacks, *callbacks_of(config.trainer.callbacks)]

    def start(self, step: int) -> None:
        """The loop starts with `step` steps done."""
        for each in self._callbacks:
            each.on_start(RunStart(self._directory, self._config, step))

    def compiled(self) -> None:
        """A program has been compiled."""
        if self._programs is not None:
            self._programs.keep()

    def before_step(self, step: int, state: Any, batch: Any) -> Mapping[str, Any]:
        """Step `step`, counted from 1, comes next; gives numbers of it that nobody has waited for."""
        self._profile.before(step)
        if not self._watch.due(step):
            return {}
        began = time.perf_counter()
        compiles = not self._watch.compiled
        numbers = self._watch.numbers(state, batch)
        if compiles:
            self.compiled()
            self.pace.lost(time.perf_counter() - began)
        return numbers

    def after_step(self, step: int, metrics: Any) -> None:
        """Step `step` was dispatched, with these results to come."""
        if self._profile.ends_with(step):
            self._profile.stop(metrics)
            self.pace.pause()

    def read_state(self, step: int) -> bool:
        """Whether the state after `step` steps is to be read, before the next step takes its memory."""
        return any(each.reads_state and step % each.every == 0 for each in self._callbacks)

    def seen(self, step: int, numbers: Mapping[str, Any], state: Any) -> dict[str, float]:
        """The numbers of a step are known and about to be logged; gives those that callbacks add.

        Args:
            state: after the step, where `read_state` asked for it.
        """
        added: dict[str, float] = {}
        for each in self._callbacks:
            if step % each.every == 0:
                added |= each.on_step(step, {**numbers, **added}, state if each.reads_state else None) or {}
        return added

    def broken_off(self) -> None:
        """The loop ends where something failed."""
        self._profile.stop()

    def end(self, step: int, results: Any = None) -> None:
        """The loop ends with `step` steps done."""
        self._profile.stop(results)
        for each in self._callbacks:
            each.on_end(step)
