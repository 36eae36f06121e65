"""What is saved comes back bit for bit, on any mesh; an altered byte is refused by name."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.sharding import NamedSharding, PartitionSpec

from levanter import checkpoint
from levanter.checkpoint import errors
from levanter.checkpoint.directory import prune, set_aside
from levanter.checkpoint.errors import DamagedCheckpoint
from levanter.checkpoint.regions import chunk_shape
from levanter.checkpoint.writing import BLOCK_BYTES as CHUNK_BYTES
from levanter.errors import UserError

TREE: dict[str, np.ndarray] = {
    "model.weight": np.arange(12, dtype=np.float32).reshape(3, 4) - 5,
    "model.half": np.array([0.1, -2.5, 3e38], ml_dtypes.bfloat16),
    "odd / name.é": np.array([[-0.0, 0.0, np.nan, np.inf]], np.float16),
    "empty": np.zeros((0, 4), np.float32),
    "zeros": np.zeros((2, 2), np.float32),
    "mask": np.array([True, False]),
    "step": np.asarray(7, np.int32),
}


def same_bits(left: Any, right: Any) -> bool:
    left, right = np.asarray(left), np.asarray(right)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def mesh_of(data: int, model: int) -> jax.sharding.Mesh:
    devices = np.array(jax.devices()[: data * model]).reshape(data, model)
    return jax.sharding.Mesh(devices, ("data", "model"))


def test_everything_comes_back(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "checkpoints", 7, TREE, {"seed": 0, "mesh": None})
    assert path == tmp_path / "checkpoints" / "step-7"
    loaded = checkpoint.load(path)
    assert list(loaded) == sorted(TREE)
    assert all(isinstance(value, jax.Array) and same_bits(value, TREE[name]) for name, value in loaded.items())
    manifest = checkpoint.read_manifest(path)
    assert (manifest.step, manifest.metadata) == (7, {"seed": 0, "mesh": None})
    assert manifest.arrays["model.half"].dtype == "bfloat16"
    assert [entry.name for entry in path.parent.iterdir()] == ["step-7"]


def test_the_manifest_is_checked_by_an_ordinary_tool(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, TREE, {})
    subprocess.run(["sha256sum", "--check", "--strict", "manifest.sha256"], cwd=path, check=True, capture_output=True)


def test_loading_on_another_mesh_gives_the_same_bits(tmp_path: Path) -> None:
    values = {"w": np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32), "s": np.asarray(3, np.int32)}
    specs = {"w": PartitionSpec("data", "model"), "s": PartitionSpec()}
    paths = []
    for shape in ((4, 2), (8, 1), (1, 1)):
        shardings = {name: NamedSharding(mesh_of(*shape), spec) for name, spec in specs.items()}
        sharded = {name: jax.device_put(values[name], shardings[name]) for name in values}
        paths.append(checkpoint.save(tmp_path / f"{shape}", 3, sharded, {}))
    assert len({checkpoint.digest(path) for path in paths}) == 1
    shardings = {name: NamedSharding(mesh_of(2, 4), spec) for name, spec in specs.items()}
    loaded = checkpoint.load(paths[0], like=values, shardings=shardings)
    assert {name: value.sharding for name, value in loaded.items()} == shardings
    assert all(same_bits(loaded[name], values[name]) for name in values)


def test_another_model_is_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"a": np.zeros((2, 3), np.float32), "b": np.zeros(1, np.float32)}, {})
    like = {"a": jax.ShapeDtypeStruct((2, 4), np.float32), "c": jax.ShapeDtypeStruct((), np.int32)}
    with pytest.raises(checkpoint.CheckpointMismatch) as caught:
        checkpoint.load(path, like=like)
    assert str(caught.value) == (
        f"the checkpoint {path} does not fit this model and optimizer (c is not in it; b is in it and not expected; "
        "a is float32[2, 3] and not float32[2, 4]): use the config it was written with, or another run directory"
    )


def test_values_that_jax_would_round_are_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"a": np.zeros(2, np.float64)}, {})
    with pytest.raises(checkpoint.CheckpointMismatch) as caught:
        checkpoint.load(path)
    assert str(caught.value) == (
        f"the checkpoint {path} holds float64 values (array a), which JAX would round: set JAX_ENABLE_X64=1"
    )


def test_a_committed_checkpoint_is_never_written_to(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, TREE, {})
    with pytest.raises(FileExistsError, match=f"^the checkpoint {path} is already there$"):
        checkpoint.save(tmp_path, 1, TREE, {})


def test_a_full_disk_is_said_and_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, TREE, {})
    code = (
        "import resource, sys, numpy as np\n"
        "from levanter import checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "checkpoint.save(sys.argv[1], 2, {'w': np.ones(1 << 20, np.float32)}, {})\n"
    )
    failed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert failed.stderr.splitlines()[-1] == (
        f"levanter.errors.WorkFailed: cannot write the checkpoint {tmp_path}/step-2 (File too large): "
        "those before it are whole; check the disk (or move the run directory to another one) "
        "and run the same command again"
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-1"]


# --- the laws of arrays and digests ---


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=hnp.arrays(
        st.sampled_from([np.float32, np.int32, np.uint8, np.float16]), hnp.array_shapes(min_dims=0, max_side=6)
    ),
    chunk_bytes=st.integers(1, 200),
)
def test_chunks_do_not_change_an_array_or_its_digest(tmp_path: Path, values: np.ndarray, chunk_bytes: int) -> None:
    for name in ("whole", "chunked"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    whole = checkpoint.save(tmp_path / "whole", 1, {"a": values}, {})
    chunked = checkpoint.save(tmp_path / "chunked", 1, {"a": values}, {}, block_bytes=chunk_bytes)
    assert checkpoint.digest(whole) == checkpoint.digest(chunked)
    record = checkpoint.read_manifest(chunked).arrays["a"]
    assert same_bits(checkpoint.read_array(chunked, "a", record), values)


@given(
    shape=st.lists(st.integers(0, 1000), max_size=4),
    itemsize=st.sampled_from([1, 2, 4, 8]),
    chunk_bytes=st.integers(8, 1 << 20),
)
def test_a_chunk_is_as_large_as_it_may_be(shape: list[int], itemsize: int, chunk_bytes: int) -> None:
    chunk = chunk_shape(shape, itemsize, chunk_bytes)
    assert len(chunk) == len(shape)
    assert int(np.prod(chunk, dtype=object)) * itemsize <= chunk_bytes
    cut = [axis for axis, side in enumerate(shape) if chunk[axis] < side]
    if cut:
        chunk[cut[-1]] += 1
        assert int(np.prod(chunk, dtype=object)) * itemsize > chunk_bytes


def test_chunks_of_a_large_array() -> None:
    assert chunk_shape((50304, 64), 4, CHUNK_BYTES) == [50304, 64]
    assert chunk_shape((48, 1600, 6400), 4, CHUNK_BYTES) == [1, 1600, 6400]
    assert chunk_shape((2, 1 << 14, 1 << 12), 4, CHUNK_BYTES) == [1, 1 << 12, 1 << 12]
    assert chunk_shape((), 4, CHUNK_BYTES) == []


def test_big_endian_and_strided_values_are_the_same_values(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    digests = {
        checkpoint.digest(checkpoint.save(tmp_path / str(i), 1, {"a": variant}, {}))
        for i, variant in enumerate((values, values.astype(">f4"), np.asfortranarray(values), values[::-1][::-1]))
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.array([1, 2], np.int32), "c": np.array([3], np.int32)},
        {"a": np.array([1, 2], np.uint32), "b": np.array([3], np.int32)},
        {"a": np.array([[1, 2]], np.int32), "b": np.array([3], np.int32)},
        {"a": np.array([1, 3], np.int32), "b": np.array([3], np.int32)},
        {"a": np.array([1], np.int32), "b": np.array([2, 3], np.int32)},
        {"a": np.array([1, 2], np.int32)},
    ],
)
def test_the_digest_knows_names_dtypes_shapes_and_values(tmp_path: Path, other: dict[str, np.ndarray]) -> None:
    tree = {"a": np.array([1, 2], np.int32), "b": np.array([3], np.int32)}
    one = checkpoint.digest(checkpoint.save(tmp_path / "one", 1, tree, {"some": "metadata"}))
    assert one == checkpoint.digest(checkpoint.save(tmp_path / "two", 9, dict(reversed(tree.items())), {}))
    assert one != checkpoint.digest(checkpoint.save(tmp_path / "other", 1, other, {}))


def test_the_digest_never_changes(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"a": np.arange(3, dtype=np.float32)}, {})
    assert checkpoint.digest(path) == "990f2db8b567fe442f9938293cf0193659b1a61ed5188c46b7417c2872901041"


def test_the_digest_of_a_run_is_that_of_its_newest_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    for step in (9, 10):
        checkpoint.save(folder, step, {"a": np.asarray(step)}, {})
    older, newest = (checkpoint.digest(folder / name) for name in ("step-9", "step-10"))
    assert checkpoint.digest(folder) == checkpoint.digest(folder.parent) == newest != older
    with pytest.raises(UserError) as caught:
        checkpoint.digest(tmp_path / "gone")
    assert str(caught.value) == f"there is no checkpoint {tmp_path}/gone: no such folder; check the path"
    with pytest.raises(UserError) as caught:
        checkpoint.read_manifest(folder / "step-8")
    assert str(caught.value) == f"there is no checkpoint {folder}/step-8: no such folder; there are step-9, step-10"
    with pytest.raises(UserError) as caught:
        checkpoint.digest(tmp_path)
    assert str(caught.value) == (
        f"there is no checkpoint in {tmp_path}: name a step-N folder, or a run directory that has one"
    )


# --- damage ---


def files_of(path: Path) -> list[Path]:
    return sorted(entry for entry in path.rglob("*") if entry.is_file())


def damage_of(path: Path) -> str:
    with pytest.raises(DamagedCheckpoint) as caught:
        checkpoint.load(path)
    assert str(caught.value) == (
        f"the checkpoint {path} is damaged ({caught.value.what}): "
        "it is not used; remove it to resume from the one before it"
    )
    return caught.value.what


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = {name: TREE[name] for name in ("model.weight", "zeros", "step")}
    return checkpoint.save(tmp_path_factory.mktemp("pristine"), 1, tree, {"seed": 0}, block_bytes=32, file_bytes=64)


@pytest.mark.parametrize("read", [checkpoint.verify, checkpoint.digest])
def test_every_flipped_bit_is_found(pristine: Path, read: Any) -> None:
    generator = np.random.default_rng(0)
    for file in files_of(pristine):
        content = file.read_bytes()
        for position in generator.choice(len(content), size=min(12, len(content)), replace=False):
            flipped = bytearray(content)
            flipped[position] ^= 1 << generator.integers(8)
            file.write_bytes(flipped)
            with pytest.raises(DamagedCheckpoint) as caught:
                read(pristine)
            culprit = file.name if file.parent == pristine else "array "
            assert culprit.removesuffix(".sha256") in caught.value.what
        file.write_bytes(content)
    checkpoint.verify(pristine)


@pytest.mark.torture
def test_every_bit_of_every_file_counts(pristine: Path) -> None:
    flips = 0
    for file in files_of(pristine):
        content = file.read_bytes()
        for position in range(8 * len(content)):
            flipped = bytearray(content)
            flipped[position // 8] ^= 1 << position % 8
            file.write_bytes(flipped)
            with pytest.raises(DamagedCheckpoint):
                checkpoint.verify(pristine)
            flips += 1
        file.write_bytes(content)
    checkpoint.verify(pristine)
    print(f"{flips} flips found")


@pytest.mark.torture
def test_flips_anywhere_in_a_large_checkpoint_are_found_and_named(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    tree = {f"layer {n}": generator.normal(size=(1 << 10, 1 << 10)).astype(np.float32) for n in range(6)}
    path = checkpoint.save(tmp_path, 1, tree, {})
    records = checkpoint.read_manifest(path).arrays
    files = {file: bytearray(file.read_bytes()) for file in files_of(path) if file.parent != path}
    owners = [
        (path / block.file, block.offset, block.offset + 4 * block.region.size, name)
        for name, record in records.items()
        for block in record.blocks
    ]
    for _ in range(300):
        file = list(files)[generator.integers(len(files))]
        position, bit = int(generator.integers(len(files[file]))), 1 << int(generator.integers(8))
        with open(file, "r+b") as opened:
            opened.seek(position)
            opened.write(bytes([files[file][position] ^ bit]))
        with pytest.raises(DamagedCheckpoint) as caught:
            checkpoint.verify(path)
        (owner,) = (name for owned, start, end, name in owners if owned == file and start <= position < end)
        assert caught.value.what.startswith(f"array {owner}: its values")
        with open(file, "r+b") as opened:
            opened.seek(position)
            opened.write(bytes([files[file][position]]))
    checkpoint.verify(path)


@pytest.mark.parametrize("damage", ["cut", "grown", "empty", "gone"])
def test_every_torn_file_is_found(pristine: Path, damage: str) -> None:
    for file in files_of(pristine):
        content = file.read_bytes()
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes({"cut": content[:-1], "grown": content + b"\0", "empty": b""}[damage])
        with pytest.raises(DamagedCheckpoint):
            checkpoint.verify(pristine)
        file.write_bytes(content)
    checkpoint.verify(pristine)


def test_damage_is_named(tmp_path: Path) -> None:
    def fresh(name: str) -> Path:
        return checkpoint.save(tmp_path / name, 1, {"model.w": np.ones((4, 2), np.float32)}, {}, block_bytes=8)

    path = fresh("values")
    data = next((path / "data").iterdir())
    content = data.read_bytes()
    record = checkpoint.read_manifest(path).arrays["model.w"]
    third = next(block for block in record.blocks if block.region.start == (2, 0))
    changed = path / third.file
    content = changed.read_bytes()
    changed.write_bytes(content[: third.offset] + b"\1" + content[third.offset + 1 :])
    assert damage_of(path) == "array model.w: its values from [2, 0] on do not match their checksum"
    path = fresh("manifest")
    (path / "manifest.json").write_text((path / "manifest.json").read_text().replace('"step": 1', '"step": 2'))
    assert damage_of(path) == "manifest.json does not match manifest.sha256"
    for content in (b"[1]", b"{}", b"no JSON"):  # of some other program
        (path / "manifest.json").write_bytes(content)
        (path / "manifest.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  manifest.json\n")
        assert damage_of(path) == "manifest.json is not that of a checkpoint"
    path = fresh("files")
    data = sorted((path / "data").iterdir())[0]
    size, file = data.stat().st_size, f"data/{data.name}"
    data.write_bytes(data.read_bytes() + b" ")
    assert damage_of(path) == f"{file} has {size + 1} bytes and not {size}"
    (path / "data" / "00000").touch()
    assert damage_of(path) == "data/00000 does not belong to it"
    (path / "data" / "00000").unlink()
    data.unlink()
    assert damage_of(path) == f"{file} is missing"
    path = fresh("torn")
    (path / "manifest.json").unlink()
    assert damage_of(path) == "manifest.json cannot be read: No such file or directory"


def test_values_swapped_with_those_of_another_step_are_found(tmp_path: Path) -> None:
    one, two = (checkpoint.save(tmp_path, step, {"a": np.full(4, step, np.float32)}, {}) for step in (1, 2))
    (file,) = (entry.name for entry in (one / "data").iterdir())
    shutil.copyfile(two / "data" / file, one / "data" / file)
    assert damage_of(one) == "array a: its values do not match their checksum"


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {}, {})
    content = (path / "manifest.json").read_text().replace('"format": 2', '"format": 3')
    (path / "manifest.json").write_text(content)
    summed = subprocess.run(["sha256sum", "manifest.json"], cwd=path, capture_output=True, check=True)
    (path / "manifest.sha256").write_bytes(summed.stdout)
    with pytest.raises(UserError) as caught:
        checkpoint.load(path)
    assert str(caught.value) == (
        f"the checkpoint {path} has format 3 and this version reads formats up to 2: use the version that wrote it"
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            errno.ENOSPC,
            "(No space left on device): those before it are whole; make room and run the same command again",
        ),
        (
            errno.EROFS,
            "(Read-only file system): those before it are whole; mount the disk writable (or move the run directory "
            "to one that is) and run the same command again",
        ),
        (
            errno.EACCES,
            "(Permission denied): those before it are whole; let this user write the folder and run the same "
            "command again",
        ),
        (
            errno.EIO,
            "(Input/output error): those before it are whole; check the disk (or move the run directory to another "
            "one) and run the same command again",
        ),
    ],
)
def test_each_refusal_of_the_disk_has_its_own_fix(code: int, said: str) -> None:
    error = OSError(code, os.strerror(code))
    assert str(errors.cannot_write(Path("c/step-2"), error)) == f"cannot write the checkpoint c/step-2 {said}"


# --- the folder ---


@pytest.mark.parametrize("use", [checkpoint.load, checkpoint.verify, checkpoint.digest])
def test_a_checkpoint_under_the_name_of_another_step_is_refused_for_what_it_is(tmp_path: Path, use: Any) -> None:
    shutil.copytree(checkpoint.save(tmp_path, 10, TREE, {}), tmp_path / "step-20")
    said = (
        f"the checkpoint {tmp_path}/step-20 holds the state after step 10: it was copied or renamed; "
        f"name it step-10, or move it out of {tmp_path}"
    )
    for refused in (lambda: use(tmp_path / "step-20"), lambda: checkpoint.latest(tmp_path)):
        with pytest.raises(UserError) as caught:
            refused()
        assert str(caught.value) == said and not isinstance(caught.value, DamagedCheckpoint)
    # Under a name that is no step's, anything may be kept.
    (tmp_path / "step-20").rename(tmp_path / "best")
    use(tmp_path / "best")


def test_an_old_checkpoint_that_cannot_be_deleted_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {}, {})

    def refuse(path: Any, **_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        prune(tmp_path, 1)
        assert [path.name for path in checkpoint.committed(tmp_path)] == ["step-2"]
        checkpoint.clean(tmp_path)
    said = "(Permission denied): training continues; delete it by hand to have its room back\n"
    assert capsys.readouterr().err == f"cannot delete the old checkpoint {tmp_path}/.step-1.deleted {said}" * 2
    checkpoint.clean(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-2"]


def test_the_newest_whole_checkpoint_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkpoint.latest(tmp_path / "gone") is None
    assert checkpoint.latest(tmp_path) is None
    for step in (2, 10, 9):
        checkpoint.save(tmp_path, step, {"w": np.asarray(step)}, {})
    (tmp_path / ".step-11.tmp").mkdir()
    (tmp_path / "step-x").mkdir()
    assert checkpoint.latest(tmp_path) == tmp_path / "step-10"
    (file,) = (tmp_path / "step-10" / "data").iterdir()
    file.unlink()
    problems: list[str] = []
    assert checkpoint.latest(tmp_path, problems) == tmp_path / "step-9"
    assert problems == [
        f"the checkpoint {tmp_path}/step-10 is damaged (data/{file.name} is missing): using the one before it"
    ]
    assert checkpoint.latest(tmp_path) == tmp_path / "step-9"
    assert capsys.readouterr().err == problems[0] + "\n"


def test_a_run_is_not_started_over_because_all_its_checkpoints_are_damaged(tmp_path: Path) -> None:
    for step in (1, 2):
        (checkpoint.save(tmp_path, step, {}, {}) / "manifest.json").unlink()
    with pytest.raises(DamagedCheckpoint) as caught:
        checkpoint.latest(tmp_path)
    why = "manifest.json cannot be read: No such file or directory"
    assert str(caught.value) == (
        f"the checkpoint {tmp_path}/step-2 is damaged ({why}; step-1: {why}): there is no whole one before it; "
        f"put back a copy, or remove the folder {tmp_path} to start from the first step"
    )


def test_the_oldest_go_and_the_damaged_stay_beside(tmp_path: Path) -> None:
    for step in (1, 2, 10, 11):
        checkpoint.save(tmp_path, step, {}, {})
    set_aside(tmp_path, 10)
    checkpoint.save(tmp_path, 11, {}, {})
    set_aside(tmp_path, 10)
    prune(tmp_path, 2)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "step-10",
        "step-11.damaged",
        "step-11.damaged2",
        "step-2",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_steps": 0}, "trainer.checkpoint.every_steps is 0: it must be at least 1, or null"),
        ({"every_minutes": 0.0}, "trainer.checkpoint.every_minutes is 0.0: it must be above 0, or null"),
        ({"keep": 0}, "trainer.checkpoint.keep is 0: it must be at least 1"),
    ],
)
def test_the_config_is_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        checkpoint.CheckpointConfig(**options)
    assert str(caught.value) == message
