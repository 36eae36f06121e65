"""Behind a URL there is no rename: a checkpoint is there once its manifest is, which is written last."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from failing_disk import Died
from several import together

from levanter import checkpoint
from levanter.checkpoint import CheckpointConfig, Checkpointer, writing
from levanter.checkpoint.directory import keep_elsewhere, prune, set_aside
from levanter.checkpoint.locations import Url, location
from levanter.checkpoint.remote_place import RemotePlace
from levanter.errors import UserError, WorkFailed


def tree_of(step: int) -> dict[str, np.ndarray]:
    return {f"w{i}": np.full((8, 8), step + i, np.float32) for i in range(3)}


@pytest.fixture
def memory() -> Iterator[Url]:
    url = Url(f"memory://{uuid.uuid4().hex}/checkpoints")
    yield url
    fsspec.filesystem("memory").rm(str(url.parent), recursive=True)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A local S3 server; its URL."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    running = moto.ThreadedMotoServer(port=0)
    running.start()
    host, port = running.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    before = dict(os.environ)
    os.environ |= {**keys, "AWS_DEFAULT_REGION": "us-east-1"}
    yield keys["AWS_ENDPOINT_URL"]
    os.environ.clear()
    os.environ |= before
    running.stop()


@pytest.fixture
def s3(server: str) -> Url:
    bucket = uuid.uuid4().hex
    fsspec.filesystem("s3").mkdir(bucket)
    return Url(f"s3://{bucket}/some/checkpoints")


@pytest.fixture(scope="session")
def gs_server() -> Iterator[str]:
    """A local server of Google Cloud Storage; its URL."""
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    running = emulator.create_server("localhost", port, in_memory=True)
    running.start()
    url = f"http://localhost:{port}"
    before = dict(os.environ)
    # gcsfs asks over gRPC what kind of bucket it has, which the emulator does not speak.
    os.environ |= {"STORAGE_EMULATOR_HOST": url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    pytest.importorskip("gcsfs")
    fsspec.config.conf["gs"] = {"token": "anon"}
    yield url
    del fsspec.config.conf["gs"]
    os.environ.clear()
    os.environ |= before
    running.stop()


@pytest.fixture
def gs(gs_server: str) -> Url:
    bucket = uuid.uuid4().hex
    fsspec.filesystem("gs").mkdir(bucket)
    return Url(f"gs://{bucket}/some/checkpoints")


@pytest.fixture(params=["memory", *(pytest.param(each, marks=pytest.mark.slow) for each in ("s3", "gs"))])
def folder(request: pytest.FixtureRequest) -> Url:
    return request.getfixturevalue(request.param)


def names(folder: Url) -> list[str]:
    return RemotePlace(folder).names()


def test_everything_comes_back(folder: Url) -> None:
    path = checkpoint.save(str(folder), 7, tree_of(7), {"seed": 0}, block_bytes=64)
    assert path == folder / "step-7" and names(folder) == ["step-7"]
    assert checkpoint.committed(folder) == [path]
    loaded = checkpoint.load(path)
    assert all(np.array_equal(loaded[name], value) for name, value in tree_of(7).items())
    assert checkpoint.verify(path).step == 7
    with pytest.raises(FileExistsError, match=f"^the checkpoint {path} is already there$"):
        checkpoint.save(folder, 7, tree_of(7), {})


def test_the_digest_is_that_of_a_folder(folder: Url, tmp_path: Path) -> None:
    here, there = (checkpoint.save(each, 1, tree_of(1), {}) for each in (tmp_path, folder))
    assert checkpoint.digest(here) == checkpoint.digest(there) == checkpoint.digest(str(folder))


def test_saving_goes_on_and_the_oldest_go(folder: Url) -> None:
    with Checkpointer(folder, CheckpointConfig(keep=2, keep_every=3), resumed_step=None) as saver:
        for step in range(1, 7):
            saver.save(step, tree_of(step), {})
    assert names(folder) == ["step-3", "step-5", "step-6"]
    assert checkpoint.latest(folder) == folder / "step-6"


def test_damage_is_found_and_set_aside(folder: Url) -> None:
    for step in (1, 2):
        checkpoint.save(folder, step, tree_of(step), {})
    place = RemotePlace(folder / "step-2")
    file = next(file for file in place.files() if file.startswith("data/"))
    content = place.read(file)
    place.write(file, [b"\1" + content[1:]])
    problems: list[str] = []
    assert checkpoint.latest(folder, problems) == folder / "step-1"
    assert problems == [
        f"the checkpoint {folder}/step-2 is damaged (array w0: its values do not match their checksum): "
        "using the one before it"
    ]
    place.write(file, [content[:-1]])
    with pytest.raises(checkpoint.DamagedCheckpoint, match=rf"{file} has \d+ bytes and not {len(content)}"):
        checkpoint.load(folder / "step-2")
    set_aside(folder, 1)
    assert names(folder) == ["step-1", "step-2.damaged"]
    checkpoint.clean(folder)
    assert names(folder) == ["step-1", "step-2.damaged"]


def test_several_processes(folder: Url) -> None:
    def save(member: Any) -> Any:
        return checkpoint.save(folder, 1, tree_of(1), {}, group=member)

    assert together(2, save) == [folder / "step-1"] * 2
    assert checkpoint.verify(folder / "step-1").step == 1
    assert not [file for file in RemotePlace(folder / "step-1").files() if file.startswith("parts")]


@pytest.mark.parametrize("error", [None, OSError(5, "Input/output error")])
def test_a_failure_at_any_request(memory: Url, error: OSError | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_THREADS", 1)
    digests = {
        each.name: checkpoint.digest(each)
        for each in (checkpoint.save(memory / "reference", step, tree_of(step), {}) for step in (1, 2))
    }
    calls, fails_at, dead = 0, 0, False

    def between(name: str) -> Any:
        original = getattr(RemotePlace, name)

        def call(*arguments: Any) -> Any:
            nonlocal calls, dead
            calls += 1
            if dead or calls == fails_at:
                dead = error is None
                raise error or Died
            return original(*arguments)

        return call

    for name in ("write", "remove", "files", "names"):
        monkeypatch.setattr(RemotePlace, name, between(name))

    def step_2(folder: Url) -> BaseException | None:
        nonlocal calls, dead
        calls, dead = 0, False
        try:
            checkpoint.save(folder, 2, tree_of(2), {}, file_bytes=256)
            prune(folder, 1)
        except (WorkFailed, Died) as problem:
            return problem
        return None

    checkpoint.save(memory / "whole", 1, tree_of(1), {})
    assert step_2(memory / "whole") is None
    survivors = []
    for point in range(1, calls + 1):
        folder = memory / f"point-{point}"
        fails_at = 0
        checkpoint.save(folder, 1, tree_of(1), {})
        fails_at = point
        problem = step_2(folder)
        fails_at, dead = 0, False
        # Once step 2 is there, what fails is the deletion of step 1: that is a warning.
        assert isinstance(problem, WorkFailed if error else Died) or (problem is None and names(folder)[-1] == "step-2")
        problems: list[str] = []
        found = checkpoint.latest(folder, problems)
        assert found is not None and problems == []
        assert checkpoint.digest(found) == digests[found.name]
        survivors.append(found.name)
        with Checkpointer(folder, CheckpointConfig(keep=1), resumed_step=int(found.name[-1])) as saver:
            for step in (2, 3):
                saver.save(step, tree_of(step), {})
        assert names(folder) == ["step-3"]
    assert survivors == sorted(survivors) and set(survivors) == {"step-1", "step-2"}


RUN = """
model: {{seq_len: 16, hidden_dim: 16, num_heads: 2, num_layers: 1, dropout: 0.1}}
data: {{type: text, paths: ["{folder}/numbers.txt"], cache_dir: "{folder}/cache"}}
trainer:
  {{train_batch_size: 4, num_train_steps: 40, eval_batches: 0, sample_tokens: 0, checkpoint: {{every_steps: 5}}}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("store", ["s3", "gs"])
def test_a_run_that_is_killed_resumes_from_its_checkpoints_there(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(store)
    (tmp_path / "numbers.txt").write_text("".join(f"The number {n} comes after {n - 1}.\n" for n in range(300)))
    (tmp_path / "tiny.yaml").write_text(RUN.format(folder=tmp_path))
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment = {**kept, "FSSPEC_GS_TOKEN": "anon", "JAX_PLATFORMS": "cpu"}

    def started(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "levanter.cli.main", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)

    def said(*arguments: str) -> str:
        process = started(*arguments)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    train = ["train", "--config", "tiny.yaml"]
    said(*train, "--run-dir", "local")
    there = [*train, "--run-dir", "run", "--trainer.checkpoint.directory", str(folder)]
    process = started(*there)
    while process.poll() is None and not checkpoint.committed(folder):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    first = checkpoint.committed(folder)[-1]
    assert f"resuming from {folder}/step-" in said(*there)
    assert not (tmp_path / "run" / "checkpoints" / "step-40").exists()
    assert names(folder) == ["step-35", "step-40"] and first.name != "step-40"
    digest = said("checkpoint", "digest", "run")
    assert digest == said("checkpoint", "digest", str(folder)) == said("checkpoint", "digest", "local")
    assert [line.split()[0] for line in said("checkpoint", "ls", "run").splitlines()[1:]] == ["step-35", "step-40"]
    assert said("checkpoint", "verify", str(folder)).startswith(f"{folder}/step-40: whole (")
    assert f"arrays of {folder}/step-40" in said("checkpoint", "export", str(folder), "-o", "w.safetensors")


def test_a_run_whose_checkpoints_are_elsewhere(memory: Url, tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    assert keep_elsewhere(checkpoints, None) == checkpoints
    assert keep_elsewhere(checkpoints, str(memory)) == memory
    path = checkpoint.save(memory, 3, tree_of(3), {})
    assert checkpoint.resolve(tmp_path) == checkpoint.resolve(checkpoints) == path
    assert checkpoint.committed(checkpoints) == [path] and checkpoint.latest(checkpoints) == path
    assert keep_elsewhere(checkpoints, None) == checkpoints and checkpoint.committed(checkpoints) == []


def test_locations() -> None:
    assert location("file:///a/b") == Path("/a/b") and location("a/b") == Path("a/b")
    url = location("gs://bucket/a/")
    assert isinstance(url, Url) and (url / "b").name == "b" and str(url / "b") == "gs://bucket/a/b"
    assert (url / "b").parent == Url("gs://bucket/a") and url.name == "a"


def test_a_kind_of_url_that_nobody_knows() -> None:
    with pytest.raises(UserError) as caught:
        checkpoint.load("nowhere://a/step-1")
    assert str(caught.value) == (
        "cannot open nowhere://a/step-1 (Protocol not known: nowhere): check the URL and what gives access to it; "
        's3:// and gs:// need the packages s3fs and gcsfs (pip install "levanter-compiler[cloud]")'
    )
    with pytest.raises(
        UserError, match="^there is no checkpoint memory://nothing/step-1: no such folder; check the path"
    ):
        checkpoint.load("memory://nothing/step-1")
