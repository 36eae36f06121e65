"""`levanter import`, `levanter train`, `levanter export`: bring a model, train it, take it home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import SMALL, make_folder, random_arrays, rewrite

from levanter.checkpoint import load, read_manifest
from levanter.cli.main import main
from levanter.config import TrainConfig, dump, loads
from levanter.config import load as load_config
from levanter.data.tokenizer import load_tokenizer
from levanter.hf.kept import origin_of
from levanter.hf.safetensors import read_folder
from levanter.hf.starting import starting_model
from levanter.runtime.state import flat_names

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "and", "comes", "back", "again"]


def save_tokenizer(folder: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    vocab = {word: i for i, word in enumerate(["<unk>", "</s>", *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model folder `theirs` and a text."""
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "theirs", dtype="bfloat16")
    save_tokenizer(tmp_path / "theirs")
    (tmp_path / "text.txt").write_text(" ".join(WORDS * 200))
    return tmp_path


pytestmark = pytest.mark.hurried

RUNS = ("first", "second")
SHORT = [
    *("--trainer.train_batch_size", "4", "--trainer.num_train_steps", "2", "--trainer.sample_tokens", "0"),
    *("--data.type", "text", "--data.paths", "[text.txt]", "--data.cache_dir", "cache", "--trainer.eval_batches", "0"),
    *("--model.dropout", "0.0"),
]


def ok(*arguments: str) -> None:
    assert main(list(arguments)) == 0


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 2
    return capsys.readouterr().err.rstrip("\n").removeprefix("error: ")


def config_of(run: str) -> TrainConfig:
    return loads(Path(run, "config.yaml").read_text())


