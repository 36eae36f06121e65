"""What bits depend on is recorded and compared; what was fixed at the start stays; what a resume changes is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import yaml
from rescued import configured, digest, records, trained, write_files

from levanter import checkpoint
from levanter.config import load, loads
from levanter.runtime import environment, errors, record
from levanter.runtime.asked import requested
from levanter.runtime.record import Entry, Record
from levanter.runtime.reproduce import reproduce

CORES = len(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("environment")).parent


def kept(run: Path) -> dict:
    return yaml.safe_load((run / "config.yaml").read_text())


# --- what bits depend on ---


def test_what_differs_is_told_line_by_line() -> None:
    before = {"jax": "0.10.1", "platform": "cpu", "cpu_threads": 2, "xla_flags": "--a=b"}
    now = {"jax": "0.10.2", "platform": "cpu", "cpu_threads": 1, "libtpu_init_args": "--c", "new_fact": 3}
    assert environment.changes(before, now) == {
        "jax": ("0.10.1", "0.10.2"),
        "cpu_threads": (2, 1),
        "xla_flags": ("--a=b", None),
        "libtpu_init_args": (None, "--c"),
    }
    count = "--xla_force_host_platform_device_count"
    assert environment.changes({"xla_flags": f"{count}=8 --a=b"}, {"xla_flags": "--a=b"}) == {}
    assert environment.changes({"xla_flags": f"{count}=8"}, {}) == environment.changes({"xla_flags": None}, {}) == {}
    assert environment.changes({}, now) == {}  # a checkpoint of an older version says nothing
    assert environment.differences(before, now, Path("c/step-5"))[:3:2] == [
        "jax was `0.10.1` when c/step-5 was saved and is `0.10.2` now: the run resumes, and its bits may differ "
        "from here on",
        "xla_flags was `--a=b` when c/step-5 was saved and is not set now: the run resumes, and its bits may differ "
        "from here on",
    ]


def test_the_environment_of_this_process() -> None:
    found = environment.current()
    assert {"levanter", "jax", "jaxlib", "python", "platform", "device_kind", "cpu_threads"} <= set(found)
    assert found["platform"] == "cpu" and found["device_kind"] and found["cpu_threads"] >= 8
    assert "device_count" not in found.get("xla_flags", "")  # the mesh says it
    assert yaml.safe_load(yaml.safe_dump(found)) == found


@pytest.mark.parametrize(
    ("platforms", "expected"), [("", "3"), ("cpu", "3"), ("cuda,cpu", "3"), ("tpu", None), ("cuda", None)]
)
def test_the_threads_of_a_cpu_are_fixed(platforms: str, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.delenv("NPROC", raising=False)
    assert environment.available_threads() == environment.cores() == CORES
    environment.fix_threads(3)
    assert os.environ.get("NPROC") == expected
    monkeypatch.setenv("NPROC", "5")
    assert environment.available_threads() == 5


# --- what a run keeps beside its config ---


def test_a_record_is_read_back_and_undone() -> None:
    config = "trainer:\n  mesh: 2x2\n  num_train_steps: 40\n"
    kept = Record({"optimizer.schedule_steps": 20}, {"jax": "2"}).resumed(
        20, {"trainer.num_train_steps": (20, 40), "environment.jax": ("1", "2")}
    )
    kept = kept.resumed(30, {"trainer.mesh": (None, "2x2"), "fixed.trainer.cpu_threads": (2, 1)})
    kept = kept.resumed(35, {})
    assert [entry.step for entry in kept.history] == [20, 30]
    text = record.written(config, kept)
    assert text.startswith(config + "\n# Kept by the run.") and record.read(text) == kept
    assert record.read(config) == Record() and record.written(config, Record()) == config

    def then(step: int) -> tuple[dict, dict, dict]:
        old, was = record.as_of(text, kept, step)
        return yaml.safe_load(old)["trainer"], dict(was.fixed), dict(was.environment)

    assert then(31) == ({"mesh": "2x2", "num_train_steps": 40}, {"optimizer.schedule_steps": 20}, {"jax": "2"})
    assert then(30)[0] == {"mesh": None, "num_train_steps": 40} and then(30)[1]["trainer.cpu_threads"] == 2
    assert then(20) == (
        {"mesh": None, "num_train_steps": 20},
        {"optimizer.schedule_steps": 20, "trainer.cpu_threads": 2},
        {"jax": "1"},
    )
    assert [entry.step for entry in kept.rewound(25).history] == [20, 25]


def test_a_config_read_from_a_run_has_nothing_of_what_it_keeps(tmp_path: Path) -> None:
    kept = Record({"optimizer.schedule_steps": 7}, {"jax": "1"}, (Entry(3, "now", {"a": (1, 2)}),))
    text = record.written(load_text(), kept)
    assert loads(text) == loads(load_text())
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "on_top.yaml").write_text("extends: config.yaml\ntrainer: {seed: 3}\n")
    assert load(tmp_path / "on_top.yaml").optimizer.schedule_steps is None


def load_text() -> str:
    from levanter.config import dump

    return dump(load("gpt2_nano"))


# --- the schedule ---


@pytest.mark.hurried
@pytest.mark.slow
def test_a_longer_run_keeps_its_schedule_until_someone_stretches_it(folder: Path) -> None:
    def run(steps: int, *options: str, run_dir: str = "longer") -> str:
        return trained(configured(folder, "--trainer.num_train_steps", str(steps), *options, run_dir=run_dir))

    path = folder / "longer"
    run(4)
    assert kept(path)["fixed"]["optimizer.schedule_steps"] == 4 and "history" not in kept(path)
    said = run(6)
    assert f"this resume changes trainer.num_train_steps: 4 → 6 (recorded in {path}/config.yaml)\n" in said
    assert (
        "the learning rate follows its schedule of 4 steps, fixed when the run started, and is 0.001 from there to "
        "step 6; --optimizer.schedule_steps 6 stretches it\n"
    ) in said
    assert [each["learning_rate"] for each in records(path)][4:] == pytest.approx([0.001, 0.001])
    said = run(8, "--optimizer.schedule_steps", "12")
    assert "this resume changes optimizer.schedule_steps: None → 12; trainer.num_train_steps: 6 → 8 (recorded" in said
    assert "stretches it" not in said
    run(8)  # without the option it stays as it is
    assert "this resume changes" not in run(8)
    found = kept(path)
    assert found["fixed"]["optimizer.schedule_steps"] == 12
    assert [(entry["step"], list(entry["changed"])) for entry in found["history"]] == [
        (4, ["trainer.num_train_steps"]),
        (6, ["optimizer.schedule_steps", "trainer.num_train_steps", "fixed.optimizer.schedule_steps"]),
        (8, ["optimizer.schedule_steps"]),
    ]
    # What each step was made with can be told from it.
    rates = [each["learning_rate"] for each in records(path)]
    assert rates[6] > 0.005 > rates[5]
    assert reproduce(requested(path, (0, 8), None), print).startswith(
        f"steps 1 to 8 of {path} reproduced bit by bit: 8 "
    )


# --- another mesh ---


@pytest.mark.hurried
def test_another_mesh_resumes_the_same_run(folder: Path) -> None:
    path, schedule = folder / "meshes", ["--optimizer.schedule_steps", "6"]
    trained(configured(folder, *schedule, "--trainer.num_train_steps", "4", run_dir="meshes"))
    before = digest(path)
    mesh = [*schedule, "--trainer.mesh", "2x2"]
    said = trained(configured(folder, *mesh, "--trainer.num_train_steps", "4", run_dir="meshes"))
    assert digest(path) == before
    assert f"this resume changes trainer.mesh: None → 2x2 (recorded in {path}/config.yaml)\n" in said
    assert f"{errors.mesh_changed(elastic=False)}\n" in said
    trained(configured(folder, *mesh, "--trainer.num_train_steps", "6", run_dir="meshes"))
    one = trained(configured(folder, "--trainer.num_train_steps", "6", run_dir="one"))
    assert "resuming" not in one
    for left, right in zip(records(path), records(folder / "one"), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-4)
    # Each step is made again on the mesh that made it.
    assert reproduce(requested(path, (0, 6), None), print).startswith(
        f"steps 1 to 6 of {path} reproduced bit by bit: 6 "
    )
    assert checkpoint.read_manifest(path / "checkpoints" / "step-6").metadata["environment"]["platform"] == "cpu"


# --- the cores of a machine ---


# So large that XLA cuts its products for several threads.
LARGER = [
    *("--model.type", "gpt2", "--model.seq_len", "32", "--model.hidden_dim", "128", "--model.num_heads", "4"),
    *("--model.num_layers", "2", "--trainer.train_batch_size", "16", "--data.heldout_fraction", "0.1"),
]


def started(folder: Path, run: str, cores: str, steps: int) -> str:
    variables = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
    done = subprocess.run(
        [
            *("taskset", "-c", cores, sys.executable, "-m", "levanter.cli.main", "train"),
            *("--config", str(folder / "tiny.yaml"), "--run-dir", str(folder / run), *LARGER),
            *("--trainer.num_train_steps", str(steps), "--optimizer.schedule_steps", "24"),
        ],
        env=variables | {"JAX_PLATFORMS": "cpu"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(CORES < 2, reason="one core cannot be told from two")
@pytest.mark.slow
def test_a_run_keeps_its_threads_on_another_machine(folder: Path) -> None:
    """Started on two cores and resumed on one, and the other way round."""
    both, first = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2])), str(min(os.sched_getaffinity(0)))
    for run, start, then in (("two", both, first), ("one", first, both)):
        started(folder, f"{run}-undisturbed", start, 4)
        started(folder, run, start, 2)
        said = started(folder, run, then, 4)
        threads = 2 if start == both else 1
        assert errors.threads_kept(threads, 3 - threads) in said
        assert kept(folder / run)["fixed"]["trainer.cpu_threads"] == threads
        assert records(folder / run) == records(folder / f"{run}-undisturbed")
        assert digest(folder / run) == digest(folder / f"{run}-undisturbed")
    # What there is to keep: the two differ.
    assert digest(folder / "one") != digest(folder / "two")
