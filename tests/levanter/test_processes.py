"""What the processes of a run say to each other, without starting any."""

from __future__ import annotations

import io
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from levanter.errors import Interrupted, UserError, WorkFailed
from levanter.processes import connected, starting
from levanter.processes.agreement import AHEAD, Agreement
from levanter.processes.connected import Connected
from levanter.processes.group import ALONE
from levanter.processes.launching import environment
from levanter.processes.starting import Launch, launch_of
from levanter.runtime.stop import StopRequested, StopSignal, Together

T = TypeVar("T")
Flags = tuple[str | None, str | None, int | None]


class Service:
    """A coordination service in memory."""

    def __init__(self, count: int) -> None:
        self.values: dict[str, str] = {}
        self.gone = False
        self._count = count
        self._barriers: dict[str, threading.Barrier] = {}
        self._lock = threading.Lock()

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        self._answer()
        with self._lock:
            if key in self.values and not allow_overwrite:
                raise RuntimeError(f"ALREADY_EXISTS: {key}")
            self.values[key] = value

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        self._answer()
        with self._lock:
            return [(name, value) for name, value in self.values.items() if name.startswith(key)]

    def wait_at_barrier(self, barrier_id: str, timeout_in_ms: int) -> None:
        self._answer()
        with self._lock:
            barrier = self._barriers.setdefault(barrier_id, threading.Barrier(self._count))
        barrier.wait(10)

    def _answer(self) -> None:
        if self.gone:
            raise RuntimeError("UNAVAILABLE: connection refused")


def together(count: int, use: Callable[[Connected], T], service: Service | None = None) -> list[T]:
    service = service or Service(count)
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda index: use(Connected(service, index, count)), range(count)))


def test_words_are_exchanged() -> None:
    def use(group: Connected) -> list[list[str]]:
        return [group.exchange("a", f"{group.index}é/ "), group.exchange("a", "again"), group.exchange("b")]

    assert together(3, use) == [[["0é/ ", "1é/ ", "2é/ "], ["again"] * 3, [""] * 3]] * 3
    assert ALONE.exchange("a", "word") == ["word"]


def test_all_do_at_the_same_step_what_one_wishes() -> None:
    barrier = threading.Barrier(3)

    def use(group: Connected) -> list[tuple[int, str]]:
        agreement = Agreement(group)
        done = []
        for step in range(20):
            barrier.wait(10)  # as the sums over all processes keep them together
            wishes = {"save"} if (group.index, step) in ((1, 2), (2, 3), (0, 12)) else set[str]()
            done += [(step, wish) for wish in sorted(agreement.due(step, wishes | ({"stop"} if step >= 15 else set())))]
        return done

    found = together(3, use)
    assert found[0] == found[1] == found[2]
    saves = [step for step, wish in found[0] if wish == "save"]
    assert len(saves) == 2 and 2 + AHEAD <= saves[0] <= 3 + AHEAD and saves[1] == 12 + AHEAD
    assert [step for step, wish in found[0] if wish == "stop"][0] == 15 + AHEAD
    assert Agreement(ALONE).due(3, {"save"}) == {"save"} and Agreement(ALONE).due(3, ()) == set()


def test_all_leave_an_evaluation_before_the_same_batch() -> None:
    def use(group: Connected) -> int:
        stop = StopSignal()
        asked = Together(group, stop)
        for batch in range(40):
            if (group.index, batch) == (1, 9):
                stop.signal = signal.SIGTERM  # to one of them
            try:
                asked.check()
            except StopRequested:
                return batch
        raise AssertionError

    assert together(3, use) == [15, 15, 15]


def test_a_process_that_fails_ends_the_others_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connected, "BEAT_SECONDS", 0.05)
    ended = watched(lambda groups, service: groups[2].fail("training diverged"))
    assert sorted(ended) == [(0, 1), (1, 1)]
    said = "error: process 2 of this run has stopped, so all of them stop: training diverged\n"
    assert capsys.readouterr().err == said * 2


def test_a_process_that_is_gone_ends_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connected, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(connected, "LOST_SECONDS", 0.4)
    ended = watched(lambda groups, service: groups[1].end())  # it beats no more, and does not say why
    assert sorted(ended) == [(0, 1), (2, 1)]
    assert capsys.readouterr().err == (
        "error: process 1 of this run has not been heard of for 0 s, so all of them stop: see what it wrote; "
        "rerun the same command to resume from the last checkpoint\n" * 2
    )


