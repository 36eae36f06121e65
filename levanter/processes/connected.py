"""The processes of a run, connected: they exchange words, and each notices when another is gone.

Every few seconds each process leaves a sign of life with the coordination service. The first looks at all of them, and
where one stays away it leaves a verdict; the others look at the verdict, and whether the service, which lives in the
first process, still answers. A process that fails leaves the verdict itself. So all stop, soon and with the reason,
also where the devices would wait for the lost one for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

from levanter.errors import EXIT_WORK_FAILED, WorkFailed
from levanter.processes import errors
from levanter.processes.service import Client, answers

BEAT_SECONDS = 2.0
LOST_SECONDS = 30.0
_LONGEST_WAIT = 24 * 3600 * 1000
"""Milliseconds at a barrier: the first process may make a cache of tokens for hours."""

_ROOT = "levanter"
_VERDICT = f"{_ROOT}/verdict"


class Connected:
    """This process among those of its run (`levanter.processes.group.Group`).

    Args:
        leave: ends the process with an exit code, at once.
    """

    def __init__(self, client: Client, index: int, count: int, leave: Callable[[int], None] = os._exit) -> None:
        self.index = index
        self.count = count
        self._client = client
        self._leave = leave
        self._times: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.failed = False
        """Whether the run ends here because something went wrong, in this process or in another one."""
        self.leaving: int | None = None
        """The exit code of this process, where it is about to leave."""
        self._watch = threading.Thread(target=self._watching, name="processes", daemon=True)

    def exchange(self, topic: str, value: str = "") -> list[str]:
        with self._lock:
            self._times[topic] += 1
            place = f"{_ROOT}/exchange/{topic} {self._times[topic]}"
        try:
            self._client.key_value_set(f"{place}/{self.index}", json.dumps(value))
            self._client.wait_at_barrier(place, _LONGEST_WAIT)
            found = dict(self._client.key_value_dir_get(f"{place}/"))
        except Exception as error:
            raise self.explained(error) from error
        return [json.loads(found[f"{place}/{index}"]) for index in range(self.count)]

    def put(self, key: str, value: str) -> None:
        """Leave a value for all to see, under a key of its own.

        Raises:
            WorkFailed: the service cannot be reached.
        """
        try:
            self._client.key_value_set(f"{_ROOT}/{key}", value, True)
        except Exception as error:
            raise self.explained(error) from error

    def below(self, key: str) -> dict[str, str]:
        """What has been left under keys that begin with `key` and a slash, by the rest of the key.

        Raises:
            WorkFailed: the service cannot be reached.
        """
        place = f"{_ROOT}/{key}/"
        try:
            return {name.removeprefix(place): value for name, value in self._client.key_value_dir_get(place)}
        except Exception as error:
            raise self.explained(error) from error

    # --- signs of life ---

    def start(self) -> None:
        """From now on leave signs of life, and end this process when another one is gone."""
        self._watch.start()

    def end(self) -> None:
        """The work is done: what the others do from now on does not concern this process."""
        self._ended.set()

    def fail(self, message: str) -> None:
        """Tell the others why this process stops; it must end now."""
        self.failed = True
        self._ended.set()
        self._judge(self.index, message)

    def aborting(self) -> None:
        """This process is about to abort: end it with the reason instead, where that is that the first one is gone."""
        if self.leaving is not None:
            self._leave(self.leaving)
        if not answers():
            self._end_with(errors.first_lost())

    def explained(self, error: Exception) -> WorkFailed:
        """What an error of a connection comes from, once that is known: the verdict, where there is one soon."""
        self.failed = True
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if self._watch.is_alive():  # it ends this process as soon as it knows why
            self._watch.join(LOST_SECONDS + 4 * BEAT_SECONDS)
        deadline = time.monotonic() + LOST_SECONDS + 2 * BEAT_SECONDS
        while time.monotonic() < deadline:
            try:
                if (verdict := self._verdict()) is not None:
                    return verdict
            except Exception:
                return errors.first_lost() if self.index > 0 else errors.connection_lost(reason)
            time.sleep(BEAT_SECONDS / 2)
        return errors.connection_lost(reason)

    def _watching(self) -> None:
        heard: dict[str, tuple[str, float]] = {}
        count, awake, before = 0, 0.0, time.monotonic()
        while not self._ended.wait(BEAT_SECONDS):
            count += 1
            # Where all processes were stopped for a while (a machine that is moved, a container that is paused), nobody
            # was lost: the time that this one was away itself does not count.
            now = time.monotonic()
            awake, before = awake + min(now - before, 2 * BEAT_SECONDS), now
            try:
                self._client.key_value_set(f"{_ROOT}/alive/{self.index}", str(count), True)
                if self.index == 0:
                    self._look(heard, awake)
                verdict = self._verdict()
            except Exception:
                verdict = errors.first_lost()
            if verdict is not None and not self._ended.is_set():
                self._end_with(verdict)
                return

    def _end_with(self, verdict: WorkFailed) -> None:
        with self._lock:
            if self._ended.is_set() or self.leaving is not None:
                return
            self._ended.set()
        with contextlib.suppress(OSError):  # whoever has read it is gone too
            print(f"error: {verdict}", file=sys.stderr, flush=True)
        self.leave(EXIT_WORK_FAILED)

    def leave(self, code: int) -> None:
        """End this process of a run that has failed, at once: JAX would wait for those that are gone."""
        if self.index == 0:  # the service goes with this process: let the others read why first
            time.sleep(3 * BEAT_SECONDS)
        self._leave(code)

    def _look(self, heard: dict[str, tuple[str, float]], now: float) -> None:
        """Hold the signs of life of all processes against those of the last look; `now` in seconds of any clock."""
        place = f"{_ROOT}/alive/"
        signs = {name.removeprefix(place): sign for name, sign in self._client.key_value_dir_get(place)}
        for index in map(str, range(self.count)):
            sign = signs.get(index, "")
            if index not in heard or heard[index][0] != sign:
                heard[index] = sign, now
            elif now - heard[index][1] > LOST_SECONDS:
                self._judge(int(index), None)

    def _judge(self, index: int, message: str | None) -> None:
        try:
            self._client.key_value_set(f"{_VERDICT}/{index}", json.dumps(message))
        except Exception:  # there is one already, or nobody to tell
            return

    def _verdict(self) -> WorkFailed | None:
        for name, said in self._client.key_value_dir_get(f"{_VERDICT}/"):
            index, message = int(name.rpartition("/")[2]), json.loads(said)
            return errors.lost(index, LOST_SECONDS) if message is None else errors.stopped_elsewhere(index, message)
        return None
