"""A trace of some steps, for XProf and Perfetto (`trainer.profile`, `levanter train --profile 20:25`).

It lies in the folder `profile` of the run directory: `xprof RUN_DIR/profile` shows it, and so does
https://ui.perfetto.dev with the file `perfetto_trace.json.gz` in it. Tracing changes no bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

STEP = "train"
"""What a step is called in a trace; it has a `step_num`, counted from 1."""


def common(window: range, made: range) -> range:
    """The steps of a window that are among those that are made."""
    return range(max(window.start, made.start), min(window.stop, made.stop))


class Profile:
    """Traces a window of steps into `folder`.

    Args:
        steps: those that are traced, counted from 1; of a resumed run those that are left of them.
    """

    def __init__(self, folder: Path, steps: range) -> None:
        self._folder = folder
        self._steps = steps
        self._tracing = False
        self._step: jax.profiler.StepTraceAnnotation | None = None

    def before(self, step: int) -> None:
        """Step `step` comes next: start, where it is the first of them."""
        if step in self._steps and not self._tracing:
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._tracing = True
        if self._tracing:
            # XProf's pages of a step's time go by these annotations; what compiled programs say of themselves has no
            # numbers of steps.
            self._end_step()
            self._step = jax.profiler.StepTraceAnnotation(STEP, step_num=step)
            self._step.__enter__()

    def ends_with(self, step: int) -> bool:
        """Whether the trace ends with this step: its results are to be waited for, and `stop` called."""
        return self._tracing and step >= self._steps[-1]

    def stop(self, results: Any = None) -> Path | None:
        """Write the trace, where one is being made; gives its folder.

        Args:
            results: those of the last step, which are waited for.
        """
        if not self._tracing:
            return None
        jax.block_until_ready(results)
        self._end_step()
        jax.profiler.stop_trace()
        self._tracing, self._steps = False, range(0)
        return self._folder

    def _end_step(self) -> None:
        if self._step is not None:
            self._step.__exit__(None, None, None)
            self._step = None
