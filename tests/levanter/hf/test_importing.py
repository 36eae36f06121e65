"""A model folder becomes arrays: where each value goes, on which device, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from folders import SMALL, make_folder, random_arrays, rewrite, set_config, shape_of
from jax.sharding import NamedSharding, PartitionSpec

from levanter.compiler.compile import compile_training
from levanter.config.schema import TrainConfig
from levanter.errors import UserError
from levanter.hf import family as families
from levanter.hf.folder import open_folder
from levanter.hf.importing import import_model, matched, read_arrays
from levanter.models.gpt2.config import Gpt2Config
from levanter.runtime.config import TrainerConfig
from levanter.runtime.state import flat_names, state_shape

UNTIED = dataclasses.replace(SMALL, tie_word_embeddings=False)


def imported(path: Path, config: Any = None, shardings: Any = None) -> dict[str, jax.Array]:
    folder = open_folder(str(path))
    config = config or folder.model_config()
    return flat_names(import_model(folder, config, shape_of(config), shardings))


def refused(path: Path, config: Any = None) -> str:
    with pytest.raises(UserError) as caught:
        imported(path, config)
    return str(caught.value)


@pytest.mark.parametrize("options", [{}, {"max_shard_bytes": 2000}], ids=["one file", "several"])
@pytest.mark.parametrize("config", [SMALL, UNTIED], ids=["tied", "untied"])
def test_every_value_comes_back(config: Gpt2Config, options: dict[str, Any], tmp_path: Path) -> None:
    make_folder(tmp_path / "m", config, **options)
    found = open_folder(str(tmp_path / "m")).model_config()
    assert found == dataclasses.replace(
        config, initialize_from=str(tmp_path / "m"), vocab_multiple=found.vocab_multiple
    )
    arrays = imported(tmp_path / "m", config)
    expected = random_arrays(config)
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(array), expected[name], err_msg=name)


def test_a_tensor_lies_where_its_layout_says(tmp_path: Path) -> None:
    """Against a reading by hand: a matrix of the file is [in, out], with queries, keys and values side by side."""
    make_folder(tmp_path / "m")
    tensors = {}
    rewrite(tmp_path / "m", lambda arrays: tensors.update(arrays))
    qkv = np.asarray(imported(tmp_path / "m")["blocks.attention.qkv.weight"])  # [layers, embed, qkv, heads, head_size]
    by_hand = tensors["transformer.h.2.attn.c_attn.weight"][:, 8:16]  # the keys of the last layer
    np.testing.assert_array_equal(qkv[2, :, 1].reshape(8, 8), by_hand)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_read(dtype: str, tmp_path: Path) -> None:
    from levanter.hf.exporting import DTYPES

    make_folder(tmp_path / "m", dtype=dtype)
    for name, array in imported(tmp_path / "m", SMALL).items():
        rounded = random_arrays(SMALL)[name].astype(DTYPES[dtype]).astype(np.float32)
        np.testing.assert_array_equal(np.asarray(array), rounded, err_msg=name)


def test_every_device_is_given_its_own_shards(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    config = TrainConfig(model=SMALL, trainer=TrainerConfig(train_batch_size=8, mesh="4x2"))
    shardings = compile_training(config).state_shardings.model
    arrays = imported(tmp_path / "m", SMALL, shardings)
    expected = random_arrays(SMALL)
    for name, sharding in flat_names(shardings).items():
        assert arrays[name].sharding.is_equivalent_to(sharding, arrays[name].ndim)
        np.testing.assert_array_equal(np.asarray(arrays[name]), expected[name], err_msg=name)


def test_a_shard_reads_only_the_tensors_that_it_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process asks for what its own devices need: here, of the layers, the one of the first device."""
    from levanter.hf import importing
    from levanter.hf.safetensors import Tensor

    make_folder(tmp_path / "m")
    seen: list[str] = []
    view = Tensor.view

    def watched(self: Tensor, **options: Any) -> np.ndarray:
        seen.append(self.name)
        return view(self, **options)

    monkeypatch.setattr(Tensor, "view", watched)
    folder = open_folder(str(tmp_path / "m"))
    table, tensors = matched(folder, SMALL, shape_of(SMALL))
    part = (slice(1, 2), slice(0, 8), slice(4, 24))
    read = importing.read_part(table.of("blocks.mlp.up.weight"), tensors, part, np.dtype(np.float32))
    assert seen == ["transformer.h.1.mlp.c_fc.weight"]
    np.testing.assert_array_equal(read, random_arrays(SMALL)["blocks.mlp.up.weight"][part])


