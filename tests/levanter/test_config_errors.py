"""What a person reads when a configuration is wrong, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from levanter import config
from levanter.errors import UserError


def message(file: Path | str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        config.load(file, overrides, options=["model", "run-dir"])
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write `c.yaml` (or another file) in a new working directory and give its path."""
    monkeypatch.chdir(tmp_path)

    def writer(text: str | bytes, name: str = "c.yaml") -> Path:
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return Path(name)

    return writer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "optimizer:\n  learning_rat: 1\n",
            "unknown key `optimizer.learning_rat` (c.yaml:2): did you mean `optimizer.learning_rate`?",
        ),
        ("optimiser:\n  beta1: 1\n", "unknown key `optimiser` (c.yaml:1): did you mean `optimizer`?"),
        ("seed: 1\n", "unknown key `seed` (c.yaml:1): did you mean `trainer.seed`?"),
        ("xyzzy: 1\n", "unknown key `xyzzy` (c.yaml:1): known: adapter, data, model, optimizer, trackers, trainer"),
        (
            "optimizer.beta1: 1\n",
            "unknown key `optimizer.beta1` (c.yaml:1): "
            "in a file keys are nested: write `optimizer:` and the rest below it",
        ),
        (
            "data:\n  type: text\n  name: x\n  id: y\n",
            "unknown key `data.name` (c.yaml:3): it is a field of type `hf`, and this section is of type `text`",
        ),
        (
            "data:\n  type: jsonl\n  text_column: x\n",
            "unknown key `data.text_column` (c.yaml:3): did you mean `data.column`?",
        ),
        ("model:\n  type: gtp2\n", "unknown value `gtp2` for `model.type` (c.yaml:2): did you mean `gpt2`?"),
        (
            "optimizer:\n  beta1: high\n",
            "bad value for `optimizer.beta1` (c.yaml:2): expected a number, such as 0.9, got `high`",
        ),
        (
            "trainer:\n  seed: 1.5\n",
            "bad value for `trainer.seed` (c.yaml:2): expected a whole number, such as 0, got `1.5`",
        ),
        (
            "trainer:\n  seed: true\n",
            "bad value for `trainer.seed` (c.yaml:2): expected a whole number, such as 0, got `true`",
        ),
        (
            "model:\n  tie_word_embeddings: yes\n",
            "bad value for `model.tie_word_embeddings` (c.yaml:2): expected true or false, got `yes`",
        ),
        (
            "trainer:\n  seed:\n",
            "bad value for `trainer.seed` (c.yaml:2): expected a whole number, such as 0, got `null`",
        ),
        (
            "optimizer:\n  beta1: .nan\n",
            "optimizer.beta1 is nan: it must be a finite number (set in c.yaml:2)",
        ),
        (
            "data:\n  type: text\n  paths: a.txt\n",
            "bad value for `data.paths` (c.yaml:3): expected a list such as [first, second], got `a.txt`",
        ),
        (
            "data:\n  type: text\n  paths: [[a.txt]]\n",
            "bad value for `data.paths.0` (c.yaml:3): expected text, got `[a.txt]`",
        ),
        ("model:\n  type: [gpt2]\n", "unknown value `['gpt2']` for `model.type` (c.yaml:2): did you mean `gpt2`?"),
        ("model: 3\n", "bad value for `model` (c.yaml:1): expected a section of keys and values, got `3`"),
        (
            "trainer:\n  mesh: 4y2\n",
            "trainer.mesh: bad mesh `4y2`: "
            "write 8 (data), 4x2 (data, model), 2x4x2 (replica, data, model), 2x16x4x4 (replica, data, sequence, "
            "model), or name the axes: data=4,model=2 (set in c.yaml:2)",
        ),
        (
            "trainer:\n  hardware: v5x\n",
            "trainer.hardware: hardware 'v5x': known are v4, v5e, v5p, v6e, a100, h100, h200; did you mean 'v5p'? "
            "(set in c.yaml:2)",
        ),
        ("trainer:\n  seed: -1\n", "trainer.seed is -1: it must be at least 0 (set in c.yaml:2)"),
        (
            "trainer:\n  run_name: ''\n",
            "`trainer.run_name` (c.yaml:2) is empty: give it a value, write null, or leave it out",
        ),
        (
            "trainer:\n  seed: 1\n  mesh: 4\n  seed: 2\n",
            "key `trainer.seed` is given twice (c.yaml:4, first at line 2): remove one of them",
        ),
        ("model: {a: 1\n", "not valid YAML (c.yaml:2): expected ',' or '}', but got '<stream end>'"),
        ("a: b: c\n", "not valid YAML (c.yaml:1): mapping values are not allowed here"),
        ("\ta: 1\n", "not valid YAML (c.yaml:1): found character '\\t' that cannot start any token"),
        ("a: !!python/name:os.system\n", None),
        ("a: 1\n---\nb: 2\n", "not valid YAML (c.yaml:2): but found another document"),
        ("- a\n- b\n", "config file `c.yaml` does not hold keys and values: write lines such as `model:`"),
        ("a: &a\n  b: *a\n", "a YAML alias refers to itself (c.yaml:1): write the value out"),
        (
            "extends: [a]\n",
            "`extends` is not a file name (c.yaml:1): write `extends: other.yaml`, a path beside this file",
        ),
        ("extends: d.yaml\n", "no config file `d.yaml` (c.yaml:1): did you mean `c.yaml`?"),
        ("extends: c.yaml\n", "`extends` goes in a circle (c.yaml -> c.yaml): remove one of them"),
        (b"a: \xff\n", "cannot read config file `c.yaml`: it is not UTF-8 text"),
    ],
)
def test_a_wrong_file(write, text: str | bytes, expected: str | None) -> None:
    found = message(write(text))
    assert expected is None or found == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("--optimizer.learning_rat 1", "unknown option `--optimizer.learning_rat`: "
         "did you mean `--optimizer.learning_rate`?"),
        ("--learning_rate 1", "unknown option `--learning_rate`: did you mean `--optimizer.learning_rate`?"),
        ("--mode x", "unknown option `--mode`: did you mean `--model`?"),
        ("--rundir x", "unknown option `--rundir`: did you mean `--run-dir`?"),
        ("--zzz.q 3", "unknown option `--zzz`: known: adapter, data, model, optimizer, trackers, trainer"),
        ("--trainer.num-train-steps 3", "unknown option `--trainer.num-train-steps`: "
         "did you mean `--trainer.num_train_steps`?"),
        ("--optimizer.beta1 high", "bad value for `--optimizer.beta1`: expected a number, such as 0.9, got `high`"),
        ("--data.type csv", "unknown value `csv` for `--data.type`: "
         "known: chat, hf, jsonl, mixture, parquet, sotu, text"),
        ("--trainer.seed", "option `--trainer.seed` has no value: "
         "write `--trainer.seed VALUE` or `--trainer.seed=VALUE`"),
        ("--trainer.seed --trainer.mesh 8", "option `--trainer.seed` has no value: "
         "write `--trainer.seed VALUE` or `--trainer.seed=VALUE`"),
        ("seed", "unexpected argument `seed`: a field is set as `--section.field VALUE`"),
        ("--trainer.seed -1", "trainer.seed is -1: it must be at least 0"),
        ("--trainer.run_dir=", "`--trainer.run_dir` is empty: give it a value, write null, or leave it out"),
        ("--data.tokenizer=", "`--data.tokenizer` is empty: give it a value, or leave it out"),
    ],
)  # fmt: skip
def test_a_wrong_override(overrides: str, expected: str) -> None:
    assert message("gpt2_nano", *overrides.split()) == expected


