"""Real processes that train one model over loopback: the bits of one process, whoever is killed and however many go on.

CPU devices add in their own order, so that four processes are compared with one as well.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from levanter import checkpoint

ROOT = Path(__file__).resolve().parents[2]
STEPS = 12
TEXT = "".join(f"The number {number} comes after {number - 1}, and before {number + 1}.\n" for number in range(400))
CONFIG = """
model: {{seq_len: 16, hidden_dim: 16, num_heads: 2, num_layers: 2, dropout: 0.1}}
data: {{type: text, paths: ["{folder}/numbers.txt"], cache_dir: "{folder}/cache"}}
optimizer: {{learning_rate: 0.01}}
trainer:
  train_batch_size: 8
  num_train_steps: {steps}
  eval_every: 5
  eval_batches: 2
  sample_tokens: 4
  checkpoint: {{every_steps: 3, every_minutes: null}}
"""
COMPARED = ("step", "loss", "grad_norm", "learning_rate", "heldout_loss")
LEVANTER = [sys.executable, "-m", "levanter.cli.main"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    (folder / "numbers.txt").write_text(TEXT)
    (folder / "tiny.yaml").write_text(CONFIG.format(folder=folder, steps=STEPS))
    return folder


def train(folder: Path, run: str, mesh: str, *options: str) -> list[str]:
    return ["train", "--config", str(folder / "tiny.yaml"), "--run-dir", str(folder / run), "--mesh", mesh, *options]


def launched(processes: int, command: list[str]) -> list[str]:
    return ["launch", "--processes", str(processes), "--", *command]


def started(
    folder: Path, arguments: list[str], more: Mapping[str, str] | None = None, program: Sequence[str] = LEVANTER
) -> subprocess.Popen[str]:
    quick = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    environment = {**os.environ, **quick, **(more or {})}
    return subprocess.Popen(
        [*program, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str], code: int = 0, within: float = 300) -> str:
    output, _ = process.communicate(timeout=within)
    assert process.returncode == code, output
    return output


def numbers(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{name: each[name] for name in COMPARED if name in each} for each in map(json.loads, lines)]


def same(one: Path, other: Path, steps: int = STEPS) -> None:
    assert numbers(one) == numbers(other)
    assert [each["step"] for each in numbers(one)] == list(range(1, steps + 1))
    assert checkpoint.digest(one) == checkpoint.digest(other)


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    deadline = time.monotonic() + 300
    metrics = run / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < step:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.005)


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """A run of one process on two devices."""
    finished(started(folder, train(folder, "alone", "2")))
    return folder / "alone"


LATE = """
import time

import jax
from levanter.runtime.callbacks import Callback


class Late(Callback):
    def on_start(self, run):
        if jax.process_index() == 1:
            time.sleep(35)
