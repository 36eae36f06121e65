"""Each process writes its shards and reads those that it needs; the values are the same whoever wrote or reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from several import Member, Seen, together

from levanter import checkpoint
from levanter.checkpoint import CheckpointConfig, Checkpointer, reading, snapshot, writing
from levanter.checkpoint.local_place import LocalPlace
from levanter.checkpoint.reading import newest, read_regions
from levanter.checkpoint.regions import Region, region_of
from levanter.checkpoint.snapshot import Staging
from levanter.errors import UserError, WorkFailed

VALUES = {
    "rows": np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32),
    "columns": np.random.default_rng(1).normal(size=(6, 16)).astype(np.float32),
    "both": np.random.default_rng(2).normal(size=(3, 8, 8)).astype(np.float32),
    "replicated": np.arange(10, dtype=np.int32),
    "scalar": np.asarray(3, np.int32),
}
SPECS = {
    "rows": PartitionSpec(("data", "model")),
    "columns": PartitionSpec(None, "model"),
    "both": PartitionSpec(None, "data", "model"),
    "replicated": PartitionSpec(),
    "scalar": PartitionSpec(),
}


def layout(data: int, model: int) -> dict[str, NamedSharding]:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[: data * model]).reshape(data, model), ("data", "model"))
    return {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}


@pytest.fixture(scope="module")
def state() -> dict[str, jax.Array]:
    shardings = layout(4, 2)
    return {name: jax.device_put(VALUES[name], shardings[name]) for name in VALUES}


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return checkpoint.digest(checkpoint.save(tmp_path_factory.mktemp("whole"), 1, VALUES, {}))


def saved(folder: Path, state: dict[str, jax.Array], count: int, **options: Any) -> Path:
    def save(member: Member) -> Any:
        seen = {name: Seen(array, member.index, count) for name, array in state.items()}
        return checkpoint.save(folder, 1, seen, {"seed": 0}, group=member, **options)

    paths = together(count, save)
    assert paths == [folder / "step-1"] * count
    return folder / "step-1"


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_processes_writes_the_same_values(
    tmp_path: Path, state: dict[str, jax.Array], digest: str, count: int
) -> None:
    path = saved(tmp_path, state, count, block_bytes=64)
    assert checkpoint.digest(path) == digest
    loaded = checkpoint.load(path)
    assert all(np.array_equal(loaded[name], VALUES[name]) for name in VALUES)
    assert sorted(entry.name for entry in path.iterdir()) == ["data", "manifest.json", "manifest.sha256"]
    manifest = checkpoint.verify(path)
    writers = {file.removeprefix("data/").partition("-")[0] for file in manifest.files}
    assert writers == {f"{index:05}" for index in range(count)}
    # Each value is written once, whoever else has it.
    assert sum(manifest.files.values()) == manifest.nbytes == sum(value.nbytes for value in VALUES.values())


def test_processes_have_their_share_of_what_is_replicated() -> None:
    everywhere = NamedSharding(layout(4, 2)["rows"].mesh, PartitionSpec())
    state = {f"w{i}": jax.device_put(np.ones(4, np.float32), everywhere) for i in range(8)}
    for index in range(4):
        seen = {name: Seen(array, index, 4) for name, array in state.items()}
        copied = Staging().copied(seen, index)  # pyright: ignore[reportArgumentType]
        assert sum(len(each.parts) for each in copied.values()) == 2


def test_the_memory_of_the_first_copy_is_taken_before_it(state: dict[str, jax.Array]) -> None:
    staging = Staging()
    staging.prepared(state, 0)()
    taken = {id(buffer) for buffer in staging._buffers.values()}
    copied = staging.copied(state, 0)
    assert {id(values) for each in copied.values() for _, values in each.parts} == taken
    assert sum(buffer.nbytes for buffer in staging._buffers.values()) == sum(each.nbytes for each in VALUES.values())


def test_a_copy_that_is_made_on_the_devices(
    tmp_path: Path, state: dict[str, jax.Array], digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not snapshot.have_room([state["scalar"].addressable_shards[0].data])  # a CPU tells of none
    monkeypatch.setattr(snapshot, "have_room", lambda shards: True)
    give_away = jax.jit(lambda tree: jax.tree.map(lambda array: array * 0, tree), donate_argnums=0)
    mine = jax.tree.map(lambda array: array + 0, state)
    with Checkpointer(tmp_path, CheckpointConfig(), resumed_step=None) as saver:
        saver.save(1, mine, {})
        give_away(mine)
    assert checkpoint.digest(tmp_path) == digest


@pytest.mark.parametrize("data_model", [(1, 1), (2, 4), (8, 1), (1, 8)])
def test_another_mesh_restores_the_same_bits(
    tmp_path: Path, state: dict[str, jax.Array], digest: str, data_model: tuple[int, int]
) -> None:
    path = saved(tmp_path, state, 4)
    shardings = layout(*data_model)
    loaded = checkpoint.load(path, like=VALUES, shardings=shardings)
    assert {name: array.sharding for name, array in loaded.items()} == shardings
    assert checkpoint.digest(checkpoint.save(tmp_path / "again", 5, loaded, {})) == digest


def test_a_block_that_no_device_here_needs_is_not_read(tmp_path: Path, state: dict[str, jax.Array]) -> None:
    path = saved(tmp_path, state, 2)
    record = checkpoint.read_manifest(path).arrays["rows"]
    needed = [region_of(shard.index, (16, 6)) for shard in Seen(state["rows"], 0, 2).addressable_shards]
    blocks = [block for block in record.blocks if all(block.region.overlap(region) is None for region in needed)]
    assert len(blocks) == 4
    for block in blocks:
        file = path / block.file
        content = bytearray(file.read_bytes())
        content[block.offset] ^= 1
        file.write_bytes(content)
    found = read_regions(path, "rows", record, needed)
    assert all(np.array_equal(found[region], VALUES["rows"][region.slices()]) for region in needed)
    with pytest.raises(checkpoint.DamagedCheckpoint) as caught:
        checkpoint.load(path)
    assert caught.value.what == "array rows: its values from [8, 0] on do not match their checksum"


def test_who_needs_a_part_of_an_array_reads_hardly_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(1 << 22, dtype=np.float32).reshape(1 << 12, 1 << 10)  # 16 MiB
    path = checkpoint.save(tmp_path, 1, {"w": values}, {})
    read = 0
    original = LocalPlace.read_into

    def counted(place: LocalPlace, file: str, offset: int, buffer: memoryview) -> int:
        nonlocal read
        read += len(buffer)
        return original(place, file, offset, buffer)

    monkeypatch.setattr(LocalPlace, "read_into", counted)
    needed = Region((0, 0), (1300, 1 << 10))  # up to the middle of a block
    found = read_regions(path, "w", checkpoint.read_manifest(path).arrays["w"], [needed])
    assert np.array_equal(found[needed], values[:1300])
    assert found[needed].nbytes <= read < found[needed].nbytes + (1 << 20)
    read = 0
    checkpoint.load(path)
    assert read == values.nbytes


@pytest.mark.parametrize(("spec", "times"), [(PartitionSpec("data"), 1), (PartitionSpec(None, "data"), 2)])
def test_a_digest_reads_what_lies_in_order_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: PartitionSpec, times: int
) -> None:
    values = np.arange(64, dtype=np.float32).reshape(8, 8)
    sharded = jax.device_put(values, NamedSharding(layout(4, 2)["rows"].mesh, spec))
    path = checkpoint.save(tmp_path, 1, {"w": sharded}, {}, block_bytes=32)
    whole = checkpoint.digest(checkpoint.save(tmp_path / "whole", 1, {"w": values}, {}))
    read = 0
    original = LocalPlace.read_into

    def counted(place: LocalPlace, file: str, offset: int, buffer: memoryview) -> int:
        nonlocal read
        read += len(buffer)
        return original(place, file, offset, buffer)

    monkeypatch.setattr(LocalPlace, "read_into", counted)
    assert checkpoint.digest(path) == whole
    assert read == times * values.nbytes


def test_each_block_is_read_once(tmp_path: Path, state: dict[str, jax.Array], monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, state, 1)
    read: list[tuple[str, Region]] = []
    original = reading._read_block

    def counted(place: Any, name: str, record: Any, block: Any) -> np.ndarray:
        read.append((name, block.region))
        return original(place, name, record, block)

    monkeypatch.setattr(reading, "_read_block", counted)
    checkpoint.load(path, like=VALUES, shardings=layout(2, 4))
    blocks = [
        (name, block.region) for name, each in checkpoint.read_manifest(path).arrays.items() for block in each.blocks
    ]
    assert sorted(read, key=str) == sorted(blocks, key=str)


def test_where_one_process_fails_all_do(
    tmp_path: Path, state: dict[str, jax.Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = writing._Writer.written

    def failing(self: Any, tree: Any) -> Any:
        if self._process == 1:
            raise OSError(28, "No space left on device")
        return written(self, tree)

    monkeypatch.setattr(writing._Writer, "written", failing)

    def save(member: Member) -> Any:
        return checkpoint.save(tmp_path, 1, VALUES, {}, group=member)

    problems = together(3, save)
    full = (
        f"cannot write the checkpoint {tmp_path}/step-1 (No space left on device): those before it are whole; "
        "make room and run the same command again"
    )
    told = f"cannot write the checkpoint {tmp_path}/step-1: process 1 of this run has stopped ({full})"
    assert [str(problem) for problem in problems] == [told, full, told]
    assert all(isinstance(problem, WorkFailed) for problem in problems)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_not_shared_is_said(tmp_path: Path, state: dict[str, jax.Array]) -> None:
    def save(member: Member) -> Any:
        return checkpoint.save(tmp_path / f"disk of {member.index}", 1, VALUES, {}, group=Renamed(member))

    class Renamed:
        """Topics have the path in them, which here is another one in each process."""

        def __init__(self, member: Member) -> None:
            self.index, self.count, self._member = member.index, member.count, member

        def exchange(self, topic: str, value: str = "") -> list[str]:
            return self._member.exchange(topic.replace("disk of 1", "disk of 0"), value)

    first, second = together(2, save)
    said = (
        f"process 1 wrote its part of {tmp_path}/disk of 0/step-1 to a disk that the first process does not see: put "
        "the checkpoints on a file system that all processes share, or at a URL (--trainer.checkpoint.directory)"
    )
    assert isinstance(first, UserError) and str(first) == said
    assert isinstance(second, WorkFailed) and said in str(second)


def test_all_processes_resume_from_the_same_checkpoint(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, VALUES, {})

    def read(member: Member) -> Any:
        def load(path: Any) -> int:
            if member.index == 1 and path.name == "step-2":  # which reads what the other one does not
                raise checkpoint.errors.damaged(path, "array w: its values do not match their checksum")
            return member.index

        problems: list[str] = []
        return newest(tmp_path, load, problems, member), problems

    said = (
        f"the checkpoint {tmp_path}/step-2 is damaged (array w: its values do not match their checksum): "
        "using the one before it"
    )
    assert together(2, read) == [((tmp_path / "step-1", index), [said]) for index in range(2)]


def test_a_run_of_two_processes_saves_while_it_trains(tmp_path: Path, state: dict[str, jax.Array]) -> None:
    def run(member: Member) -> None:
        seen = {name: Seen(array, member.index, 2) for name, array in state.items()}
        config = CheckpointConfig(keep=1, keep_every=4)
        with Checkpointer(tmp_path, config, resumed_step=None, group=member) as saver:
            for step in range(1, 7):
                saver.save(step, seen, {})  # pyright: ignore[reportArgumentType]

    assert together(2, run) == [None, None]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-4", "step-6"]
    assert len({checkpoint.digest(tmp_path / name) for name in ("step-4", "step-6")}) == 1
