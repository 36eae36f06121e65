"""Saving while training continues.

The step loop gives its state away when it starts the next step (the buffers are donated), so a save first copies every
array into memory of its own; that copy is all the loop waits for. A single thread then writes and commits it. One save
is in the air at a time, and an error in it is raised at the next call, never lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from levanter.checkpoint.config import CheckpointConfig
from levanter.checkpoint.directory import clean, committed, prune, set_aside
from levanter.checkpoint.writing import save

if TYPE_CHECKING:
    import jax

_SECONDS = 60.0


class Checkpointer:
    """The one writer of a folder of checkpoints; a context manager that waits for the last save.

    Args:
        directory: the folder; made if it is not there, and cleaned of what a killed process left.
        resumed_step: the step whose checkpoint the run resumes from, or None for a fresh start. Checkpoints past it
            were refused by `latest` as damaged, and are renamed to `step-N.damaged`.
        clock: seconds, for `every_minutes`.
    """

    def __init__(
        self,
        directory: Path | str,
        config: CheckpointConfig,
        *,
        resumed_step: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = Path(directory)
        self._config = config
        self._clock = clock
        self._last_step = resumed_step
        self._last_time = clock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[Path] | None = None
        self._directory.mkdir(parents=True, exist_ok=True)
        clean(self._directory)
        if resumed_step is not None:
            set_aside(self._directory, resumed_step)

    def due(self, step: int) -> bool:
        """Whether the state after `step` steps should be saved now."""
        every_steps, every_minutes = self._config.every_steps, self._config.every_minutes
        if step == self._last_step or step == 0:
            return False
        by_steps = every_steps is not None and step % every_steps == 0
        by_time = every_minutes is not None and self._clock() - self._last_time >= every_minutes * _SECONDS
        return by_steps or by_time

    def save(self, step: int, tree: Mapping[str, jax.Array | np.ndarray], metadata: Mapping[str, Any]) -> None:
        """Copy `tree` and start writing it as the checkpoint of `step`; does nothing if that step was the last saved.

        Raises:
            WorkFailed: this or the save before it could not be written.
        """
        if step == self._last_step:
            return
        self.wait()
        # A copy, always: on the CPU, `np.asarray` of a JAX array is a view of the buffer that the next step overwrites.
        copied = {name: np.array(value, copy=True) for name, value in tree.items()}
        self._writing = self._thread.submit(self._write, step, copied, dict(metadata))
        self._last_step, self._last_time = step, self._clock()

    def wait(self) -> Path | None:
        """Wait until the save in the air is committed; the newest checkpoint then, or None before the first.

        Raises:
            WorkFailed: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            return writing.result()
        found = committed(self._directory)
        return found[-1] if found else None

    def _write(self, step: int, tree: dict[str, np.ndarray], metadata: dict[str, Any]) -> Path:
        path = save(self._directory, step, tree, metadata)
        prune(self._directory, self._config.keep)
        return path

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        # With an error on its way already, the one of the last save would hide it.
        if error is None:
            self.wait()