"""


@pytest.mark.slow
def test_a_process_that_comes_late_to_the_first_step_is_waited_for(folder: Path, alone: Path) -> None:
    (folder / "late.py").write_text(LATE)
    named = ["--trainer.callbacks", "[late.py:Late]"]
    finished(started(folder, launched(2, train(folder, "late", "2", *named))))
    same(folder / "late", alone)


def test_two_processes_make_the_bits_of_one(folder: Path, alone: Path) -> None:
    output = finished(started(folder, launched(2, train(folder, "two", "2"))))
    same(folder / "two", alone)
    lines = output.splitlines()
    assert any(line.startswith("[0] held-out loss ") for line in lines)
    assert any(line.startswith("[0] sample: The") for line in lines)
    # The second process says nothing of its own; the library that connects them does.
    assert [line for line in lines if line.startswith("[1]") and "Gloo" not in line] == []
    manifest = checkpoint.verify(checkpoint.resolve(folder / "two"))
    assert {file.split("-")[0] for file in manifest.files} == {"data/00000", "data/00001"}


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_all_and_any_number_goes_on(folder: Path, alone: Path, victim: int) -> None:
    run = folder / f"killed {victim}"
    process = started(folder, launched(2, train(folder, run.name, "2")))
    wait_for_step(process, run, random.randint(4, STEPS - 4))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    began = time.monotonic()
    os.kill(int(children[victim]), signal.SIGKILL)
    output = finished(process, 1, within=60)
    assert time.monotonic() - began < 60
    assert f"process {victim} was killed by signal 9: the others are stopped" in output
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    # One process goes on from what two have saved.
    assert "resuming from" in finished(started(folder, train(folder, run.name, "2")))
    same(run, alone)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process that its parent is gone")
def test_where_the_launcher_is_killed_its_processes_end(folder: Path, alone: Path) -> None:
    run = folder / "launcher killed"
    process = started(folder, launched(2, train(folder, run.name, "2")))
    wait_for_step(process, run, 2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while not all(map(ended, children)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    finished(started(folder, launched(2, train(folder, run.name, "2"))))
    same(run, alone)


def ended(process: str) -> bool:
    """Whether a process is gone, or nobody but a container's first process is left to ask how it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_process_ends_the_others_with_words(folder: Path, victim: int) -> None:
    """As on a cluster, where nobody looks after both."""
    run = folder / f"lost {victim}"
    where = free_address()
    command = train(folder, run.name, "2", "--trainer.num_train_steps", "100000")
    met = ["--coordinator", where, "--processes", "2", "--process-id"]
    both = [started(folder, [*command, *met, str(index)]) for index in range(2)]
    wait_for_step(both[0], run, 3)
    both[victim].kill()
    output = finished(both[1 - victim], 1, within=60)
    assert output.splitlines()[-1] == (
        "error: process 1 of this run has not been heard of for 30 s, so all of them stop: see what it wrote; "
        "rerun the same command to resume from the last checkpoint"
        if victim == 1
        else "error: the first process of this run, which the others meet at, has stopped, so all of them stop: see "
        "what it wrote; rerun the same command to resume from the last checkpoint"
    )
    both[victim].communicate()


@pytest.mark.slow
def test_several_processes_are_refused_by_another_writer_before_they_meet(folder: Path) -> None:
    first = started(folder, train(folder, "written", "2", "--trainer.num_train_steps", "100000"))
    try:
        wait_for_step(first, folder / "written", 1)
        # The second of two: it would wait for the first, which does not come.
        met = ["--coordinator", free_address(), "--processes", "2", "--process-id", "1"]
        second = started(folder, [*train(folder, "written", "2", "--trainer.num_train_steps", "100000"), *met])
        assert f"(process {first.pid} on " in finished(second, 2, within=20)
    finally:
        first.kill()
        first.communicate()


@pytest.mark.slow
def test_four_processes_stop_together_and_two_go_on(folder: Path) -> None:
    steps = 60
    longer = ["--trainer.num_train_steps", str(steps)]
    finished(started(folder, train(folder, "four alone", "2x2", *longer)))
    finished(started(folder, launched(4, train(folder, "four", "2x2", *longer))))
    same(folder / "four", folder / "four alone", steps)
    process = started(folder, launched(4, train(folder, "changed", "2x2", *longer)))
    wait_for_step(process, folder / "changed", 5)
    process.send_signal(signal.SIGTERM)
    finished(process, within=120)
    saved = checkpoint.committed(folder / "changed" / "checkpoints")
    assert saved and checkpoint.read_manifest(saved[-1]).step < steps
    two = started(folder, launched(2, train(folder, "changed", "2x2", *longer)))
    wait_for_step(two, folder / "changed", checkpoint.read_manifest(saved[-1]).step + 5)
    two.send_signal(signal.SIGTERM)
    output = finished(two, within=120)
    assert f"resuming from {saved[-1]}" in output
    finished(started(folder, train(folder, "changed", "2x2", *longer)))
    same(folder / "changed", folder / "four", steps)


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "number"), [(0, signal.SIGHUP), (1, signal.SIGTERM)])
def test_a_signal_to_one_process_stops_all(folder: Path, alone: Path, victim: int, number: signal.Signals) -> None:
    """As where one machine of several is taken away."""
    run = folder / f"one signal {victim}"
    process = started(folder, launched(2, train(folder, run.name, "2")))
    wait_for_step(process, run, 3)
    os.kill(int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[victim]), number)
    output = finished(process, within=60)
    step = len(numbers(run))
    assert step < STEPS and f"[0] stopped after step {step} of {STEPS}, saved in " in output
    finished(started(folder, launched(2, train(folder, run.name, "2"))))
    same(run, alone)


