"""A run that meets a number that is not finite: it stops and says where from, skips the update, or goes back.

And what is proved of it afterwards: `levanter reproduce` makes its steps again, bit by bit.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rescued import configured, digest, records, trained, write_files

from levanter import checkpoint
from levanter.cli.main import main
from levanter.cli.options import option_names
from levanter.cli.train import train as train_command
from levanter.config import load
from levanter.errors import UserError, WorkFailed
from levanter.runtime.asked import requested
from levanter.runtime.command import Command
from levanter.runtime.nonfinite import MOST_SKIPPED, NotFinite, Watch
from levanter.runtime.reproduce import reproduce
from levanter.runtime.rewinds import MOST, Rewinds, Window, read

pytestmark = pytest.mark.hurried

EVALUATED = ["--trainer.eval_batches", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("rescue")).parent


@pytest.fixture(scope="module")
def stopped(folder: Path) -> list[str]:
    """The message of the run that stops."""
    command = Command(("train", "--config", str(folder / "tiny.yaml"), "--run-dir", str(folder / "run")))
    with pytest.raises(WorkFailed) as caught:
        trained(configured(folder), command)
    return str(caught.value).splitlines()


@pytest.fixture(scope="module")
def rewound(folder: Path) -> str:
    """What the run prints that goes back."""
    return trained(configured(folder, "--trainer.on_nonfinite", "rewind", *EVALUATED, run_dir="rewound"))


@pytest.fixture(scope="module")
def skipped(folder: Path) -> str:
    """What the run prints that skips."""
    return trained(configured(folder, "--trainer.on_nonfinite", "skip", run_dir="skipped"))


def followed(folder: Path, command: str) -> Path:
    """Do what a printed command says, in this process; the run directory that it trains in."""
    arguments = shlex.split(command)[2:]
    values = dict(zip(arguments[::2], arguments[1::2], strict=True))
    run = values.pop("--run-dir")
    config = values.pop("--config")
    overrides = [part for name, value in values.items() for part in (name, value)]
    assert not set(values) & {f"--{name}" for name in option_names(train_command.make_context("train", []))}
    trained(load(Path(config), ["--trainer.run_dir", run, *overrides]))
    return Path(run)


def copied(folder: Path, name: str, new: str) -> Path:
    shutil.copytree(folder / name, folder / new)
    return folder / new


# --- stop ---


def test_it_stops_and_says_where_the_number_comes_from(folder: Path, stopped: list[str]) -> None:
    source = (folder / "poisoned.py").read_text().splitlines()
    line = next(i for i, text in enumerate(source, 1) if "x / hax.where" in text)
    assert stopped[:3] == [
        "training diverged: loss is nan at step 9.",
        f"the first array that is not finite: f32[batch=4, position=16, embed=16], made by `div` at poisoned.py:{line} "
        "(forward)",
        "to continue:",
    ]


def test_the_advice_works(folder: Path, stopped: list[str]) -> None:
    commands, meanings = stopped[3::2], stopped[4::2]
    assert [text.strip() for text in meanings] == [
        "this run again from its last good checkpoint, without the data since",
        "this run again from its last checkpoint, without the updates that are not finite",
        "another run from the weights of step 5, with a lower learning rate",
    ]
    run = folder / "run"
    untouched = copied(folder, "run", "untouched")
    for command in commands[:2]:
        assert [each["step"] for each in records(followed(folder, command))] == list(range(1, 25))
        shutil.rmtree(run)
        shutil.copytree(untouched, run)
    # The data are as bad as they were for a run of its own: it starts from step 5's weights and skips on.
    lower = followed(folder, f"{commands[2]} --trainer.on_nonfinite skip --trainer.num_train_steps 2")
    assert lower == folder / "run-lower"
    first = records(lower)[0]
    assert first["loss"] < records(untouched)[0]["loss"] - 0.2
    assert first["learning_rate"] == pytest.approx(0.003 / 2)


@pytest.mark.slow
def test_scaled_too_far_it_says_which_layer(folder: Path) -> None:
    options = [
        "--model.type",
        "gpt2",
        "--model.seq_len",
        "16",
        "--model.hidden_dim",
        "16",
        "--model.num_heads",
        "2",
        "--model.num_layers",
        "2",
    ]
    rate = ["--optimizer.learning_rate", "1e38", "--optimizer.warmup", "0", "--trainer.run_name", "wild"]
    with pytest.raises(WorkFailed) as caught:
        trained(configured(folder, *options, *rate, run_dir="wild"))
    said = str(caught.value).splitlines()
    assert said[0].startswith("training diverged: ") and said[1].startswith("the first array that is not finite: ")
    assert ".py:" in said[1]
    assert [line for line in said if "initialize_from" in line] == []  # there is no checkpoint yet


# --- skip ---


def test_an_update_is_left_out_and_the_rate_goes_on(folder: Path, skipped: str, rewound: str) -> None:
    assert "loss is nan at step 9: its update is not applied (trainer.on_nonfinite)\n" in skipped
    found = records(folder / "skipped")
    assert [each["step"] for each in found if each["loss"] == "NaN"] == [9]
    undisturbed = records(folder / "rewound")
    assert [each["learning_rate"] for each in found] == [each["learning_rate"] for each in undisturbed]
    state = checkpoint.load(checkpoint.resolve(folder / "skipped"))
    counts = {name: int(array) for name, array in state.items() if name.endswith("count")}
    assert counts == {"opt_state.adam.count": 23, "opt_state.rate.count": 24}
    assert all(bool(jnp.isfinite(array).all()) for array in state.values())


@pytest.mark.slow
def test_what_is_skipped_is_the_same_after_a_resume(folder: Path, skipped: str) -> None:
    resumed, skips = folder / "resumed", ["--trainer.on_nonfinite", "skip"]
    short = ["--trainer.num_train_steps", "7", "--optimizer.schedule_steps", "24"]
    trained(configured(folder, *skips, *short, run_dir="resumed"))
    trained(configured(folder, *skips, run_dir="resumed"))
    assert records(resumed) == records(folder / "skipped") and digest(resumed) == digest(folder / "skipped")


def test_an_end_to_skipping() -> None:
    watch = Watch("skip")
    bad = {"loss": np.float32("nan"), "grad_norm": np.float32(1)}
    assert [watch.problem(step, bad) for step in range(1, MOST_SKIPPED)] == [None] * (MOST_SKIPPED - 1)
    assert watch.problem(MOST_SKIPPED, {"loss": np.float32(1), "grad_norm": np.float32(1)}) is None
    for step in range(1, MOST_SKIPPED):
        watch.problem(step, bad)
    found = watch.problem(MOST_SKIPPED, bad)
    assert isinstance(found, NotFinite) and str(found) == f"loss is nan at step {MOST_SKIPPED}"


# --- rewind ---


def test_it_goes_back_and_leaves_out_the_data(folder: Path, rewound: str) -> None:
    path = folder / "rewound" / "rewinds.json"
    assert f"loss is nan at step 9: going back to step 5, without the 4 batches since (recorded in {path})" in rewound
    assert f"loss is nan at step 21: going back to step 20, without the 1 batch since (recorded in {path})" in rewound
    found = records(folder / "rewound")
    assert [each["step"] for each in found] == list(range(1, 25)) and "NaN" not in {each["loss"] for each in found}
    assert [(window.step, window.batches) for window in read(folder / "rewound").windows] == [(5, 4), (20, 1)]
    manifest = checkpoint.read_manifest(folder / "rewound" / "checkpoints" / "step-24")
    assert manifest.metadata["skipped"] == [[5, 4], [20, 1]]


def test_killed_between_recording_and_removing_it_ends_the_same(folder: Path, rewound: str) -> None:
    """A checkpoint of steps that were given up, which a kill has left, is removed at the resume."""
    killed = copied(folder, "rewound", "killed")
    given_up = killed / "checkpoints" / "step-20"
    found = read(killed)
    assert found.before(20) == [[5, 4]]
    # As the directory is just after it went back to step 5: the window is written, and step 20 is still the old one's.
    arrays = checkpoint.load(given_up)
    metadata = {**checkpoint.read_manifest(given_up).metadata, "skipped": []}
    for path in checkpoint.committed(killed / "checkpoints"):
        shutil.rmtree(path)
    checkpoint.save(killed / "checkpoints", 20, arrays, metadata)
    (killed / "rewinds.json").write_text(json.dumps({"windows": [{"step": 5, "batches": 4, "why": "x"}], "count": 1}))
    trained(configured(folder, "--trainer.on_nonfinite", "rewind", *EVALUATED, run_dir="killed"))
    assert records(killed) == records(folder / "rewound") and digest(killed) == digest(folder / "rewound")


def test_where_a_run_goes_back_to() -> None:
    """Window after window: what is read after going back follows what was read last."""
    first = Rewinds().rewound(9, 5, "why")
    assert first == Rewinds((Window(5, 4, "why"),), 1)
    assert [first.batch_of(step) for step in range(3, 8)] == [3, 4, 9, 10, 11]
    # The same state fails on other data too: it is the state before it that is gone back to, past all that was read.
    second = first.rewound(7, 5, "again")
    assert second == Rewinds((Window(0, 11, "again"),), 2)
    assert second.batch_of(0) == 11
    assert second.rewound(3, 5, "and again") is None
    # A later one leaves those before it as they are.
    later = first.rewound(23, 10, "later")
    assert later == Rewinds((Window(5, 4, "why"), Window(20, 3, "later")), 2)
    assert (later.batch_of(19), later.batch_of(20)) == (23, 27)
    assert later.before(20) == [[5, 4]] and later.before(21) == [[5, 4], [20, 3]]
    assert Rewinds((), MOST).rewound(9, 5, "too often") is None
    assert Rewinds().rewound(250, None, "by time alone") == Rewinds((Window(200, 50, "by time alone"),), 1)


# --- reproduce ---


def proof(run: Path, steps: tuple[int, int] | None = None, mesh: str | None = None) -> tuple[str, list[str]]:
    said: list[str] = []
    return reproduce(requested(run, steps, mesh), said.append), said


def test_steps_are_reproduced_bit_by_bit(folder: Path, rewound: str, skipped: str) -> None:
    run = folder / "rewound"
    assert proof(run) == (f"steps 21 to 24 of {run} reproduced bit by bit: 4 records and step-24 (18 arrays)", [])
    assert proof(run, (3, 12)) == (
        f"steps 1 to 12 of {run} reproduced bit by bit: 12 records",
        [
            "there is no checkpoint of step 3; there is no checkpoint before it: starting from step 0",
            "there is no checkpoint of step 12: the weights after it are not compared, its numbers are",
        ],
    )
    run = folder / "skipped"
    checkpoints = {path.name for path in checkpoint.committed(run / "checkpoints")}
    assert checkpoints == {"step-15", "step-20", "step-24"}
    assert proof(run, (16, 24)) == (
        f"steps 16 to 24 of {run} reproduced bit by bit: 9 records and step-20 (18 arrays), step-24 (18 arrays)",
        [
            f"there is no checkpoint of step 16; the nearest checkpoint before it is {run}/checkpoints/step-15: "
            "starting from step 15"
        ],
    )


def test_what_bits_depend_on_is_told_of_the_steps_that_are_made(folder: Path, rewound: str) -> None:
    run = copied(folder, "rewound", "elsewhere")
    now = jax.lib.__version__
    path = run / "checkpoints" / "step-20"
    arrays, metadata = checkpoint.load(path), dict(checkpoint.read_manifest(path).metadata)
    metadata["environment"] = {**metadata["environment"], "jaxlib": "0.9.0"}
    shutil.rmtree(path)
    checkpoint.save(run / "checkpoints", 20, arrays, metadata)
    line = f"jaxlib was `0.9.0` when these steps were made and is `{now}` now, on which bits may depend"
    assert line in proof(run, (20, 21))[1]  # the process that wrote the checkpoint made the next steps too
    config = run / "config.yaml"
    changed = f"changed: {{environment.jaxlib: {{from: 0.9.0, to: {now}}}}}"
    config.write_text(f"{config.read_text()}history:\n- {{step: 20, time: '2026-11-28 12:00:00', {changed}}}\n")
    assert line not in proof(run, (20, 21))[1]
    assert line in proof(run, (3, 12))[1]


def test_what_differs_is_named(folder: Path, rewound: str) -> None:
    run = copied(folder, "rewound", "forged")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = json.loads(lines[22])
    (run / "metrics.jsonl").write_text("".join([*lines[:22], json.dumps({**kept, "grad_norm": 0.5}) + "\n", lines[23]]))
    with pytest.raises(WorkFailed) as caught:
        proof(run)
    assert str(caught.value) == (
        f"{run} is not reproduced: the first step that differs is 23, where grad_norm was 0.5 and is "
        f"{kept['grad_norm']}"
    )
    (run / "metrics.jsonl").write_text("".join(lines[:22]))
    path = run / "checkpoints" / "step-24"
    arrays, manifest = checkpoint.load(path), checkpoint.read_manifest(path)
    arrays["model.up.weight"] = jax.numpy.nextafter(arrays["model.up.weight"], jnp.inf)
    shutil.rmtree(path)
    checkpoint.save(run / "checkpoints", 24, arrays, manifest.metadata)
    with pytest.raises(WorkFailed) as caught:
        proof(run)
    assert str(caught.value) == (
        f"{run} is not reproduced: after step 24 the first array that differs is model.up.weight (1 of 18 differ)"
    )


def test_the_command(
    folder: Path, rewound: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NPROC", "1")  # the command sets it
    run = folder / "rewound"
    assert main(["reproduce", str(run), "--steps", "20:22"]) == 0
    assert capsys.readouterr().out == f"steps 21 to 22 of {run} reproduced bit by bit: 2 records\n"
    for text in ("22:20", "20", "20:20", "a:b"):
        assert main(["reproduce", str(run), "--steps", text]) == 2
        assert capsys.readouterr().err == (
            f"error: --steps {text}: write FIRST:LAST, such as 100:120 for what was made after step 100 up to step "
            "120\n"
        )


def test_what_cannot_be_asked_for(folder: Path, rewound: str) -> None:
    run = folder / "rewound"
    for ask, said in (
        (
            (folder / "nowhere", None),
            f"`{folder}/nowhere` is not a run directory (it has no config.yaml): give the --run-dir of a run",
        ),
        ((run, (20, 25)), f"--steps: {run} has made 24 steps, not 25: give a LAST of at most 24"),
    ):
        with pytest.raises(UserError) as caught:
            requested(*ask, None)
        assert str(caught.value) == said


# --- starting from another run ---


def test_a_run_starts_from_the_weights_of_another(folder: Path, skipped: str) -> None:
    source = checkpoint.load(checkpoint.resolve(folder / "skipped"))
    one = ["--trainer.num_train_steps", "1", "--optimizer.learning_rate", "0", "--optimizer.weight_decay", "0"]
    start = ["--trainer.initialize_from", str(folder / "skipped"), *one]
    trained(configured(folder, *start, run_dir="weights"))
    trained(configured(folder, *start, "--trainer.initialize_optimizer", "true", run_dir="all"))
    weights, everything = (checkpoint.load(checkpoint.resolve(folder / name)) for name in ("weights", "all"))
    for name, array in source.items():
        if name.startswith("model."):
            for found in (weights, everything):
                assert np.asarray(found[name]).tobytes() == np.asarray(array).tobytes(), name
    assert int(weights["opt_state.adam.count"]) == 1
    assert int(everything["opt_state.adam.count"]) == int(source["opt_state.adam.count"]) + 1
    assert int(everything["opt_state.rate.count"]) == 1 == int(everything["step"])
    # It is read once: the run goes on when its source is gone, and says where it came from.
    assert (
        f"trainer.initialize_from: {folder}/skipped/checkpoints/step-24" in (folder / "all" / "config.yaml").read_text()
    )
    gone = copied(folder, "all", "gone")
    text = (gone / "config.yaml").read_text()
    longer = [*start[2:], "--trainer.initialize_from", str(folder / "nowhere"), "--trainer.num_train_steps", "2"]
    assert text and "resuming from" in trained(
        configured(folder, *longer, "--trainer.initialize_optimizer", "true", run_dir="gone")
    )


def test_what_a_run_cannot_start_from(folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        configured(folder, "--trainer.initialize_optimizer", "true")
    assert str(caught.value).startswith(
        "trainer.initialize_optimizer without trainer.initialize_from: name the run or the checkpoint to start from"
    )
    with pytest.raises(UserError, match=r"^there is no checkpoint .*nowhere: no such folder; check the path$"):
        trained(configured(folder, "--trainer.initialize_from", str(folder / "nowhere"), run_dir="from_nowhere"))
