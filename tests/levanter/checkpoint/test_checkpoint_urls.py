"""Behind a URL there is no rename: a checkpoint is there once its manifest is, which is written last."""

from __future__ import annotations

import os
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


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
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
        "cannot open nowhere://a/step-1 (Protocol not known: nowhere): s3:// and gs:// need the packages s3fs and "
        'gcsfs (pip install "levanter-compiler[cloud]")'
    )
    with pytest.raises(
        UserError, match="^there is no checkpoint memory://nothing/step-1: no such folder; check the path"
    ):
        checkpoint.load("memory://nothing/step-1")