@pytest.mark.slow
def test_what_the_processes_cannot_do_is_said(folder: Path) -> None:
    one = finished(started(folder, launched(2, train(folder, "odd", "3"))), 2)
    assert "[0] error: mesh data=3 has 3 devices, which 2 processes cannot share out evenly: use one of 2 or 4" in one
    two = finished(started(folder, launched(2, ["train", "--config", str(folder / "tiny.yaml")])), 2)
    assert (
        "[0] error: this run has no mesh and its 2 processes have 2 devices: the mesh must have all of them, "
        "for example --mesh 2" in two
    )
    nowhere = ["--processes", "auto"]
    assert finished(started(folder, train(folder, "nowhere", "2", *nowhere)), 2) == (
        "error: --processes auto finds no cluster that started this process (coordinator_address should be defined.): "
        "start it with srun or mpirun, on GKE or on a TPU pod; or give --coordinator HOST:PORT, and outside of srun "
        "and mpirun --processes N and --process-id I too\n"
    )
    assert finished(started(folder, launched(2, ["eval"])), 2) == (
        "error: `levanter eval` runs in one process: launch starts `train` in several\n"
    )


@pytest.mark.slow
def test_the_default_model_by_two_processes_makes_the_bits_of_one(tmp_path: Path) -> None:
    """The README's own command, shortened, and optimized as for everybody: XLA runs that in an order of its own."""
    shown = re.search(r"levanter (launch --processes 2 -- train --mesh 2) ", (ROOT / "README.md").read_text())
    assert shown
    short = ["--trainer.num_train_steps", str(STEPS), "--trainer.eval_batches", "1", "--trainer.sample_tokens", "0"]
    both = [*shown[1].split(), *short, "--run-dir"]
    one = both[both.index("train") :]
    as_it_is = {"XLA_FLAGS": ""}
    finished(started(tmp_path, [*one, "one"], as_it_is), within=600)
    for run in ("two", "two again"):
        finished(started(tmp_path, [*both, run], as_it_is), within=600)
        same(tmp_path / run, tmp_path / "one")


READING = """
import sys
from levanter.data.token_data import TokenData
read = {"train": 0, "heldout": 0}
cut = TokenData._cut
def counted(self, tokens, windows):
    read["train" if tokens is self._tokens.train else "heldout"] += len(windows)
    return cut(self, tokens, windows)
TokenData._cut = counted
from levanter.cli.main import main
code = main(sys.argv[1:])
print("read", read["train"], read["heldout"])
sys.exit(code)
"""


