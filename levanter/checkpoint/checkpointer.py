"""Saving while training continues.

The step loop gives its state away when it starts the next step (the buffers are donated), so a save first copies what
this process writes into memory of its own; that copy is all the loop waits for. A single thread then writes and commits
it. One save is in the air at a time, and an error in it is raised at the next call, never lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from levanter.checkpoint.config import CheckpointConfig
from levanter.checkpoint.directory import clean, committed, make, prune, set_aside
from levanter.checkpoint.locations import Location, location
from levanter.checkpoint.snapshot import Held, Staging
from levanter.checkpoint.writing import save
from levanter.processes.group import ALONE, Group

if TYPE_CHECKING:
    import jax

_SECONDS = 60.0


class Checkpointer:
    """The one writer of a folder of checkpoints; a context manager that waits for the last save.

    Args:
        directory: the folder, a path or a URL; made if it is not there, and cleaned of what a killed process left.
        resumed_step: the step whose checkpoint the run resumes from, or None for a fresh start. Checkpoints past it
            were refused by `latest` as damaged, and are renamed to `step-N.damaged`.
        clock: seconds, for `every_minutes`.
        group: the processes that write together; each has a `Checkpointer`, and all save at the same steps.
    """

    def __init__(
        self,
        directory: Location | str,
        config: CheckpointConfig,
        *,
        resumed_step: int | None,
        clock: Callable[[], float] = time.monotonic,
        group: Group = ALONE,
    ) -> None:
        self._directory = location(directory)
        self._config = config
        self._clock = clock
        self._group = group
        self._last_step = resumed_step
        self._last_time = clock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[Location] | None = None
        self._staging = Staging()
        self._preparing: Future[None] | None = None
        if group.index == 0:
            make(self._directory)
            clean(self._directory)
            if resumed_step is not None:
                set_aside(self._directory, resumed_step)
        group.exchange(f"checkpoints in {self._directory}")

    def due(self, step: int, by_time: bool | None = None) -> bool:
        """Whether the state after `step` steps should be saved now.

        Args:
            by_time: whether its time has come; default: by the clock of this process. All processes must agree.
        """
        multiples = self._config.every_steps, self._config.keep_every
        by_steps = any(every is not None and step % every == 0 for every in multiples)
        return (
            step > 0 and step != self._last_step and (by_steps or (self.due_by_time() if by_time is None else by_time))
        )

    def due_by_time(self) -> bool:
        """Whether so much time has passed since the last checkpoint, by the clock of this process. While one is written
        the next one's time has not come: the loop would wait for it."""
        every = self._config.every_minutes
        return every is not None and not self.writing and self._clock() - self._last_time >= every * _SECONDS

    def prepare(self, tree: Mapping[str, jax.Array | np.ndarray]) -> None:
        """Take the memory that the first save needs, while the steps before it run; nothing of `tree` is read."""
        self._preparing = self._thread.submit(self._staging.prepared(tree, self._group.index))

    def save(self, step: int, tree: Mapping[str, jax.Array | np.ndarray], metadata: Mapping[str, Any]) -> None:
        """Copy `tree` and start writing it as the checkpoint of `step`; does nothing if that step was the last saved.

        Raises:
            WorkFailed: this or the save before it could not be written.
        """
        if step == self._last_step:
            return
        self.wait()
        if self._preparing is not None:
            self._preparing.result()
            self._preparing = None
        # A copy, always: on the CPU, `np.asarray` of a JAX array is a view of the buffer that the next step overwrites.
        copied = self._staging.copied(tree, self._group.index)
        self._writing = self._thread.submit(self._write, step, copied, dict(metadata))
        self._last_step, self._last_time = step, self._clock()

    @property
    def writing(self) -> bool:
        """Whether a save is in the air."""
        return self._writing is not None and not self._writing.done()

    def wait(self) -> Location | None:
        """Wait until the save in the air is committed; the newest checkpoint then, or None before the first.

        Raises:
            WorkFailed: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            return writing.result()
        found = committed(self._directory)
        return found[-1] if found else None

    def _write(self, step: int, tree: dict[str, Held], metadata: dict[str, Any]) -> Location:
        path = save(self._directory, step, tree, metadata, group=self._group)
        if self._group.index == 0:
            prune(self._directory, self._config.keep, self._config.keep_every)
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
