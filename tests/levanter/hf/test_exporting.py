"""A model becomes a folder: the same bytes that were imported, the fields of config.json, and the way back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from folders import COMPANIONS, SMALL, make_folder, random_arrays, set_config, shape_of

from levanter.errors import UserError
from levanter.hf.exporting import export_model, hf_config
from levanter.hf.folder import open_folder
from levanter.hf.importing import import_model, read_arrays
from levanter.hf.safetensors import read_folder
from levanter.models.gpt2.config import Gpt2Config
from levanter.runtime.state import flat_names


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("size", [50_000_000, 3000], ids=["one file", "several"])
def test_import_and_export_leave_every_file_as_it_was(dtype: str, size: int, tmp_path: Path) -> None:
    make_folder(tmp_path / "a", dtype=dtype, max_shard_bytes=size)
    folder = open_folder(str(tmp_path / "a"))
    config = folder.model_config()
    like = shape_of(config)
    companions = {path.name: path.read_bytes() for path in folder.companions()}
    on_devices = flat_names(import_model(folder, config, like))
    for name, arrays in (("b", on_devices), ("c", read_arrays(folder, config, like))):
        export_model(tmp_path / name, config, arrays, like, dtype=dtype, companions=companions, max_shard_bytes=size)
        files = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        assert files == {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert {tensor.dtype.name for tensor in read_folder(tmp_path / "b").values()} == {dtype}
    assert (len(list((tmp_path / "b").glob("*.safetensors"))) > 1) == (size == 3000)


def test_a_tensor_may_have_a_dtype_of_its_own(tmp_path: Path) -> None:
    export_model(
        tmp_path / "m",
        SMALL,
        random_arrays(SMALL),
        shape_of(SMALL),
        dtype="bfloat16",
        other_dtypes={"transformer.ln_f.weight": "float32"},
    )
    dtypes = {name: tensor.dtype.name for name, tensor in read_folder(tmp_path / "m").items()}
    assert {name for name, dtype in dtypes.items() if dtype == "float32"} == {"transformer.ln_f.weight"}


def test_padding_of_the_vocabulary_stays_at_home(tmp_path: Path) -> None:
    arrays = random_arrays(SMALL)
    arrays["embeddings.tokens.weight"][SMALL.vocab_size :] = 7
    export_model(tmp_path / "m", SMALL, arrays, shape_of(SMALL))
    tokens = read_folder(tmp_path / "m")["transformer.wte.weight"].view()
    assert tokens.shape == (50, 8)
    np.testing.assert_array_equal(tokens, arrays["embeddings.tokens.weight"][:50])


def test_config_json_keeps_what_ours_has_no_place_for() -> None:
    before = {
        **{"model_type": "gpt2", "torch_dtype": "float16", "summary_type": "cls_index", "n_layer": 12},
        **{"eos_token_id": 50256, "architectures": ["GPT2Model"]},
    }
    config = hf_config(SMALL, "bfloat16", before)
    assert "torch_dtype" not in config
    assert {name: config[name] for name in ("n_layer", "dtype", "summary_type", "eos_token_id", "architectures")} == {
        "n_layer": 3,
        "dtype": "bfloat16",
        "summary_type": "cls_index",
        "eos_token_id": 50256,
        "architectures": ["GPT2LMHeadModel"],
    }
    again = type(SMALL).hf()
    assert again is not None
    assert dataclasses.replace(again.config_from_hf(config), vocab_multiple=16) == SMALL


@pytest.mark.parametrize("change", [{"mlp_scale": 3}, {"tie_word_embeddings": False}, {"dropout": 0.25}])
def test_a_config_survives_the_way_out_and_back(change: dict[str, object]) -> None:
    config = Gpt2Config(**{"hidden_dim": 24, "num_heads": 3, "num_layers": 2, **change})
    family = Gpt2Config.hf()
    assert family is not None
    assert family.config_from_hf(json.loads(json.dumps(hf_config(config, "float32", {})))) == config


def test_a_folder_that_holds_something_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "notes.txt").write_text("mine")
    with pytest.raises(UserError) as caught:
        make_folder(tmp_path / "m")
    assert str(caught.value) == f"`{tmp_path}/m` is there and not empty: export to a new folder"
    (tmp_path / "empty").mkdir()
    make_folder(tmp_path / "empty")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught:
        make_folder(tmp_path / "file" / "m")
    assert str(caught.value) == f"cannot write the folder `{tmp_path}/file/m`: Not a directory; choose another one"


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    arrays = random_arrays(SMALL)
    del arrays["final_norm.bias"]
    with pytest.raises(KeyError):
        export_model(tmp_path / "m", SMALL, arrays, shape_of(SMALL))
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gpt2Config, "hf", lambda: None)
    with pytest.raises(UserError) as caught:
        make_folder(tmp_path / "m")
    assert str(caught.value) == (
        "the model Gpt2Config has no Hugging Face table: write FAMILY in an hf.py beside its config "
        "(docs/hugging_face.md shows one)"
    )


def test_companions_travel(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    (tmp_path / "m" / "README.md").write_text("not ours to carry")
    (tmp_path / "m" / "pytorch_model.bin").write_text("nor this")
    set_config(tmp_path / "m", something_of_theirs=2)
    folder = open_folder(str(tmp_path / "m"))
    assert [path.name for path in folder.companions()] == sorted(COMPANIONS)
    assert folder.has_tokenizer