def test_uneven_parts_and_the_padding_of_the_vocabulary(tmp_path: Path) -> None:
    """50 tokens on an axis of 64 over 8 devices: the seventh has two of them, the eighth none."""
    make_folder(tmp_path / "m")
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    over = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    like = shape_of(SMALL)
    shardings = jax.tree.map(lambda leaf: over if leaf.shape[:1] == (64,) else whole, like)
    tokens = imported(tmp_path / "m", SMALL, shardings)["embeddings.tokens.weight"]
    assert {shard.data.shape for shard in tokens.addressable_shards} == {(8, 8)}
    assert not np.asarray(tokens)[50:].any() and np.asarray(tokens)[49].any()
    np.testing.assert_array_equal(np.asarray(tokens), random_arrays(SMALL)["embeddings.tokens.weight"])


def test_arrays_one_by_one_are_the_same(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    arrays = read_arrays(open_folder(str(tmp_path / "m")), SMALL, shape_of(SMALL))
    assert len(arrays) == len(list(arrays)) == len(random_arrays(SMALL))
    for name, expected in random_arrays(SMALL).items():
        np.testing.assert_array_equal(arrays[name], expected)


# --- what other writers do ---


def test_names_without_the_prefix_of_the_base_model(tmp_path: Path) -> None:
    """As the first GPT-2 on the hub has them, with the masks of its attention among them."""
    make_folder(tmp_path / "m", UNTIED)

    def strip(arrays: dict[str, np.ndarray]) -> None:
        for name in list(arrays):
            arrays[name.removeprefix("transformer.")] = arrays.pop(name)
        for layer in range(3):
            arrays[f"h.{layer}.attn.bias"] = np.ones((1, 1, 16, 16), np.float32)
            arrays[f"h.{layer}.attn.masked_bias"] = np.asarray(-1e4, np.float32)

    rewrite(tmp_path / "m", strip)
    arrays = imported(tmp_path / "m", UNTIED)
    for name, expected in random_arrays(UNTIED).items():
        np.testing.assert_array_equal(np.asarray(arrays[name]), expected)


def test_a_tied_head_may_be_in_the_file_if_it_is_the_embedding(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    rewrite(tmp_path / "m", lambda arrays: arrays.update({"lm_head.weight": arrays["transformer.wte.weight"]}))
    assert "head" not in imported(tmp_path / "m")

    def alter(arrays: dict[str, np.ndarray]) -> None:
        arrays["lm_head.weight"] = arrays["lm_head.weight"].copy()
        arrays["lm_head.weight"][-1, -1] += 1e-6

    rewrite(tmp_path / "m", alter)
    assert refused(tmp_path / "m") == (
        f"`lm_head.weight` in `{tmp_path}/m` differs from `transformer.wte.weight`, and config.json says that they are "
        'tied: one of the two would be lost; set "tie_word_embeddings": false in config.json to load both, or remove '
        "the tensor"
    )
    set_config(tmp_path / "m", tie_word_embeddings=False)
    assert not np.array_equal(*(imported(tmp_path / "m")[name] for name in ("head", "embeddings.tokens.weight")))


def test_the_first_positions_are_those_of_a_shorter_model(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    short = dataclasses.replace(SMALL, seq_len=4)
    positions = np.asarray(imported(tmp_path / "m", short)["embeddings.positions.weight"])
    np.testing.assert_array_equal(positions, random_arrays(SMALL)["embeddings.positions.weight"][:4])


# --- what is refused ---


def test_a_missing_tensor_is_named_with_the_nearest(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    rewrite(
        tmp_path / "m", lambda arrays: arrays.update({"transformer.ln_x.weight": arrays.pop("transformer.ln_f.weight")})
    )
    assert refused(tmp_path / "m") == (
        f"the weights in `{tmp_path}/m` lack `transformer.ln_f.weight`; the nearest name in it is "
        "`transformer.ln_x.weight`: check that config.json belongs to these weights"
    )


def test_many_missing_tensors_are_counted(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    set_config(tmp_path / "m", n_layer=4)
    assert refused(tmp_path / "m") == (
        f"the weights in `{tmp_path}/m` lack `transformer.h.3.ln_1.weight`, `transformer.h.3.ln_1.bias`, "
        "`transformer.h.3.attn.c_attn.weight`, `transformer.h.3.attn.c_attn.bias`, "
        "`transformer.h.3.attn.c_proj.weight` and 7 more: check that config.json belongs to these weights"
    )


def test_a_missing_head_says_that_it_may_be_tied(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    set_config(tmp_path / "m", tie_word_embeddings=False)
    assert refused(tmp_path / "m") == (
        f"the weights in `{tmp_path}/m` lack `lm_head.weight` and config.json says that it is not tied: if it is the "
        'same as `transformer.wte.weight`, set "tie_word_embeddings": true in config.json; otherwise download the '
        "weights again"
    )


def test_extra_tensors_are_not_lost_without_a_word(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    rewrite(tmp_path / "m", lambda arrays: arrays.update({"score.weight": np.zeros(3, np.float32)}))
    assert refused(tmp_path / "m") == (
        f"the weights in `{tmp_path}/m` hold `score.weight`, for which the model has no place: they would be lost, so "
        "it is not loaded; check that config.json belongs to these weights"
    )


def test_a_wrong_shape_says_both(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    set_config(tmp_path / "m", n_inner=16)
    assert refused(tmp_path / "m") == (
        f"`transformer.h.0.mlp.c_fc.weight` in `{tmp_path}/m` is [8, 32] and model.blocks.mlp.up.weight needs [8, 16] "
        "(embed mlp): leave the sizes of the model to config.json, and check that it belongs to these weights"
    )
    longer = dataclasses.replace(SMALL, seq_len=17)
    set_config(tmp_path / "m", n_inner=None)
    assert refused(tmp_path / "m", longer).startswith(
        f"`transformer.wpe.weight` in `{tmp_path}/m` is [16, 8] and model.embeddings.positions.weight needs [17, 8]"
    )


def test_a_model_type_that_is_not_known(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    set_config(tmp_path / "m", model_type="gpt3")
    known = sorted(name for family in families.families() for name in family.model_types)
    assert "gpt2" in known
    assert refused(tmp_path / "m") == (
        f"{tmp_path}/m/config.json has model_type `gpt3`, which is not a family of this library: use one of "
        f"{', '.join(known)}; did you mean `gpt2`?"
    )
    set_config(tmp_path / "m", model_type=...)
    assert refused(tmp_path / "m") == (
        f"{tmp_path}/m/config.json has model_type `None`, which is not a family of this library: use one of "
        f"{', '.join(known)}"
    )


@pytest.mark.parametrize(
    ("field", "value", "able"),
    [
        ("scale_attn_by_inverse_layer_idx", True, "false"),
        ("scale_attn_weights", False, "true"),
        ("activation_function", "relu", '"gelu_new" or "gelu_pytorch_tanh"'),
        ("add_cross_attention", True, "false"),
        ("n_inner", 20, "null or 32"),
    ],
)
def test_what_the_model_cannot_compute_is_refused(field: str, value: object, able: str, tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    set_config(tmp_path / "m", **{field: value})
    assert refused(tmp_path / "m") == (
        f"config.json has `{field}`: {json.dumps(value)}, and this library's `gpt2` computes {able} only: its results "
        "would differ, so it is not loaded; use a checkpoint without it"
    )


def test_a_field_that_a_model_is_made_from(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    set_config(tmp_path / "m", n_head=...)
    assert refused(tmp_path / "m") == (
        "config.json has no `n_head`, which a model of type `gpt2` is made from: put back the config.json that belongs "
        "to the weights"
    )


def test_quantized_weights(tmp_path: Path) -> None:
    make_folder(tmp_path / "m")
    set_config(tmp_path / "m", quantization_config={"quant_method": "gptq"})
    assert refused(tmp_path / "m") == (
        f"the weights in `{tmp_path}/m` are quantized (gptq) and those of full precision are read: use the checkpoint "
        "that it was made from, or write it again after `model.dequantize()` of transformers"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "config.json").unlink(),
            "`{folder}` has no config.json (it holds chat_template.jinja, generation_config.json, model.safetensors, "
            "tokenizer.json, tokenizer_config.json): give the folder that `save_pretrained` wrote, or that was "
            "downloaded from the hub",
        ),
        (
            lambda folder: (folder / "config.json").write_text("[]"),
            "`{folder}/config.json` is not the JSON that it should be: it is not an object; put back the file of this "
            "model",
        ),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "`{folder}` has no *.safetensors (it holds chat_template.jinja, config.json, generation_config.json, "
            "pytorch_model.bin, tokenizer.json and 1 more): write them once with transformers: "
            "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)",
        ),
    ],
)
def test_a_folder_that_is_not_whole(change: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m")
    change(folder)
    assert refused(folder) == message.format(folder=folder)


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    assert refused(tmp_path).startswith(f"`{tmp_path}` has no config.json (it is empty): ")


@pytest.mark.parametrize("name", ["./nothing", "/no/such/folder", "a/b/c", "~/nothing-there"])
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError) as caught:
        open_folder(name)
    assert str(caught.value) == (
        f"there is no folder `{name}`: give a Hugging Face model folder, or the id of one on the hub"
    )


def test_an_id_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def fails(*_: object, **__: object) -> str:
        raise OSError("no network.\nmore of it")

    monkeypatch.setattr(hub, "snapshot_download", fails)
    with pytest.raises(UserError) as caught:
        open_folder("some/model")
    assert str(caught.value) == (
        "cannot download `some/model` from the Hugging Face hub: no network; check the id and the network, or give a "
        "folder that has config.json and *.safetensors"
    )


def test_a_downloaded_id_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    make_folder(tmp_path / "m")
    asked: dict[str, Any] = {}

    def download(name: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.update(name=name, patterns=allow_patterns, ignored=ignore_patterns)
        return str(tmp_path / "m")

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert open_folder("some/model").model_config().initialize_from == "some/model"
    assert asked["name"] == "some/model" and "*.safetensors" in asked["patterns"] and "*.bin" not in asked["patterns"]
    assert "consolidated*" in asked["ignored"]


def test_a_table_that_does_not_fit_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "m")
    family = type(SMALL).hf()
    assert family is not None
    weight = families.Weight
    wrong = [
        *(each for each in family.weights(SMALL) if not each.path.startswith("final_norm")),
        weight("final_norm.weight", "transformer.ln_f.weight", "mlp"),
        weight("final_norm.scale", "transformer.ln_f.bias", "embed"),
    ]
    monkeypatch.setattr(Gpt2Config, "hf", lambda: dataclasses.replace(family, weights=lambda config: wrong))
    assert refused(tmp_path / "m", SMALL) == (
        "the Hugging Face table of Gpt2Config does not fit its model: `final_norm.weight` has the axes embed and the "
        "table mlp; the model has no `final_norm.scale`"
    )
    monkeypatch.setattr(Gpt2Config, "hf", lambda: dataclasses.replace(family, weights=lambda config: wrong[:-2]))
    assert refused(tmp_path / "m", SMALL) == (
        "the Hugging Face table of Gpt2Config does not fit its model: nothing fills `final_norm.weight`; nothing fills "
        "`final_norm.bias`"
    )


def test_the_state_of_a_run_takes_its_weights(tmp_path: Path) -> None:
    """The optimizer's moments are those of a new run."""
    from levanter.runtime.state import init_state

    make_folder(tmp_path / "m")
    config = TrainConfig(model=SMALL)
    folder = open_folder(str(tmp_path / "m"))
    fresh = flat_names(init_state(config))
    state = flat_names(init_state(config, model=import_model(folder, SMALL, state_shape(config).model)))
    assert state.keys() == fresh.keys()
    expected = random_arrays(SMALL)
    for name, array in state.items():
        wanted = expected[name.removeprefix("model.")] if name.startswith("model.") else fresh[name]
        np.testing.assert_array_equal(np.asarray(array), np.asarray(wanted), err_msg=name)
