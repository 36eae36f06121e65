"""metrics.jsonl is the record: equal bits are equal text, and a killed run's file equals an undisturbed one's."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import draccus
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from levanter import config
from levanter.errors import UserError, WorkFailed
from levanter.runtime.run_directory import RunDirectory, differences_from
from levanter.trackers.config import TrackedRun
from levanter.trackers.console.progress import ConsoleProgress, duration
from levanter.trackers.metrics_file.metrics_file import SYNC_SECONDS, MetricsFile
from levanter.trackers.scalars import plain, record
from levanter.trackers.section import TrackersConfig
from levanter.trackers.trackers import Trackers, open_trackers
from levanter.trackers.wandb.config import WandbConfig


@given(st.integers(0, 2**32 - 1))
@example(0x3DCCCCCD)  # 0.1
@example(0x80000000)  # -0.0
@example(0x00000001)  # the least
def test_float32_text_is_its_bits(bits: int) -> None:
    value = np.frombuffer(struct.pack("<I", bits), "<f4")[0]
    text = json.loads(record(1, {"loss": value}))["loss"]
    back = np.float32(text)
    assert np.isnan(back) if np.isnan(value) else back.tobytes() == value.tobytes()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.1), "0.1"),
        (jnp.float32(0.1), "0.1"),
        (jnp.asarray(0.1, jnp.bfloat16), "0.100097656"),
        (np.asarray(1e-5, np.float16), "1.001358e-05"),
        (ml_dtypes.bfloat16(3), "3.0"),
        (0.1, "0.1"),
        (np.float64(1 / 3), "0.3333333333333333"),
        (10.824999809265137, "10.824999809265137"),
        (np.float32(-0.0), "-0.0"),
        (3, "3"),
        (np.int64(2**60), "1152921504606846976"),
        (np.bool_(True), "true"),
        (jnp.int32(5), "5"),
        (float("nan"), '"NaN"'),
        (jnp.float32(-np.inf), '"-Infinity"'),
        (np.float32(np.inf), '"Infinity"'),
    ],
)
def test_the_text_of_a_number(value: Any, text: str) -> None:
    assert record(7, {"loss": value}) == f'{{"step": 7, "loss": {text}}}\n'


def test_an_array_is_no_metric() -> None:
    with pytest.raises(ValueError, match=r"^a metric is one number, not an array of shape \(2,\)$"):
        plain(np.zeros(2))


# --- the file ---


def write_steps(path: Path, resumed_step: int, last: int) -> None:
    metrics = MetricsFile(path, resumed_step)
    for step in range(resumed_step + 1, last + 1):
        metrics.log(step, {"loss": np.float32(1) / step})
    metrics.close()


def test_a_resumed_file_equals_an_undisturbed_one(tmp_path: Path) -> None:
    write_steps(tmp_path / "undisturbed", 0, 30)
    killed = tmp_path / "killed"
    write_steps(killed, 0, 17)
    with open(killed, "ab") as file:
        file.write(b'{"step": 18, "lo')  # torn
    write_steps(killed, 10, 25)
    write_steps(killed, 25, 26)
    write_steps(killed, 20, 30)
    assert killed.read_bytes() == (tmp_path / "undisturbed").read_bytes()
    assert killed.read_text().splitlines()[2] == '{"step": 3, "loss": 0.33333334}'


@given(cut=st.integers(0, 400), resumed_step=st.integers(0, 12))
def test_a_file_cut_anywhere_keeps_its_whole_records(
    tmp_path_factory: pytest.TempPathFactory, cut: int, resumed_step: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "metrics.jsonl"
    lines = [f'{{"step": {step}, "loss": 1.0}}\n'.encode() for step in range(1, 13)]
    path.write_bytes(b"".join(lines)[:cut])
    MetricsFile(path, resumed_step).close()
    whole = [line for i, line in enumerate(lines) if len(b"".join(lines[: i + 1])) <= cut]
    assert path.read_bytes() == b"".join(whole[:resumed_step])


def test_zeros_left_by_a_power_cut_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\0\0\0\0\n\0\0{"step": 3}\n')
    MetricsFile(path, 2).close()
    assert path.read_bytes() == b'{"step": 1}\n'


def test_damage_in_the_middle_is_told_and_kept_beside(tmp_path: Path) -> None:
    path, said = tmp_path / "metrics.jsonl", list[str]()
    content = b'{"step": 1}\n{"step": }\n{"step": 3}\n{"step": 4}\n'
    path.write_bytes(content)
    MetricsFile(path, 3, notify=said.append).close()
    assert said == [
        f"{path} is damaged (line 2 is not a record): the run resumes without it, and the file as it was is "
        f"{path}.damaged",
        f"{path} has no records of step 2: the checkpoints are whole, and the run resumes without them",
    ]
    assert path.read_bytes() == b'{"step": 1}\n{"step": 3}\n'
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == content


def test_a_lost_file_is_reported_with_its_hole(tmp_path: Path) -> None:
    path, said = tmp_path / "metrics.jsonl", list[str]()
    write_steps(path, 5, 8)  # the five before are lost
    path.write_bytes(path.read_bytes().replace(b'{"step": 7', b'\0{"step": 7'))
    MetricsFile(path, 10, notify=said.append).close()
    assert said[1:] == [
        f"{path} has no records of steps 1 to 5, 7, 9 to 10: the checkpoints are whole, and the run resumes without "
        "them"
    ]
    path.unlink()
    said.clear()
    MetricsFile(path, 10, notify=said.append).close()
    assert said == [
        f"{path} has no records of steps 1 to 10: the checkpoints are whole, and the run resumes without them"
    ]


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(WorkFailed) as caught:
        MetricsFile(tmp_path / "metrics.jsonl", 0)
    assert str(caught.value) == (
        f"cannot write {tmp_path}/metrics.jsonl (Is a directory): make it writable, or choose another --run-dir"
    )


def test_records_survive_kill_and_are_flushed_each_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    now = 0.0
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, 0, clock=lambda: now)
    assert synced == [0]
    metrics.log(1, {})
    assert path.read_bytes() == b'{"step": 1}\n' and synced == [0]  # handed over, not yet flushed
    now = SYNC_SECONDS
    metrics.log(2, {})
    assert synced == [0, 24]
    metrics.log(3, {})
    metrics.sync()
    assert synced == [0, 24, 36]
    metrics.close()


# --- the console ---


def progress_text(steps: int, *, terminal: bool, resumed_step: int = 0) -> str:
    now = 0.0
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=100, color_system=None)
    progress = ConsoleProgress(console, resumed_step=resumed_step, total_steps=steps, log_every=2, clock=lambda: now)
    for step in range(resumed_step + 1, steps + 1):
        now += 30.0
        metrics = {"loss": np.float32(8) / step, "tokens_per_second": 12345.6}
        progress.log(step, metrics | ({"heldout_loss": 2.5} if step == 3 else {}))
    progress.note("done [at last]")
    progress.close()
    return output.getvalue()


def test_plain_lines_where_there_is_no_terminal() -> None:
    assert progress_text(5, terminal=False) == (
        "step 2/5  loss 4.0000  12,346 tokens/s  1m30s left\n"
        "step 3/5  loss 2.6667  held-out loss 2.5000  12,346 tokens/s  1m00s left\n"
        "step 4/5  loss 2.0000  12,346 tokens/s  30s left\n"
        "step 5/5  loss 1.6000  12,346 tokens/s  0s left\n"
        "done [at last]\n"
    )
    assert progress_text(5, terminal=False, resumed_step=3).startswith("step 4/5  loss 2.0000  12,346 tokens/s  30s")


def test_the_time_left_leaves_out_compilation() -> None:
    now = 0.0
    output = io.StringIO()
    progress = ConsoleProgress(
        Console(file=output, width=100), resumed_step=0, total_steps=10, log_every=1, clock=lambda: now
    )
    now += 3600.0
    progress.compiled()
    now += 2.0
    progress.log(1, {})
    assert output.getvalue() == "step 1/10    18s left\n"


def test_the_time_left_of_a_bar_leaves_out_compilation() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    progress = ConsoleProgress(console, resumed_step=3, total_steps=10, log_every=1)
    (task,) = progress._bar.tasks
    began = task.start_time
    progress.compiled()
    assert task.start_time > began and task.completed == 3
    progress.close()


def test_a_bar_in_a_terminal() -> None:
    text = progress_text(5, terminal=True)
    assert "5/5" in text and "loss 1.6000  12,346 tokens/s" in text
    assert "step 3: held-out loss 2.5000\n" in text and "done [at last]\n" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0s"), (59.4, "59s"), (59.6, "1m00s"), (185, "3m05s"), (7800, "2h10m")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- all together ---


def open_all(path: Path, output: io.StringIO, **sections: dict[str, Any]) -> Trackers:
    config = draccus.decode(TrackersConfig, {"console": {"log_every": 1}, **sections})
    return open_trackers(config, TrackedRun(RunDirectory(path), {}, 0, 1, Console(file=output)))


def test_trackers_log_everywhere(tmp_path: Path) -> None:
    output = io.StringIO()
    with open_all(tmp_path, output) as trackers:
        trackers.log(1, {"loss": jnp.float32(0.5), "tokens_per_second": 10})
        trackers.sync()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 0.5, "tokens_per_second": 10}\n'
    assert output.getvalue() == "step 1/1  loss 0.5000  10 tokens/s  0s left\n"


def test_the_console_can_be_turned_off(tmp_path: Path) -> None:
    output = io.StringIO()
    with open_all(tmp_path, output, console={"enabled": False}) as trackers:
        trackers.log(1, {"loss": jnp.float32(0.5)})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 0.5}\n'
    assert output.getvalue() == ""


# --- their config ---


def test_wandb_is_told_what_the_config_says_and_nothing_else() -> None:
    assert WandbConfig().init_arguments() == {}
    config = WandbConfig(project="p", entity="e", name="n", group="g", tags=["a", "b"], notes="why", mode="offline")
    assert config.init_arguments() == {
        "project": "p",
        "entity": "e",
        "name": "n",
        "group": "g",
        "tags": ["a", "b"],
        "notes": "why",
        "mode": "offline",
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["--trackers.wandb.mode", "of"],
            "trackers.wandb.mode is 'of': use one of online, offline, disabled, or null",
        ),
        (["--trackers.console.log_every", "0"], "trackers.console.log_every is 0: it must be at least 1"),
        (
            ["--trackers.metrics_file.sync_seconds", "-1"],
            "trackers.metrics_file.sync_seconds is -1.0: it must be at least 0",
        ),
        (
            ["--trackers.wandb.projekt", "p"],
            "unknown option `--trackers.wandb.projekt`: did you mean `--trackers.wandb.project`?",
        ),
        (["--trackers.wand.mode", "offline"], "unknown option `--trackers.wand`: did you mean `--trackers.wandb`?"),
    ],
)
def test_a_bad_configuration_is_said(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load("gpt2_nano", overrides)
    assert str(caught.value) == message


def test_fields_that_have_moved_are_read_under_their_old_names(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("trainer:\n  seed: 3\n  tracker: wandb\n  log_every: 7\n")
    old = config.load(file)
    assert (old.trainer.seed, old.trackers.wandb.enabled, old.trackers.console.log_every) == (3, True, 7)
    over = ["--trainer.tracker", "none", "--trainer.log_every", "9"]
    assert (
        config.load(file, over).trackers == config.load(file, ["--trackers.wandb.enabled", "false", *over[2:]]).trackers
    )
    assert config.load(file, over).trackers.console.log_every == 9
    both = tmp_path / "both.yaml"
    both.write_text("extends: old.yaml\ntrackers:\n  console:\n    log_every: 5\n")
    assert config.load(both).trackers.console.log_every == 5
    assert config.loads(file.read_text()).trackers == old.trackers


def test_the_column_of_a_data_set_has_the_name_that_it_has_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("data: {type: hf, id: x, text_column: body}\n")
    assert config.load(file) == config.load(file, ["--data.text_column", "body"])
    assert config.load(file).data.column == "body"
    assert config.load(file, ["--data.column", "title"]).data.column == "title"
    assert config.load("gpt2_nano", ["--data.type", "hf", "--data.text_column", "body"]).data.column == "body"
    mixed = "data: {type: mixture, sources: {hub: {type: hf, id: x, text_column: body}}, weights: {hub: 1}}\n"
    assert config.loads(mixed).data.parts()["hub"].column == "body"
    # A run that was started with the old name is the same run.
    now = config.dump(config.loads(mixed))
    assert differences_from(yaml.safe_load(now.replace("column", "text_column")), now, ()) == []


def test_an_old_name_with_no_counterpart_says_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("trainer:\n  tracker: tensorboard\n")
    with pytest.raises(UserError) as caught:
        config.load(file)
    assert str(caught.value) == (
        f"bad value `tensorboard` for `trainer.tracker` ({file}:2), which has become `trackers.wandb.enabled`: "
        "set that to true or false"
    )
    file.write_text("trainer:\n  log_every: 0\n")
    with pytest.raises(UserError) as caught:
        config.load(file)
    assert str(caught.value) == f"trackers.console.log_every is 0: it must be at least 1 (set in {file}:2)"


# --- wandb itself ---


MIRRORING = """
import json, sys
from pathlib import Path
from levanter.trackers.wandb.mirror import WandbMirror
mirror = WandbMirror(Path(sys.argv[1]), {"trainer": {"seed": 0}}, json.loads(sys.argv[2]))
for step in (1, 2, 3):
    mirror.log(step, {"loss": 1.0 / step})
