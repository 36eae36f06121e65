"""Our safetensors files are those of the reference library, to the byte, and torn ones are refused in words."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from levanter.errors import UserError
from levanter.hf.safetensors import INDEX, Spec, create_file, create_folder, read_folder, read_header

ARRAYS = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.weight": np.arange(4).astype(ml_dtypes.bfloat16),
    "a.half": np.arange(3).astype(np.float16),
    "ids": np.arange(3, dtype=np.int64),
    "wide": np.arange(2, dtype=np.float64),
    "count": np.asarray(7, np.int32),
    "flags": np.asarray([True, False, True]),
    "bytes": np.arange(5, dtype=np.uint8),
    "signed": np.arange(5, dtype=np.int8),
    "short": np.arange(3, dtype=np.int16),
    "none": np.zeros((0, 4), np.float32),
    "ключ": np.ones(2, np.float32),
}


def specs(arrays: dict[str, np.ndarray]) -> dict[str, Spec]:
    return {name: Spec(array.dtype, array.shape) for name, array in arrays.items()}


def written(file: Path, arrays: dict[str, np.ndarray]) -> bytes:
    for name, tensor in create_file(file, specs(arrays)).items():
        tensor.view(write=True)[...] = arrays[name]
    return file.read_bytes()


def test_the_bytes_are_those_of_the_reference_library(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(ARRAYS, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert written(tmp_path / "ours.safetensors", ARRAYS) == (tmp_path / "theirs.safetensors").read_bytes()


def test_values_come_back_and_the_reference_library_reads_them(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    written(tmp_path / "model.safetensors", ARRAYS)
    theirs = numpy.load_file(tmp_path / "model.safetensors")
    found = read_folder(tmp_path)
    assert found.keys() == theirs.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        view = found[name].view()
        assert (view.dtype, view.shape) == (array.dtype, array.shape)
        assert view.tobytes() == array.tobytes() == theirs[name].tobytes()


def test_files_are_cut_at_the_size_asked_for(tmp_path: Path) -> None:
    arrays = {name: np.full(count, count, np.float32) for name, count in (("a", 10), ("b", 10), ("c", 30), ("d", 5))}
    for name, tensor in create_folder(tmp_path, specs(arrays), max_shard_bytes=80).items():
        tensor.view(write=True)[...] = arrays[name]
    index = json.loads((tmp_path / INDEX).read_text())
    assert index == {
        "metadata": {"total_parameters": 55, "total_size": 220},
        "weight_map": {
            "a": "model-00002-of-00003.safetensors",
            "b": "model-00002-of-00003.safetensors",
            "c": "model-00001-of-00003.safetensors",
            "d": "model-00003-of-00003.safetensors",
        },
    }
    assert {name: tensor.view().tolist() for name, tensor in read_folder(tmp_path).items()} == {
        name: array.tolist() for name, array in arrays.items()
    }


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    arrays = {name: np.zeros(10, np.float32) for name in "ab"}
    create_folder(tmp_path, specs(arrays), max_shard_bytes=40)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError) as caught:
        read_folder(tmp_path)
    assert str(caught.value) == (
        f"`{tmp_path}/model-00002-of-00002.safetensors` is missing and model.safetensors.index.json names it: "
        "download the file again"
    )


def test_an_index_that_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text("[]")
    with pytest.raises(UserError) as caught:
        read_folder(tmp_path)
    assert str(caught.value) == (
        f"`{tmp_path}/{INDEX}` is not the JSON that it should be: TypeError: list indices must be integers or slices, "
        "not str; put back the file of this model"
    )


def header(entry: object) -> bytes:
    content = json.dumps({"x": entry}).encode()
    return struct.pack("<Q", len(content)) + content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "its header does not fit in it"),
        (b"x" * 40, "its header does not fit in it"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "it is a pointer of git-lfs (`git lfs pull` fetches what it points to)",
        ),
        (struct.pack("<Q", 4) + b"{]}}", "its header is damaged"),
        (header({"dtype": "F32", "shape": [2]}), "its header is damaged"),
        (header({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}) + bytes(7), "the bytes of `x` are cut off"),
        (header({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}) + bytes(8), "the bytes of `x` are cut off"),
    ],
)
def test_a_torn_file_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_header(file)
    assert str(caught.value) == f"`{file}` is not a whole safetensors file: {reason}; download or write it again"


def test_a_dtype_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(header({"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}) + bytes(2))
    with pytest.raises(UserError) as caught:
        read_header(file)
    assert str(caught.value) == (
        f"`x` in {file} has dtype F8_E4M3 and F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL can be read: convert "
        "it, with transformers: AutoModelForCausalLM.from_pretrained(FOLDER, dtype='bfloat16')"
        ".save_pretrained(NEW_FOLDER)"
    )


def test_only_what_is_touched_is_read(tmp_path: Path) -> None:
    tensor = create_file(tmp_path / "model.safetensors", {"x": Spec(np.dtype(np.float32), (1 << 28,))})["x"]
    assert tensor.view()[-1] == 0.0  # a gigabyte that takes no room on the disk and none in memory
    assert (tmp_path / "model.safetensors").stat().st_blocks * 512 < 1 << 20
