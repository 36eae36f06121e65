"""Signals: a run saves and ends with 0 (Ctrl-C: 130), or at once where there is nothing to save. One writer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rescued import configured, digest, records, trained, write_files

from levanter import checkpoint
from levanter.runtime.loop import Loop
from levanter.runtime.stop import SIGNALS, ProcessStop, StopSignal, signals_of_a_command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("stop")).parent


def started(folder: Path, run: str, *options: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return started_with(folder, run, "--config", str(folder / "tiny.yaml"), *options, before=before)


def started_with(folder: Path, run: str, *options: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-m", "levanter.cli.main", "train", "--run-dir", str(folder / run), *options],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], what: Any) -> None:
    deadline = time.monotonic() + 300
    while not what():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.002)


# --- the object ---


def test_the_first_signal_counts_and_only_a_second_ctrl_c_ends_the_process() -> None:
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)  # systemd sends both
        assert stop.requested and stop.signal == signal.SIGHUP and not stop.interrupted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.interrupted


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)])
def test_with_nothing_to_save_the_process_ends_at_once(
    number: signal.Signals, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    left: list[int] = []
    came = threading.Event()

    def leave(code: int) -> None:
        left.append(code)
        came.set()

    with ProcessStop(leave) as stop:
        signal.raise_signal(number)
        assert came.wait(10) and left == [code]
        assert capfd.readouterr().err == f"stopped by {number.name} with nothing to save\n"
    with ProcessStop(leave) as stop:
        with stop.training():
            stop.begun()
            signal.raise_signal(number)
            assert stop.requested
        time.sleep(0.05)
        assert left == [code]  # it is the loop that ends it
    with ProcessStop(leave) as stop:
        with stop.training():
            stop.begun()
        came.clear()
        signal.raise_signal(number)  # after the last save there is nothing to save again
        assert came.wait(10) and left == [code, code]


def test_around_a_command_a_signal_ends_it_well_and_after_it_none_counts(capfd: pytest.CaptureFixture[str]) -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    left: list[int] = []
    try:
        with signals_of_a_command(left.append):
            signal.raise_signal(signal.SIGTERM)
            with StopSignal() as stop:
                signal.raise_signal(signal.SIGTERM)
            assert stop.requested and left == [0]
            signal.raise_signal(signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        for number in SIGNALS:  # the interpreter ends, and the exit code is that of the command
            signal.raise_signal(number)
        assert left == [0, 0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    said = "stopped by SIGTERM with nothing to save\nstopped by SIGHUP with nothing to save\n"
    assert capfd.readouterr().err == said


# --- evaluation ---


@pytest.mark.hurried
def test_an_evaluation_is_cut_short_and_made_at_the_resume(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records and the weights are those of a run that nothing has stopped."""
    options = ["--trainer.eval_every", "3", "--trainer.eval_batches", "1", "--trainer.num_train_steps", "6"]
    trained(configured(folder, *options, run_dir="undisturbed"))
    measure = Loop._measure
    for stopped_at in (1, 2, 1):  # in the first evaluation, in the last one, and in that again
        calls = iter(range(1, 10))

        def interrupted(loop: Loop, state: Any, calls: Any = calls, stopped_at: int = stopped_at) -> dict[str, float]:
            if next(calls) == stopped_at:
                signal.raise_signal(signal.SIGTERM)
            return measure(loop, state)

        with monkeypatch.context() as patched:
            patched.setattr(Loop, "_measure", interrupted)
            said = trained(configured(folder, *options, run_dir="evaluated"))
        step = len(records(folder / "evaluated")) + 1
        assert f"stopped after step {step} of 6, saved in {folder}/evaluated/checkpoints/step-{step}" in said
        assert "unlogged" in checkpoint.read_manifest(folder / "evaluated" / "checkpoints" / f"step-{step}").metadata
    said = trained(configured(folder, *options, run_dir="evaluated"))
    assert "held-out loss" in said
    assert records(folder / "evaluated") == records(folder / "undisturbed")
    assert digest(folder / "evaluated") == digest(folder / "undisturbed")


# --- the command ---

IMPORTING = """
import os, sys
sys.argv = ["levanter", "train", "--trainer.no_such_field", "1"]
from levanter.cli import held_signals
held_signals.hold()
os.kill(os.getpid(), {number})
from levanter.cli.main import command
sys.exit(command())
"""


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGTERM, 0, "stopped by SIGTERM with nothing to save\n"),
        (signal.SIGHUP, 0, "stopped by SIGHUP with nothing to save\n"),
        (signal.SIGINT, 130, "interrupted\n"),
    ],
)
def test_a_signal_that_comes_before_anything_listens_waits(number: signal.Signals, code: int, said: str) -> None:
    """Also while the command starts itself again with huge pages."""
    program = IMPORTING.format(number=int(number))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (code, said)


def test_a_signal_while_starting_ends_it_within_a_moment(folder: Path) -> None:
    """Before JAX is imported, and while it compiles."""
    for number, code, moment in (
        (signal.SIGTERM, 0, ".lock"),
        (signal.SIGHUP, 0, "metrics.jsonl"),
        (signal.SIGINT, 130, "metrics.jsonl"),
    ):
        run = f"starting-{number.name}"
        process = started(folder, run, "--trainer.num_train_steps", "100000")
        wait_for(process, (folder / run / moment).exists)
        began = time.monotonic()
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == code, output
        assert time.monotonic() - began < 10
        assert f"stopped by {number.name} with nothing to save" in output or "saved in" in output


def test_a_second_writer_is_refused_within_two_seconds(folder: Path) -> None:
    first = started(folder, "shared", "--trainer.num_train_steps", "100000", "--trainer.on_nonfinite", "skip")
    try:
        wait_for(first, (folder / "shared" / "metrics.jsonl").exists)
        # With a model of ours: one of the user's own is code that imports JAX, which takes as long as it takes.
        second = started_with(folder, "shared", "--model", "gpt2_nano")
        used = os.times()
        output, _ = second.communicate(timeout=60)
        spent = os.times()
        assert second.returncode == 2
        assert re.search(rf"another process is writing the run directory \S+/shared \(process {first.pid} on ", output)
        # Of its own time: this machine may be busy with the first one.
        assert sum(spent[2:4]) - sum(used[2:4]) < 2
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    # The lock of a process that is gone is none.
    third = started(folder, "shared", "--trainer.num_train_steps", "1", "--trainer.on_nonfinite", "skip")
    output, _ = third.communicate(timeout=300)
    assert third.returncode in (0, 2) and "another process" not in output
    assert third.returncode == 0 or "is past the end of this run" in output


@pytest.mark.hurried
def test_a_run_directory_that_was_moved_resumes(folder: Path) -> None:
    trained(configured(folder, "--trainer.num_train_steps", "6", run_dir="stays"))
    short = ["--trainer.num_train_steps", "5", "--optimizer.schedule_steps", "6"]
    trained(configured(folder, *short, run_dir="moves"))
    (folder / "elsewhere").mkdir()
    (folder / "moves").rename(folder / "elsewhere" / "moved")
    said = trained(
        configured(
            folder, "--trainer.num_train_steps", "6", "--optimizer.schedule_steps", "6", run_dir="elsewhere/moved"
        )
    )
    assert f"resuming from {folder}/elsewhere/moved/checkpoints/step-5" in said
    assert digest(folder / "elsewhere" / "moved") == digest(folder / "stays")
    assert records(folder / "elsewhere" / "moved") == records(folder / "stays")
