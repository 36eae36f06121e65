"""A run directory has one writer and one config."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from levanter import config
from levanter.errors import UserError
from levanter.runtime.opening import check_free
from levanter.runtime.record import Record
from levanter.runtime.run_directory import open_run

CONFIG = """\
model:
  type: gpt2
  hidden_dim: 64
data:
  paths: [a.txt, b.txt]
  cache_dir: null
trainer:
  seed: 0
  mesh: 4x2
  num_train_steps: 100
  checkpoint:
    keep: 2
"""

HOLDER = """
import sys, time
from levanter.runtime.run_directory import open_run
with open_run(sys.argv[1], "trainer: {seed: 0}"):
    print("holding", flush=True)
    time.sleep(60)
"""


def refusal(path: Path, text: str) -> str:
    with pytest.raises(UserError) as caught, open_run(path, text):
        pass
    return str(caught.value)


def test_a_run_directory_is_made(tmp_path: Path) -> None:
    with open_run(tmp_path / "runs" / "nano", CONFIG) as run:
        assert run.path == tmp_path / "runs" / "nano"
        assert run.config_path.read_text() == CONFIG
        assert run.checkpoints_path.is_dir()
        assert run.metrics_path == run.path / "metrics.jsonl"
    assert sorted(entry.name for entry in run.path.iterdir()) == [".lock", "checkpoints", "config.yaml"]


def test_a_refused_start_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "nano"

    def refused(*files: str) -> None:
        with pytest.raises(UserError, match="too large"), open_run(path, CONFIG) as run:
            for name in files:
                (run.path / name).write_text("{}")
            raise UserError("too large")

    refused()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").mkdir()
    refused()
    assert list((tmp_path / "runs").iterdir()) == []
    # What was there stays, and what has been made.
    refused("metrics.jsonl")
    assert (path / "config.yaml").read_text() == CONFIG
    refused()
    assert (path / "config.yaml").exists() and (path / "checkpoints").is_dir()


def test_there_is_one_writer_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
        message = refusal(path, "trainer: {seed: 1}")
        assert re.fullmatch(
            rf"another process is writing the run directory {path} "
            rf"\(process {holder.pid} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\): "
            r"wait for it or stop it, or choose another one with --run-dir",
            message,
        )
        assert (path / "config.yaml").read_text() == "trainer: {seed: 0}"
        # What several processes ask before they have met.
        with pytest.raises(UserError) as caught:
            check_free(config.load("gpt2_nano", [f"--trainer.run_dir={path}"]))
        assert str(caught.value) == message
        holder.kill()
    check_free(config.load("gpt2_nano", [f"--trainer.run_dir={path}"]))
    with open_run(path, "trainer: {seed: 0}"), pytest.raises(UserError), open_run(path, "trainer: {seed: 0}"):
        pass
    with open_run(path, "trainer: {seed: 0}"):
        pass


def test_the_config_of_a_run_that_was_moved_means_where_it_is(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "elsewhere" / "new"
    with open_run(old, config.dump(config.load("gpt2_nano", [f"--trainer.run_dir={old}"]))):
        pass
    new.parent.mkdir()
    old.rename(new)
    assert config.load(new / "config.yaml").trainer.run_dir == str(new)
    assert config.load(new / "config.yaml", ["--trainer.run_dir=a"]).trainer.run_dir == "a"
    # A copy of the file is of no run directory; and where none is named there is none.
    (tmp_path / "config.yaml").write_text((new / "config.yaml").read_text())
    assert config.load(tmp_path / "config.yaml").trainer.run_dir == str(old)
    (new / "config.yaml").write_text(config.dump(config.load("gpt2_nano")))
    assert config.load(new / "config.yaml").trainer.run_dir is None


def test_what_keeps_the_promise_may_change(tmp_path: Path) -> None:
    longer = CONFIG.replace("100", "200").replace("keep: 2", "keep: 5").replace("null", "/elsewhere")
    for text in (CONFIG, longer):
        with open_run(tmp_path, text) as run:
            assert run.config_path.read_text() == text


def saved(path: Path, step: int = 100) -> None:
    """Put something where checkpoints are."""
    (path / "checkpoints" / f"step-{step}").mkdir(parents=True)


def test_another_config_is_refused(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIG):
        saved(tmp_path)
    other = CONFIG.replace("64", "128").replace("seed: 0", "seed: 1").replace("  mesh: 4x2\n", "").replace("100", "9")
    said = (
        f"the run directory {tmp_path} has checkpoints of a run with another config (data.paths: ['a.txt', 'b.txt'] → "
        "['a.txt', 'c.txt']; model.hidden_dim: 64 → 128; trainer.seed: 0 → 1): "
        "set these back to resume it, or "
    )
    other = other.replace("b.txt", "c.txt")
    assert refusal(tmp_path, other) == said + "choose another directory with --run-dir"
    with pytest.raises(UserError) as caught, open_run(tmp_path, other, another=lambda changed: f"say {len(changed)}"):
        pass
    assert str(caught.value) == said + "start this one with `say 3`"
    assert (tmp_path / "config.yaml").read_text() == CONFIG
    with open_run(tmp_path, CONFIG.replace("seed: 0", "seed: 1"), may_change=["trainer.seed"]):
        pass


def test_what_a_resume_changes_is_known_and_written_when_it_is_loaded(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIG):
        saved(tmp_path)
    other = CONFIG.replace("4x2", "8x1").replace("100", "200").replace("keep: 2", "keep: 3")
    with open_run(tmp_path, other) as run:
        assert [str(each) for each in run.changes] == [
            "trainer.checkpoint.keep: 2 → 3",
            "trainer.mesh: 4x2 → 8x1",
            "trainer.num_train_steps: 100 → 200",
        ]
        assert (run.before("trainer.mesh", "8x1"), run.before("trainer.seed", 0)) == ("4x2", 0)
        assert run.config_path.read_text() == CONFIG  # who cannot resume has changed nothing
        run.write_config(Record({"optimizer.schedule_steps": 100}))
    with open_run(tmp_path, other) as run:
        assert run.changes == () and run.record == Record({"optimizer.schedule_steps": 100})


def test_without_a_checkpoint_a_directory_is_taken_over(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIG) as run:
        run.metrics_path.write_text('{"step": 1}\n')
        (tmp_path / "wandb_id").write_text("abc\n")
    with open_run(tmp_path, CONFIG):  # the same run keeps what it has
        assert (tmp_path / "wandb_id").exists()
    other = CONFIG.replace("64", "128")
    with open_run(tmp_path, other) as run:
        assert run.config_path.read_text() == other
        assert not run.metrics_path.exists() and not (tmp_path / "wandb_id").exists()


@pytest.mark.parametrize("name", ["step-5", "step-5.damaged"])
def test_a_checkpoint_protects_damaged_or_not(tmp_path: Path, name: str) -> None:
    with open_run(tmp_path, CONFIG) as run:
        (run.checkpoints_path / name).mkdir()
    assert "has checkpoints of a run with another config" in refusal(tmp_path, CONFIG.replace("64", "128"))


def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    for name in ("thesis.tex", "a.bib", "notes.md", "z.pdf"):
        (tmp_path / name).touch()
    assert refusal(tmp_path, CONFIG) == (
        f"{tmp_path} is not a run directory: it holds other files (a.bib, notes.md, thesis.tex and 1 more); "
        "choose a new or empty directory with --run-dir"
    )
    assert len(list(tmp_path.iterdir())) == 4


def test_a_config_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("site: mine\n")
    assert refusal(tmp_path, CONFIG).startswith(f"{tmp_path}/config.yaml is not a config of a run: ")
    assert (tmp_path / "config.yaml").read_text() == "site: mine\n"


def test_files_put_into_a_run_do_no_harm(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIG):
        (tmp_path / "notes.md").touch()
    with open_run(tmp_path, CONFIG):
        pass


def test_many_differences_are_counted(tmp_path: Path) -> None:
    with open_run(tmp_path, "".join(f"k{i}: 0\n" for i in range(12))):
        pass
    saved(tmp_path)
    message = refusal(tmp_path, "".join(f"k{i}: 1\n" for i in range(12)))
    assert "(k0: 0 → 1; k1: 0 → 1; k10: 0 → 1; " in message and "; and 4 more)" in message


def test_a_damaged_config_is_refused(tmp_path: Path) -> None:
    for damaged in ("[", "just text"):
        (tmp_path / "config.yaml").write_text(damaged)
        assert refusal(tmp_path, CONFIG) == (
            f"{tmp_path}/config.yaml is not a config of a run: put back the one of this run, "
            "or choose another directory with --run-dir"
        )
        assert (tmp_path / "config.yaml").read_text() == damaged


def test_a_file_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file", CONFIG) == (
        f"cannot use {tmp_path}/file as a run directory: File exists; choose another one with --run-dir"
    )
    assert refusal(tmp_path / "file" / "run", CONFIG) == (
        f"cannot use {tmp_path}/file/run as a run directory: Not a directory; choose another one with --run-dir"
    )


def test_a_field_that_has_come_since_has_its_default_in_an_older_run(tmp_path: Path) -> None:
    now = config.dump(config.load("gpt2_nano"))
    before = yaml.safe_load(now)
    del before["model"]["initialize_from"], before["data"]["heldout_fraction"]
    with open_run(tmp_path / "run", yaml.safe_dump(before)) as run:
        (run.checkpoints_path / "step-5").mkdir()
    with open_run(tmp_path / "run", now):
        pass
    changed = config.dump(config.load("gpt2_nano", ["--data.heldout_fraction", "0.1"]))
    with pytest.raises(UserError, match=r"\(data.heldout_fraction: 0.05 → 0.1\)"), open_run(tmp_path / "run", changed):
        pass