mirror.close()
mirror.close()
"""


def mirror(path: Path, arguments: dict[str, Any], **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.run(
        [sys.executable, "-c", MIRRORING, str(path), json.dumps(arguments)],
        env=kept | {"HOME": str(path), "WANDB_CONFIG_DIR": str(path)} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(("arguments", "environment"), [({}, {"WANDB_MODE": "offline"}), ({"mode": "offline"}, {})])
def test_wandb_works_offline_and_resumes_as_the_same_run(
    tmp_path: Path, arguments: dict[str, Any], environment: dict[str, str]
) -> None:
    for _ in range(2):
        done = mirror(tmp_path, arguments, **environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    run_id = (tmp_path / "wandb_id").read_text().strip()
    # Two starts within one second share a time stamp: wandb then adds a number to the folder's name, not to the log's.
    logs = list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert [path.name for path in logs] == [f"run-{run_id}.wandb"] * 2
    assert all(path.stat().st_size > 0 for path in logs)


def test_wandb_without_a_login_is_refused(tmp_path: Path) -> None:
    failed = mirror(tmp_path, {})
    message = failed.stderr.splitlines()[-1]
    assert message.startswith("levanter.errors.UserError: cannot start the tracker wandb (trackers.wandb): ")
    assert message.endswith(
        "; run `wandb login`, or use --trackers.wandb.mode offline, or --trackers.wandb.enabled false"
    )


def test_wandb_disabled_writes_nothing_and_says_nothing(tmp_path: Path) -> None:
    done = mirror(tmp_path, {"mode": "disabled", "project": "p", "tags": ["t"]})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list((tmp_path / "wandb").glob("**/*.wandb"))