def test_an_unknown_model() -> None:
    assert message("gpt2_nan") == "unknown model `gpt2_nan`: did you mean `gpt2_nano`? (`--config PATH` takes any file)"
    assert message("zebra").startswith("unknown model `zebra`: known: gemma2_9b, gemma3_4b, ")


def test_a_missing_file(write) -> None:
    assert message(Path("none/x.yaml")) == (
        "no config file `none/x.yaml`: check the path, or name a model with --model"
    )
    write("", "small.yaml")
    assert message(Path("smal.yaml")) == "no config file `smal.yaml`: did you mean `small.yaml`?"


def test_a_folder_is_not_a_file(write, tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert message(Path("folder.yaml")) == "cannot read config file `folder.yaml`: is a directory"


def test_a_long_circle_names_every_file(write) -> None:
    write("extends: b.yaml\n", "a.yaml")
    write("extends: d.yaml\n", "b.yaml")
    write("extends: b.yaml\n", "d.yaml")
    assert message(Path("a.yaml")) == ("`extends` goes in a circle (b.yaml -> d.yaml -> b.yaml): remove one of them")


def test_an_error_in_a_base_names_the_base(write) -> None:
    write("trainer:\n  sed: 1\n", "base.yaml")
    assert message(write("extends: base.yaml\n")) == (
        "unknown key `trainer.sed` (base.yaml:2): did you mean `trainer.seed`?"
    )