def files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_model_is_imported_trained_and_taken_home(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ok("import", "theirs", "--run-dir", "run")
    assert capsys.readouterr().out == (
        "imported theirs (bfloat16) into run (config.yaml, checkpoints/step-0, hugging_face/)\n"
        "train it with `levanter train --run-dir run`, take it home with `levanter export run FOLDER`\n"
    )
    config = config_of("run")
    assert (config.model.initialize_from, config.data.tokenizer, config.trainer.run_name) == (
        *("theirs", "run/hugging_face", "run"),
    )
    arrays = load(work / "run" / "checkpoints" / "step-0")
    expected = random_arrays(SMALL)
    assert {name.removeprefix("model.") for name in arrays} == expected.keys()
    # The weights are enough: the folder they came from may go.
    (work / "theirs").rename(work / "gone")

    ok("export", "run", "home")
    assert files("home") == files("gone")

    ok("train", "--run-dir", "run", *SHORT)
    record = [json.loads(line) for line in (work / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in record] == [1, 2]
    assert read_manifest(work / "run" / "checkpoints" / "step-2").step == 2
    assert "levanter train --run-dir run-longer" not in capsys.readouterr().out

    ok("export", "run", "trained", "--dtype", "float32", "--max-shard-size", "2KB")
    trained = read_folder(work / "trained")
    start = read_folder(work / "gone")
    assert trained.keys() == start.keys()
    assert not np.array_equal(trained["transformer.ln_f.weight"].view(), start["transformer.ln_f.weight"].view())
    drift = np.abs(trained["transformer.wte.weight"].view() - start["transformer.wte.weight"].view().astype(np.float32))
    assert 0 < drift.max() < 0.1  # two steps from there, and not from random weights
    assert {tensor.dtype.name for tensor in trained.values()} == {"float32"}
    assert len(list((work / "trained").glob("*.safetensors"))) > 1
    assert files("trained")["tokenizer.json"] == files("gone")["tokenizer.json"]


@pytest.mark.slow
def test_initialize_from_reads_sizes_weights_and_tokenizer(work: Path) -> None:
    """The same first loss as from an import: the same weights, over a mesh as on one device."""
    yaml = work / "mine.yaml"
    yaml.write_text("model:\n  initialize_from: theirs\n  seq_len: 8\ntrainer:\n  run_dir: first\n")
    ok("train", "--config", "mine.yaml", *SHORT)
    config: Any = config_of("first")
    assert (config.model.hidden_dim, config.model.seq_len, config.data.tokenizer) == (8, 8, "theirs")
    origin = origin_of(work / "first")
    assert origin is not None and (origin.source, origin.dtype) == ("theirs", "bfloat16")
    ok("import", "theirs", "--run-dir", "second", "--model.seq_len", "8")
    ok("train", "--run-dir", "second", *SHORT, "--mesh", "2x2")
    losses = [json.loads((work / run / "metrics.jsonl").read_text().splitlines()[0])["loss"] for run in RUNS]
    assert abs(losses[0] - losses[1]) < 1e-4
    ok("export", "first", "home")
    assert files("home")["chat_template.jinja"] == files("theirs")["chat_template.jinja"]


def test_initialize_from_takes_the_place_of_the_model_of_a_shipped_config(work: Path) -> None:
    for overrides in (
        ["--model.initialize_from", "theirs", "--model.compute_dtype", "bfloat16"],
        ["--model.compute_dtype", "bfloat16", "--model.initialize_from", "theirs"],
    ):
        config = load_config("gpt2_nano", overrides)
        model: Any = config.model
        assert (model.hidden_dim, model.num_layers, model.seq_len, model.compute_dtype) == (8, 3, 16, "bfloat16")
        assert config.data.tokenizer == "gpt2"  # the shipped config says it
        assert loads(dump(config)) == config


def test_what_is_written_of_the_model_counts(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ok("import", "theirs", "--run-dir", "run", "--model.compute_dtype", "bfloat16", "--optimizer.learning_rate", "1e-5")
    config: Any = config_of("run")
    assert (config.model.compute_dtype, config.optimizer.learning_rate) == ("bfloat16", 1e-5)
    assert said(capsys, "import", "theirs", "--run-dir", "other", "--model.num_layers", "2").startswith(
        "the weights in `theirs` hold `transformer.h.2.attn.c_attn.bias`, "
    )
    assert not Path("other").exists()
    assert said(capsys, "import", "theirs", "--run-dir", "other", "--model.hidden_dims", "2") == (
        "unknown option `--model.hidden_dims`: did you mean `--model.hidden_dim`?"
    )


def test_a_model_of_another_type(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("model:\n  type: llama\n  initialize_from: theirs\n")
    assert said(capsys, "train", "--config", "mine.yaml") == (
        "model.initialize_from: model.type is llama and `theirs` is of type gpt2: leave model.type out, or write gpt2"
    )


def test_a_checkpoint_that_is_not_there(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "import", "./nothing", "--run-dir", "run") == (
        "model.initialize_from: there is no folder `./nothing`: give a Hugging Face model folder, or the id of one on "
        "the hub"
    )


def test_an_import_does_not_write_over_a_run(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ok("import", "theirs", "--run-dir", "run")
    assert said(capsys, "import", "theirs", "--run-dir", "run") == (
        "`run` is a run directory with checkpoints: import into a new one with --run-dir"
    )


@pytest.mark.slow
def test_imported_weights_are_free_to_be_trained_in_any_way_until_they_are(work: Path) -> None:
    ok("import", "theirs", "--run-dir", "run")
    ok("train", "--run-dir", "./run", *SHORT, "--optimizer.learning_rate", "1e-4")
    assert main(["train", "--run-dir", "run", *SHORT, "--optimizer.learning_rate", "1e-3"]) == 2
    (work / "run").rename(work / "moved")
    more = ["--optimizer.learning_rate", "1e-4", "--trainer.num_train_steps", "3"]
    ok("train", "--run-dir", "moved", *SHORT, *more)
    assert config_of("moved").data.tokenizer == "moved/hugging_face"


def test_a_damaged_import_is_not_trained(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ok("import", "theirs", "--run-dir", "run")
    blocks = sorted((work / "run" / "checkpoints" / "step-0" / "data").iterdir())
    blocks[0].write_bytes(b"")
    assert "the checkpoint run/checkpoints/step-0 is damaged" in said(capsys, "train", "--run-dir", "run", *SHORT)


def test_a_run_of_ones_own_is_exported_with_its_tokenizer(work: Path) -> None:
    sizes = ["--model.hidden_dim", "8", "--model.num_layers", "1", "--model.seq_len", "16", "--model.num_heads", "2"]
    ok("train", "--model", "gpt2_nano", *sizes, *SHORT, "--run-dir", "run")
    ok("export", "run", "home")
    home = files("home")
    assert sorted(home) == [
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    ]
    config = json.loads(home["config.json"])
    assert (config["dtype"], config["eos_token_id"], config["vocab_size"]) == ("float32", 50256, 50257)
    assert json.loads(home["generation_config.json"]) == {"bos_token_id": 50256, "eos_token_id": 50256}
    again = load_tokenizer("home")
    text = "  tabs\t\n\n é 日本語 😀 it's  I'LL <|endoftext|> x\r\n"
    assert again.encode(text) == load_tokenizer("gpt2").encode(text)
    ok("import", "home", "--run-dir", "again")
    ours, theirs = (load(work / run / "checkpoints" / step) for run, step in (("run", "step-2"), ("again", "step-0")))
    for name, array in theirs.items():
        rows = slice(0, 50257)  # what the vocabulary was rounded up by is random in a run of one's own
        np.testing.assert_array_equal(np.asarray(array)[rows], np.asarray(ours[name])[rows])


def test_a_dtype_of_its_own_comes_home(work: Path) -> None:
    def widen(arrays: dict[str, np.ndarray]) -> None:
        arrays["transformer.ln_f.weight"] = arrays["transformer.ln_f.weight"].astype(np.float32)

    rewrite(work / "theirs", widen)
    ok("import", "theirs", "--run-dir", "run")
    origin = origin_of(work / "run")
    assert origin is not None and origin.other_dtypes == {"transformer.ln_f.weight": "float32"}
    ok("export", "run", "home")
    assert files("home") == files("theirs")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["export", "nothing", "home"],
            "`nothing` is not a run directory (it has no config.yaml): give the --run-dir of a run",
        ),
        (
            ["export", "run", "home", "--max-shard-size", "big"],
            "--max-shard-size big: write a number of bytes, such as 5GB or 500MB",
        ),
        (["export", "run", "theirs"], "`theirs` is there and not empty: export to a new folder"),
    ],
)
def test_what_an_export_refuses(
    arguments: list[str], message: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ok("import", "theirs", "--run-dir", "run")
    assert said(capsys, *arguments) == message


def test_weights_of_another_model_in_the_run_directory(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ok("import", "theirs", "--run-dir", "run")
    assert "does not fit this model" in said(capsys, "train", "--run-dir", "run", *SHORT, "--model.seq_len", "8")


def test_a_run_that_starts_from_nothing_has_no_starting_model(work: Path) -> None:
    assert starting_model(TrainConfig(model=SMALL), work / "run", None) is None
    assert flat_names(starting_model(TrainConfig(model=SMALL), work, None) or {}) == {}


def test_a_model_that_is_no_language_model_is_not_imported(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import jax

    from levanter.hf import export_model
    from levanter.models.vit.config import VitConfig

    config = VitConfig(image_size=4, patch_size=2, hidden_dim=4, intermediate_dim=4, num_layers=1, num_heads=1)
    model = config.build(key=jax.random.key(0))
    export_model(work / "vit", config, flat_names(model), model)
    assert said(capsys, "import", "vit", "--run-dir", "run") == (
        "model.initialize_from: `vit` is of type vit, which is not a language model, and a run trains those: read it "
        "with levanter.hf.import_model, and train it by a step of your own (docs/models.md shows how)"
    )
