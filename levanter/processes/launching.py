"""Several processes on one machine, to try out what runs on many: started, listened to, and stopped together."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import TextIO

from levanter.errors import EXIT_INTERRUPTED, EXIT_WORK_FAILED
from levanter.processes import errors
from levanter.processes.starting import COORDINATOR, PROCESS_ID, PROCESSES

GRACE_SECONDS = 10.0
"""What the others have for ending by themselves once one has failed."""
_POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run a `levanter` command in so many processes of this machine; returns the exit code for all.

    What they print comes with the number of the process before each line. Where one fails, the others are stopped.
    Signals go to all of them.
    """
    children = Children(arguments, processes)
    with children.signals_forwarded():
        return children.wait()


class Children:
    """The processes, from their start to their end."""

    def __init__(self, arguments: Sequence[str], processes: int) -> None:
        command = [sys.executable, "-m", "levanter.cli.main", *arguments]
        coordinator = f"127.0.0.1:{_free_port()}"
        when_started = _ends_with_this_process()
        # A process of its own session: what the terminal sends comes here, and is sent on once.
        self._children = [
            subprocess.Popen(
                command,
                env=environment(os.environ, coordinator, processes, index),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
                preexec_fn=when_started,
            )
            for index in range(processes)
        ]
        self._listeners = [
            threading.Thread(target=_relay, args=(stream, target, f"[{index}] "), daemon=True)
            for index, child in enumerate(self._children)
            for stream, target in ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
        ]
        for listener in self._listeners:
            listener.start()
        self._interrupted = False

    @contextlib.contextmanager
    def signals_forwarded(self) -> Iterator[None]:
        """While the block runs, signals to this process go to the children; whatever ends it ends them."""
        before = {number: signal.signal(number, self._forward) for number in _FORWARDED}
        try:
            yield
        finally:
            self._stop(0.0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self) -> int:
        """Wait for all to end, and stop the others once one has failed; the exit code."""
        code = 0
        while None in (codes := [child.poll() for child in self._children]):
            failed = next((index for index, each in enumerate(codes) if each not in (None, 0)), None)
            if failed is not None and not code:
                code = codes[failed] or 0
                if not self._interrupted:
                    print(errors.child_failed(failed, code), file=sys.stderr, flush=True)
                self._stop(GRACE_SECONDS)
            time.sleep(_POLL_SECONDS)
        for listener in self._listeners:
            listener.join(_POLL_SECONDS * 50)
        codes = [child.returncode for child in self._children]
        code = code or next((each for each in codes if each), 0)
        if self._interrupted and code in (0, EXIT_INTERRUPTED):
            return code
        return EXIT_WORK_FAILED if code < 0 else code

    def _stop(self, grace: float) -> None:
        """End those that run: by themselves within `grace` seconds, or else by force."""
        deadline = time.monotonic() + grace
        # They end by themselves where they hear of the failure; a signal to save would wait for the one that is gone.
        while time.monotonic() < deadline and any(child.poll() is None for child in self._children):
            time.sleep(_POLL_SECONDS)
        stuck = [index for index, child in enumerate(self._children) if child.poll() is None]
        for index in stuck:
            self._children[index].kill()
        if stuck and grace:
            print(errors.children_killed(stuck, grace), file=sys.stderr, flush=True)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        for child in self._children:
            if child.poll() is None:
                child.send_signal(number)


def _ends_with_this_process() -> Callable[[], object] | None:
    """What a child does first, so that SIGTERM comes to it when this process is gone, by `kill -9` too."""
    if sys.platform != "linux":
        return None
    return functools.partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, int(signal.SIGTERM))


def environment(current: Mapping[str, str], coordinator: str, processes: int, index: int) -> dict[str, str]:
    """The environment of one of the processes. They share the machine's CPU, unless the user says otherwise."""
    told = {COORDINATOR: coordinator, PROCESSES: str(processes), PROCESS_ID: str(index)}
    return {"JAX_PLATFORMS": "cpu", **current, **told, "PYTHONUNBUFFERED": "1"}


def _relay(stream: TextIO, target: TextIO, prefix: str) -> None:
    for line in stream:
        # In one piece, so that lines of two processes do not get mixed.
        target.write(f"{prefix}{line.rstrip()}\n")
        target.flush()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
