"""A trace of some steps, for XProf and Perfetto (`trainer.profile`, `levanter train --profile 20:25`).

It lies in the folder `profile` of the run directory: `xprof RUN_DIR/profile` shows it, and so does
https://ui.perfetto.dev with the file `perfetto_trace.json.gz` in it. Of several processes each traces itself, all but
the first into a folder `process-N` of their own: where two write into one folder, JAX finds no trace that is its own.
Tracing changes no bits, and a trace that cannot be written ends no run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from levanter.runtime import errors

STEP = "train"
"""What a step is called in a trace; it has a `step_num`, counted from 1."""


def common(window: range, made: range) -> range:
    """The steps of a window that are among those that are made."""
    return range(max(window.start, made.start), min(window.stop, made.stop))


class Profile:
    """Traces a window of steps into a folder.

    Args:
        folder: that of the run.
        process: the number of this one.
        steps: those that are traced, counted from 1; of a resumed run those that are left of them.
    """

    def __init__(self, folder: Path, steps: range, process: int = 0) -> None:
        self._folder = folder / f"process-{process}" if process else folder
        self._steps = steps
        self._tracing = False
        self._step: jax.profiler.StepTraceAnnotation | None = None

    def before(self, step: int) -> None:
        """Step `step` comes next: start, where it is the first of them."""
        if step in self._steps and not self._tracing:
            self._tracing = self._done(lambda: jax.profiler.start_trace(self._folder, create_perfetto_trace=True))
        if self._tracing:
            # XProf's pages of a step's time go by these annotations; what compiled programs say of themselves has no
            # numbers of steps.
            self._end_step()
            self._step = jax.profiler.StepTraceAnnotation(STEP, step_num=step)
            self._step.__enter__()

    def ends_with(self, step: int) -> bool:
        """Whether the trace ends with this step: its results are to be waited for, and `stop` called."""
        return self._tracing and step >= self._steps[-1]

    def stop(self, results: Any = None) -> None:
        """Write the trace, where one is being made.

        Args:
            results: those of the last step, which are waited for.
        """
        if not self._tracing:
            return
        jax.block_until_ready(results)
        self._end_step()
        self._done(jax.profiler.stop_trace)
        self._tracing, self._steps = False, range(0)

    def _done(self, act: Callable[[], None]) -> bool:
        """Whether the profiler did what it was asked to; where not, that is said, and nothing more is traced."""
        try:
            act()
        except (OSError, RuntimeError, ValueError) as error:
            print(errors.not_traced(self._folder, error), file=sys.stderr, flush=True)
            self._steps = range(0)
            return False
        return True

    def _end_step(self) -> None:
        if self._step is not None:
            self._step.__exit__(None, None, None)
            self._step = None