@pytest.mark.slow
def test_each_process_reads_its_share_of_the_data(folder: Path) -> None:
    # Enough rows of an odd length, so that the plan shards the batch: else each process has a part of every row.
    steps, evaluations, rows = 6, 2, 64
    size = ["--trainer.train_batch_size", str(rows), "--model.seq_len", "63", "--trainer.num_train_steps", str(steps)]
    command = train(folder, "shares", "2", *size)
    met = ["--coordinator", free_address(), "--processes", "2", "--process-id"]
    both = [started(folder, [*command, *met, str(i)], program=[sys.executable, "-c", READING]) for i in range(2)]
    said = [finished(process).splitlines()[-1].split() for process in both]
    for index, (_, trained, held_out) in enumerate(said):
        # The batch behind the last step is made too, and two are made ahead.
        assert steps * rows // 2 < int(trained) <= (steps + 3) * rows // 2
        # The text is short: an evaluation is one batch. At the end the first one says how well the frequencies of
        # tokens do on the same rows.
        assert int(held_out) == evaluations * rows // 2 + (rows if index == 0 else 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "processes", "options"),
    [
        ("4", (4, 2), ["--model.dropout", "0.1"]),
        ("2x2", (4, 2), ["--model", "llama_nano"]),
        ("4", (4,), ["--trainer.precision", "compute=bfloat16", "--trainer.microbatches", "2"]),
        ("data=2,model=2", (2,), ["--model", "mixtral_nano", "--data.packing", "whole"]),
    ],
    ids=["gpt2", "llama", "bfloat16", "mixtral"],
)
def test_more_processes_make_the_bits_of_one(
    folder: Path, mesh: str, processes: tuple[int, ...], options: list[str], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    data = json.dumps([f"{folder}/numbers.txt"])
    small = ["--trainer.num_train_steps", str(STEPS), "--trainer.train_batch_size", "8", "--trainer.eval_every", "5"]
    small += ["--trainer.eval_batches", "2", "--trainer.sample_tokens", "0", "--model.seq_len", "16"]
    if "--model" in options:
        source = ["--data.type", "text", "--data.paths", data, "--data.cache_dir", f"{folder}/cache"]
    else:
        source = ["--config", str(folder / "tiny.yaml")]
    command = ["train", *source, *small, *options, "--mesh", mesh, "--run-dir"]
    finished(started(folder, [*command, f"{name} one"]))
    for count in processes:
        run = f"{name} {count}"
        finished(started(folder, launched(count, [*command, run])))
        same(folder / run, folder / f"{name} one")


def free_address() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def slurm(index: int, job: int) -> dict[str, str]:
    """What `srun -n 2` on one node sets."""
    told = {"JOB_ID": job, "STEP_NODELIST": "localhost", "NTASKS": 2, "PROCID": index, "LOCALID": index}
    told |= {"STEP_NUM_NODES": 1, "STEP_NUM_TASKS": 2}
    return {f"SLURM_{name}": str(value) for name, value in told.items()}


def open_mpi(index: int, job: int) -> dict[str, str]:
    """What `mpirun -n 2` of Open MPI 4 sets."""
    told = {"WORLD_SIZE": 2, "WORLD_RANK": index, "WORLD_LOCAL_RANK": index}
    uri = {"OMPI_MCA_orte_hnp_uri": f"{job << 12}.0;tcp://127.0.0.1:34911"}
    return {f"OMPI_COMM_{name}": str(value) for name, value in told.items()} | uri


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [slurm, open_mpi])
def test_a_cluster_tells_the_processes_where_they_meet(
    folder: Path, alone: Path, cluster: Callable[[int, int], dict[str, str]]
) -> None:
    run, job = cluster.__name__, random.randrange(4000)
    both = [started(folder, train(folder, run, "2"), cluster(index, job)) for index in range(2)]
    for process in both:
        finished(process)
    same(folder / run, alone)


GLOO = """
import sys
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
mesh = Mesh(np.array(jax.devices()), ("x",))
for size in (8, 1 << 12, 1 << 18, 1 << 22):
    values = np.random.default_rng(size).integers(-1000, 1000, (2, size)).astype(np.float32)
    array = jax.make_array_from_callback(values.shape, NamedSharding(mesh, P("x")), lambda index: values[index])
    scattered = jax.jit(jax.shard_map(
        lambda part: jax.lax.psum_scatter(part[0], "x", tiled=True), mesh=mesh, in_specs=P("x"), out_specs=P("x")
    ))(array)
    for shard in scattered.addressable_shards:
        assert np.array_equal(shard.data, values.sum(0)[shard.index]), size
print("the sums of numpy")
"""


@pytest.mark.slow
def test_sums_that_are_scattered_over_processes_are_those_of_numpy() -> None:
    """Gloo's were wrong for large chunks in some versions (jax#40830)."""
    where = free_address()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", GLOO, where, str(index)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for index in range(2)
    ]
    assert [finished(process).splitlines()[-1] for process in both] == ["the sums of numpy"] * 2