def test_nobody_is_lost_while_all_were_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A paused machine: for the first process much time has passed at once, and the other has not come to beat yet."""
    monkeypatch.setattr(connected, "BEAT_SECONDS", 0.01)
    clock, ahead = time.monotonic, [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock() + ahead[0])
    service, ended = Service(2), list[int]()
    first = Connected(service, 0, 2, leave=ended.append)
    service.key_value_set("levanter/alive/1", "7")
    first.start()

    def look_often() -> None:
        seen = int(service.values.get("levanter/alive/0", "0"))
        deadline = clock() + 30
        while not ended and int(service.values.get("levanter/alive/0", "0")) < seen + 5 and clock() < deadline:
            time.sleep(0.01)

    look_often()
    ahead[0] = 1000.0
    look_often()
    first.end()
    assert ended == [] and int(service.values["levanter/alive/0"]) >= 10


def test_they_end_where_nobody_reads_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(connected, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(sys, "stderr", Closed())
    assert sorted(watched(lambda groups, service: groups[2].fail("gone"))) == [(0, 1), (1, 1)]


def test_a_process_whose_run_has_failed_does_not_wait_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connected, "BEAT_SECONDS", 0.01)
    left: list[int] = []
    member = Connected(Service(2), 0, 2, leave=left.append)
    monkeypatch.setattr(starting, "_connected", [member])
    starting.leave_if_failed(2)
    assert left == []
    with pytest.raises(UserError), starting.working(member):
        raise UserError("wrong")
    starting.leave_if_failed(2)
    assert left == [2]


def test_a_process_that_a_signal_ends_before_the_first_step_tells_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    service = Service(2)
    monkeypatch.setattr(starting, "_connected", [Connected(service, 1, 2)])
    starting.leave_early(0, "stopped by SIGTERM with nothing to save", left.append)
    ends = Connected(service, 1, 2, leave=left.append)
    monkeypatch.setattr(starting, "_connected", [ends])
    starting.leave_early(0, "again", left.append)
    monkeypatch.setattr(connected, "answers", lambda: True)
    ends.aborting()  # the first process was faster
    assert left == [0, 0, 0]
    other = Connected(service, 0, 2)
    assert str(other.explained(RuntimeError("closed"))) == (
        "process 1 of this run has stopped, so all of them stop: stopped by SIGTERM with nothing to save"
    )


def test_a_run_that_ctrl_c_has_stopped_in_all_processes_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    service = Service(2)
    member = Connected(service, 1, 2, leave=left.append)
    monkeypatch.setattr(starting, "_connected", [member])
    with pytest.raises(KeyboardInterrupt), starting.working(member), starting.working(member):
        raise Interrupted
    starting.leave_if_failed(130)
    assert left == [] and service.values == {}
    with pytest.raises(KeyboardInterrupt), starting.working(member):
        raise KeyboardInterrupt  # a second one, of this process alone
    starting.leave_if_failed(130)
    assert left == [130] and "KeyboardInterrupt" in service.values["levanter/verdict/1"]


def test_where_the_first_process_is_gone_the_others_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connected, "BEAT_SECONDS", 0.05)

    def lose_the_first(groups: list[Connected], service: Service) -> None:
        groups[0].end()
        service.gone = True

    assert sorted(watched(lose_the_first)) == [(1, 1), (2, 1)]
    assert capsys.readouterr().err == (
        "error: the first process of this run, which the others meet at, has stopped, so all of them stop: see what it "
        "wrote; rerun the same command to resume from the last checkpoint\n" * 2
    )


def watched(change: Callable[[list[Connected], Service], None]) -> list[tuple[int, int]]:
    """Which of three processes end, with which exit code, after `change`."""
    service, ended = Service(3), list[tuple[int, int]]()
    groups = [Connected(service, i, 3, leave=lambda code, i=i: ended.append((i, code))) for i in range(3)]
    for group in groups:
        group.start()
    time.sleep(0.3)
    assert ended == []
    change(groups, service)
    deadline = time.monotonic() + 10
    while len(ended) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    for group in groups:
        group.end()
    return ended


def test_an_error_of_a_connection_is_explained_by_who_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connected, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(connected, "LOST_SECONDS", 0.2)
    service = Service(2)
    one, other = (Connected(service, index, 2) for index in range(2))
    broken = RuntimeError("Connection closed by peer\nmore")
    assert str(one.explained(broken)) == (
        "the connection to another process of this run broke off (Connection closed by peer): see which of them has "
        "stopped; rerun the same command to resume from the last checkpoint"
    )
    other.fail("no room")
    problem = one.explained(broken)
    assert isinstance(problem, WorkFailed)
    assert str(problem) == "process 1 of this run has stopped, so all of them stop: no room"
    # Reading the loss of a step in which another process was lost is such an error too, and not this process's own.
    with pytest.raises(WorkFailed, match="^process 1 of this run has stopped"), starting.working(one):
        raise ValueError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer")
    with pytest.raises(ValueError, match="no room"), starting.working(one):
        raise ValueError("no room")


@pytest.mark.parametrize(
    ("flags", "environ", "expected"),
    [
        ((None, None, None), {}, None),
        ((None, "1", None), {}, None),
        ((None, "auto", None), {}, Launch()),
        (("a:1", "2", 1), {}, Launch("a:1", 2, 1)),
        ((None, None, None), environment({}, "b:2", 4, 3), Launch("b:2", 4, 3)),
        ((None, None, None), {"SLURM_STEP_NUM_TASKS": "4"}, Launch()),
        ((None, None, None), {"SLURM_STEP_NUM_TASKS": "1"}, None),
        ((None, None, None), {"OMPI_COMM_WORLD_SIZE": "2"}, Launch()),
        (("a:1", None, None), {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, Launch("a:1", 2, 1)),
        (
            ("a:1", None, None),
            {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "3"},
            Launch("a:1", 4, 3),
        ),
    ],
)
def test_how_the_processes_find_each_other(flags: Flags, environ: dict[str, str], expected: Launch | None) -> None:
    assert launch_of(*flags, environ) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("a:1", "2", None),
            "--process-id is missing: several processes need --coordinator HOST:PORT, --processes N and --process-id "
            "I, the same but for the last in each of them; or --processes auto, under SLURM, Open MPI, GKE or on a TPU "
            "pod",
        ),
        (("a:1", "two", 0), "--processes is two: it must be a number of at least 1, or auto"),
        (("a:1", "2", 2), "--process-id is 2: with --processes 2 it must be from 0 to 1"),
        (("a", "2", 1), "--coordinator is a: write HOST:PORT, such as node0:1234, of the process with id 0"),
    ],
)
def test_flags_that_make_no_sense(flags: Flags, message: str) -> None:
    with pytest.raises(UserError) as caught:
        launch_of(*flags, {})
    assert str(caught.value) == message
