"""Signals that ask a run to stop: Ctrl-C, and SIGTERM and SIGHUP, which a machine that goes away sends.

While steps are made, a signal asks for a checkpoint and the end. Before the first step and after the last save there is
nothing to lose: the process ends at once, from a thread of its own, since the main thread may be compiling for minutes
and Python hands a signal to nobody else. Ctrl-C ends with 130, the others with 0.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from levanter.errors import EXIT_INTERRUPTED
from levanter.processes.group import Group
from levanter.processes.starting import leave_early
from levanter.runtime import errors

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopRequested(Exception):
    """Raised inside an evaluation that a signal cuts short."""


@contextlib.contextmanager
def signals_of_a_command(leave: Callable[[int], Any] = os._exit) -> Iterator[None]:
    """Around the whole of a command that a process is for: SIGTERM and SIGHUP end it with 0 where nothing else listens
    to them, and when the command has ended, signals change nothing: the interpreter still takes a moment to end.

    Args:
        leave: ends the process with an exit code.
    """

    def leave_now(number: int, frame: FrameType | None) -> None:
        os.write(2, f"{errors.stopped_early(signal.Signals(number).name)}\n".encode())
        leave(0)

    listened = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in listened:
        if number != signal.SIGINT:  # which is an exception, as everywhere
            signal.signal(number, leave_now)
    try:
        yield
    finally:
        for number in listened:
            signal.signal(number, signal.SIG_IGN)


class StopSignal:
    """While it is entered, a signal asks for a stop instead of ending the process. A second Ctrl-C ends it.

    A signal that the process was started to ignore (`nohup`) stays ignored.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """The first that came."""
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        return self.signal is not None

    @property
    def interrupted(self) -> bool:
        """Whether it was Ctrl-C."""
        return self.signal == signal.SIGINT

    def check(self) -> None:
        """Raise `StopRequested` where a stop is asked for."""
        if self.requested:
            raise StopRequested

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """From the first step made to the last save: here a stop means a checkpoint."""
        yield

    def begun(self) -> None:
        """The first step is compiled: from here there is something to save."""

    def __enter__(self) -> StopSignal:
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                self._before[number] = signal.signal(number, self._request)
            except ValueError:
                break  # Python hands out signals in the main thread only; elsewhere they work as they did.
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _request(self, number: int, frame: FrameType | None) -> None:
        # Only a person means a second signal so: systemd sends SIGTERM and SIGHUP together.
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal = number


class Together:
    """`StopSignal.check` of several processes, which are to end at the same call although a signal comes to one of
    them, or to each at another moment. They ask each other now and then."""

    EVERY = 8
    """Calls from one question to the next: each of them waits for the slowest process."""

    def __init__(self, members: Group, stop: StopSignal) -> None:
        self._members, self._stop = members, stop
        self._calls = 0

    def check(self) -> None:
        """Raise `StopRequested` where a stop is asked for in any of the processes."""
        self._calls += 1
        if self._calls % self.EVERY == 0 and any(self._members.exchange("stop", "1" if self._stop.requested else "")):
            raise StopRequested


class ProcessStop(StopSignal):
    """For the command line, from its first line on: while there is nothing to save, a signal ends the process at once.

    Args:
        leave: ends the process with an exit code.
    """

    def __init__(self, leave: Callable[[int], Any] = os._exit) -> None:
        super().__init__()
        self._leave = leave
        self._saving = threading.Event()
        self._answered = False
        self._pipe: tuple[int, int] | None = None
        self._fd_before = -1

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._saving.clear()

    def begun(self) -> None:
        self._saving.set()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._answered = self._answered or self._saving.is_set()
        super()._request(number, frame)

    def __enter__(self) -> ProcessStop:
        super().__enter__()
        if self._before:
            read, write = self._pipe = os.pipe()
            os.set_blocking(write, False)
            self._fd_before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(read,), name="signals", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._pipe is not None:
            signal.set_wakeup_fd(self._fd_before)
            os.close(self._pipe[1])  # the thread reads the end and closes its own
            self._pipe = None

    def _watch(self, read: int) -> None:
        while byte := os.read(read, 1):
            number = byte[0]
            # One that came while steps were made may be read when they are over: it is answered already.
            if number in self._before and not self._saving.is_set() and not self._answered:
                # Straight to the file: whoever holds a lock of `sys.stderr` may be waiting for the compiler.
                said = errors.stopped_early(signal.Signals(number).name)
                os.write(2, f"{said}\n".encode())
                leave_early(EXIT_INTERRUPTED if number == signal.SIGINT else 0, said, self._leave)
        os.close(read)
