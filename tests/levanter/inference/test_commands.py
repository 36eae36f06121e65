"""`levanter generate` and `levanter eval` on runs: of a family that ships, of an own model, of averaged weights."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from levanter import config, user_code
from levanter.checkpoint import load, read_manifest, resolve
from levanter.checkpoint.local_place import LocalPlace
from levanter.cli.main import main
from levanter.inference.loaded import find, load_model
from levanter.runtime import compile_cache
from levanter.runtime.state import flat_names

pytestmark = pytest.mark.hurried

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "own_model.py"
RUN = (
    "--trainer.train_batch_size 4 --trainer.num_train_steps 3 --trainer.sample_tokens 0 --trainer.eval_batches 0 "
    "--data.type text --data.paths [text.txt] --data.cache_dir cache --optimizer.learning_rate 1e-2 "
)
LLAMA = (
    "--model llama_nano --model.seq_len 32 --model.hidden_dim 16 --model.num_layers 1 --model.num_heads 2 "
    "--model.num_kv_heads 1 --model.intermediate_dim 16 "
)
OWN = "my_model.py:AveragesConfig --model.seq_len 32 --model.num_heads 2 --model.head_size 4 --model.num_layers 1 "
MEAN_OF_TOKENS = "opt_state.average.embeddings.tokens.weight"
TEXT = "the quick brown fox jumps over the lazy dog and comes back again\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two runs, `runs/llama` (with an average of its weights) and `runs/own`."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copy(EXAMPLE, folder / "my_model.py")
    (folder / "text.txt").write_text(TEXT * 200)
    (folder / "other.txt").write_text("nothing of that kind has been seen before\n" * 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        assert main(shlex.split(f"train {LLAMA} {RUN} --run-dir runs/llama --optimizer.ema 0.9")) == 0
        assert main(shlex.split(f"train {OWN} {RUN} --run-dir runs/own")) == 0
        yield folder
    sys.modules.pop("my_model", None)
    user_code._files.pop("my_model", None)


def run(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(shlex.split(command))
    return code, *capsys.readouterr()


@pytest.mark.parametrize("name", ["llama", "own"])
def test_prompts_are_continued(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "prompts.txt").write_text("the quick\n\nlazy dog and\n")
    given = f"generate runs/{name} --prompt brown --prompts prompts.txt --max-tokens 6 --seed 2"
    code, out, err = run(f"{given} --json", capsys)
    assert (code, err) == (0, "")
    results = json.loads(out)["results"]
    assert [each["prompt"] for each in results] == ["brown", "the quick", "lazy dog and"]
    assert all(len(each["tokens"]) == 6 or each["stopped"] for each in results)
    code, out, err = run(given, capsys)
    assert out == "\n---\n\n".join(f"{each['prompt']}{each['text']}\n" for each in results)
    alone = json.loads(run(f"generate runs/{name} --prompt 'the quick' --max-tokens 6 --seed 2 --json", capsys)[1])
    assert alone["results"] == results[1:2]
    if name == "llama":
        assert json.loads(run(f"{given} --json --mesh 2x2", capsys)[1])["results"] == results
    of_checkpoint = f"generate runs/{name}/checkpoints/step-3 --prompt brown --max-tokens 6 --seed 2 --json"
    one = json.loads(run(of_checkpoint, capsys)[1])
    assert one["results"] == results[:1]


@pytest.mark.parametrize(
    "command",
    [
        "generate runs/own --prompt brown --max-tokens 2",
        pytest.param("eval runs/own", marks=pytest.mark.slow),
        pytest.param("reproduce runs/own --steps 0:3", marks=pytest.mark.slow),
    ],
)
def test_what_a_command_compiles_is_kept(
    folder: Path, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    def listen(event: str, **_: object) -> None:
        if event.startswith("/jax/compilation_cache/cache_"):
            found.append(event.rpartition("_")[2])

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compile_cache, "WORTHWHILE", 0.0)
    jax.monitoring.register_event_listener(listen)
    try:
        for seen, unseen in (("misses", "hits"), ("hits", "misses")):
            jax.clear_caches()
            found.clear()
            assert main(shlex.split(command)) == 0
            assert seen in found and unseen not in found
    finally:
        jax.monitoring.unregister_event_listener(listen)


def test_of_a_checkpoint_only_the_model_is_read_and_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    original = LocalPlace.read_into

    def counted(place: LocalPlace, file: str, offset: int, buffer: memoryview) -> int:
        nonlocal read
        read += len(buffer)
        return original(place, file, offset, buffer)

    monkeypatch.setattr(LocalPlace, "read_into", counted)
    load_model(find("runs/own"), 1, print)
    arrays = read_manifest(resolve("runs/own")).arrays
    assert read == sum(record.nbytes for name, record in arrays.items() if name.startswith("model."))


def test_averages_are_what_is_used(folder: Path) -> None:
    loaded = load_model(find("runs/llama"), 1, print)
    arrays = load(resolve("runs/llama"))
    mean = arrays[MEAN_OF_TOKENS]
    used = flat_names(loaded.model)["embeddings.tokens.weight"]
    np.testing.assert_array_equal(used, mean)
    assert np.any(np.asarray(used) != np.asarray(arrays["model.embeddings.tokens.weight"]))


@pytest.mark.slow
def test_text_is_judged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run("eval runs/own --json", capsys)
    assert (code, err) == (0, "")
    own = json.loads(out)["perplexity"]
    assert [each["domain"] for each in own["domains"]] == ["text.txt"]
    assert 0 < own["tokens"] < 0.1 * 200 * len(TEXT.split())
    (folder / "q.jsonl").write_text('{"prompt": "the quick brown", "choices": ["fox", "zebra"], "answer": 0}\n')
    given = (
        "eval runs/own --data.type text --data.paths [text.txt,other.txt] --domain mine='*.txt' --length 16 --stride 8"
    )
    code, out, err = run(f"{given} --multiple-choice q.jsonl --json", capsys)
    assert (code, err) == (0, "")
    found = json.loads(out)
    domains = {each["domain"]: each for each in found["perplexity"]["domains"]}
    assert list(domains) == ["text.txt", "other.txt", "mine"]
    assert (
        domains["text.txt"]["bytes"] == 200 * len(TEXT) and domains["text.txt"]["loss"] < domains["other.txt"]["loss"]
    )
    assert domains["mine"]["bytes"] > domains["text.txt"]["bytes"]
    assert found["multiple_choice"] == [
        {
            "name": "q.jsonl",
            "questions": 1,
            "accuracy": 1.0,
            "accuracy_per_byte": found["multiple_choice"][0]["accuracy_per_byte"],
        }
    ]
    code, out, err = run(f"{given} --multiple-choice q.jsonl", capsys)
    lines = out.splitlines()
    assert lines[0].split() == ["domain", "tokens", "bytes", "nats/token", "perplexity", "bits/byte"]
    assert [line.split()[0] for line in lines[2:6]] == ["text.txt", "other.txt", "mine", "all"]
    assert lines[-1].split() == ["q.jsonl", "1", "100.0%", f"{found['multiple_choice'][0]['accuracy_per_byte']:.1%}"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "generate runs/llama",
            "no prompt: give --prompt TEXT, as often as you like, or --prompts FILE with one in each line",
        ),
        (
            "generate runs --prompt x",
            "no model in `runs`: give a run directory (with config.yaml and checkpoints/), one of its checkpoints, or "
            "a Hugging Face folder (with config.json) or id",
        ),
        (
            "generate runs/llama --prompt x --max-tokens 32",
            "--max-tokens 32 does not fit the model, which reads at most 32 tokens with the prompt: use at most 31",
        ),
        ("generate runs/llama --prompt x --max-tokens 0", "--max-tokens is 0: it must be at least 1"),
        ("generate runs/llama --prompt x --batch-size 0", "--batch-size is 0: it must be at least 1"),
        ("generate runs/llama --prompts none.txt", "cannot read `none.txt`: no such file or directory: check the path"),
        (
            "generate runs/llama --prompt x --model.sqe_len 3",
            "unknown option `--model.sqe_len`: did you mean `--model.seq_len`?",
        ),
        ("generate runs/llama --prompt x --max-token 3", "unknown option `--max-token`: did you mean `--max-tokens`?"),
        (
            "eval runs/llama --length 33",
            "--length is 33: it must be from 1 to 32, the tokens that the model reads at once",
        ),
        (
            "eval runs/llama --length 8 --stride 9",
            "--stride is 9: it must be from 1 to 8, the tokens that the model reads at once",
        ),
        ("eval runs/llama --domain x.txt", "--domain x.txt: write NAME=PATH, such as --domain news='news/*.txt'"),
        ("eval runs/llama --batch-size 0", "--batch-size is 0: it must be at least 1"),
    ],
)
def test_what_is_refused(folder: Path, command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, capsys) == (2, "", f"error: {message}\n")


def test_what_a_user_should_know_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "the lazy dog " * 20
    code, _, err = run(f"generate runs/llama --prompt '{long}' --max-tokens 4", capsys)
    dropped = len(config_tokens(long)) - 28
    assert (code, err) == (
        0,
        f"a prompt is too long: its first {dropped} tokens are left out, as the model reads at most 32 tokens\n",
    )
    before = (folder / "my_model.py").read_text()
    (folder / "my_model.py").write_text(before + "# another line\n")
    code, _, err = run("generate runs/own --prompt brown --max-tokens 4", capsys)
    (folder / "my_model.py").write_text(before)
    assert (code, err) == (
        0,
        "my_model.py has changed since runs/own/checkpoints/step-3 was saved: the model computes what the code says "
        "now\n",
    )
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "empty" / "config.yaml").write_text(config.dump(config.load("gpt2_nano")))
    assert run("generate empty --prompt x", capsys) == (
        2,
        "",
        "error: empty has no checkpoint yet: let the run come to one (trainer.checkpoint.every_steps)\n",
    )


def config_tokens(text: str) -> list[int]:
    from levanter.data import load_tokenizer

    return load_tokenizer("gpt2").encode(text)
