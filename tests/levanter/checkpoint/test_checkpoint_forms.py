"""Older formats are read; checkpoints are listed, verified, exported and converted from the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from levanter import checkpoint
from levanter.checkpoint.exporting import convert, export
from levanter.cli.main import main
from levanter.errors import UserError, WorkFailed
from levanter.hf.safetensors import read_header

OLD = Path(__file__).parents[2] / "golden" / "checkpoint_format_1" / "step-7"
OLD_DIGEST = "9eedc8e40bd14432f861a4eb9f3cb131283b63ed600a0c4722d330376d9c2fd5"
VALUES: dict[str, np.ndarray] = {
    "empty": np.zeros((0, 4), np.float32),
    "mask": np.array([True, False]),
    "model.half": np.array([0.1, -2.5, 3e38], ml_dtypes.bfloat16),
    "model.weight": np.arange(12, dtype=np.float32).reshape(3, 4) - 5,
    "odd / name.é": np.array([[-0.0, 0.0, np.nan, np.inf]], np.float16),
    "step": np.asarray(7, np.int32),
    "zeros": np.zeros((2, 2), np.float32),
}
"""What the checkpoint in `OLD` was made from, by the version that wrote that format."""


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def test_format_1_is_read() -> None:
    loaded = checkpoint.load(OLD)
    assert list(loaded) == list(VALUES)
    assert all(same_bits(np.asarray(loaded[name]), VALUES[name]) for name in VALUES)
    assert checkpoint.digest(OLD) == OLD_DIGEST
    assert checkpoint.read_manifest(OLD).metadata == {"seed": 0}


def test_damage_of_format_1_is_found(tmp_path: Path) -> None:
    path = tmp_path / "step-7"
    shutil.copytree(OLD, path)
    weight = path / "arrays" / "model.weight"

    def damage() -> str:
        with pytest.raises(checkpoint.DamagedCheckpoint) as caught:
            checkpoint.verify(path)
        return caught.value.what

    chunk = weight / "c" / "1" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(b"\1" + content[1:])
    assert damage() == "array model.weight: its values cannot be read"
    chunk.write_bytes(content[1:])
    assert damage() == "array model.weight: c/1/0 has 19 bytes and not 20"
    chunk.unlink()
    assert damage() == "array model.weight: c/1/0 is missing"
    chunk.write_bytes(content)
    metadata = weight / "zarr.json"
    metadata.write_text(metadata.read_text().replace("[3,4]", "[4,3]"))
    assert damage() == "array model.weight: zarr.json does not match its checksum"


def test_an_older_format_becomes_the_newest_with_the_same_digest(tmp_path: Path) -> None:
    new = convert(OLD, tmp_path)
    assert new == tmp_path / "step-7"
    manifest = checkpoint.verify(new)
    assert (manifest.format, manifest.step, manifest.metadata) == (2, 7, {"seed": 0})
    assert checkpoint.digest(new) == OLD_DIGEST
    with pytest.raises(UserError) as caught:
        convert(OLD, tmp_path)
    assert str(caught.value) == f"{new} is there already: name a new one"
    with pytest.raises(UserError) as caught:
        convert(new, tmp_path / "other")
    assert str(caught.value) == (f"the checkpoint {new} has format 2, which is the newest: there is nothing to convert")


def test_arrays_as_one_file(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, VALUES, {}, block_bytes=16)
    names = export(path, tmp_path / "all.safetensors")
    tensors = read_header(tmp_path / "all.safetensors")
    assert set(names) == set(tensors) == set(VALUES)
    assert all(same_bits(np.asarray(tensors[name].view()), VALUES[name]) for name in VALUES)
    plain = {name: value for name, value in VALUES.items() if name != "model.half"}
    other = checkpoint.save(tmp_path, 2, plain, {})
    export(other, tmp_path / "plain.npz")
    with np.load(tmp_path / "plain.npz") as found:
        assert set(found) == set(plain)
        assert all(same_bits(found[name], plain[name]) for name in plain)
    assert export(path, tmp_path / "part.safetensors", "model.") == ["model.half", "model.weight"]


@pytest.mark.parametrize(
    ("file", "part", "message"),
    [
        ("a.zip", "", "cannot tell the format of {file}: end its name in .safetensors or .npz"),
        ("there.npz", "", "{file} is there already: name a new one"),
        ("a.npz", "", "the array model.half is bfloat16, which .npz files cannot hold: export to .safetensors"),
        (
            "a.npz",
            "x.",
            "the checkpoint {path} has no array whose name begins with x.: leave --part out to see all",
        ),
    ],
)
def test_what_cannot_be_exported_is_said(tmp_path: Path, file: str, part: str, message: str) -> None:
    path = checkpoint.save(tmp_path, 1, VALUES, {})
    (tmp_path / "there.npz").touch()
    with pytest.raises(UserError) as caught:
        export(path, tmp_path / file, part)
    assert str(caught.value) == message.format(file=tmp_path / file, path=path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-1", "there.npz"]


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"w": np.ones(4, np.float32)}, {})
    (file,) = (path / "data").iterdir()
    file.write_bytes(b"\1" + file.read_bytes()[1:])
    with pytest.raises(checkpoint.DamagedCheckpoint):
        export(path, tmp_path / "w.safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-1"]


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz"])
def test_an_export_to_where_nothing_can_be_written_is_said(tmp_path: Path, name: str) -> None:
    path = checkpoint.save(tmp_path, 1, {"w": np.ones(4, np.float32)}, {})
    (tmp_path / "file").touch()
    with pytest.raises(WorkFailed) as caught:
        export(path, tmp_path / "file" / name)
    assert str(caught.value) == (
        f"cannot write {tmp_path}/file/{name} (Not a directory): check the disk (or move the run directory to another "
        "one) and run the same command again"
    )


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run" / "checkpoints"
    for step in (9, 10):
        checkpoint.save(folder, step, {"w": np.full(300, step, np.float32)}, {})
    shutil.copytree(OLD, folder / "step-7")

    def said(*arguments: str, code: int = 0) -> str:
        assert main(["checkpoint", *arguments]) == code
        captured = capsys.readouterr()
        return captured.out + captured.err

    lines = said("ls", str(tmp_path / "run")).splitlines()
    assert lines[0].split() == ["checkpoint", "written", "size", "arrays", "format"]
    assert lines[1].split() == ["step-7", "84", "B", "7", "1"]
    assert lines[2].split()[0] == "step-9" and lines[2].split()[-4:] == ["1.2", "KiB", "1", "2"]
    assert lines[3].startswith("step-10     20")
    assert said("verify", str(tmp_path / "run")) == f"{folder}/step-10: whole (1 arrays, 1.2 KiB)\n"
    assert len(said("verify", "--all", str(folder)).splitlines()) == 3
    assert said("digest", str(folder / "step-7")) == OLD_DIGEST + "\n"
    out = tmp_path / "w.npz"
    assert said("export", str(tmp_path / "run"), "-o", str(out)) == f"{out}: 1 arrays of {folder}/step-10\n"
    assert said("convert", str(folder / "step-7"), "-o", str(tmp_path / "new")) == f"{tmp_path}/new/step-7\n"
    shutil.copytree(folder / "step-9", folder / "step-8")
    copied = f"the checkpoint {folder}/step-8 holds the state after step 9: it was copied or renamed; "
    assert [copied in line for line in said("ls", str(folder)).splitlines()] == [False, False, True, False, False]
    verified = said("verify", "--all", str(folder), code=2).splitlines()
    assert len(verified) == 4 and verified[3].startswith(f"error: {copied}")  # the others were verified all the same
    shutil.rmtree(folder / "step-8")
    (folder / "step-10" / "manifest.json").unlink()
    why = "manifest.json cannot be read: No such file or directory"
    assert said("ls", str(folder)).splitlines()[-1].endswith(f"damaged: {why}")
    assert said("verify", str(folder), code=2) == (
        f"error: the checkpoint {folder}/step-10 is damaged ({why}): "
        "it is not used; remove it to resume from the one before it\n"
    )
