"""The command line as real processes: exit codes, what stands on stdout and stderr, and how fast it answers.

The work behind a command is replaced here by a few lines (`work`), so that every ending can be had in a moment; the
tests of `train`, `compile` and the wheel run the real thing.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest

from levanter.cli.main import levanter as group
from levanter.cli.main import main
from levanter.cli.options import OF_A_RUN
from levanter.config import load
from levanter.runtime.command import Command
from levanter.runtime.summary import next_commands

ROOT = Path(__file__).resolve().parents[2]
LEVANTER = [sys.executable, "-m", "levanter.cli.main"]

PROGRAM = """
import sys, types
trainer, compiler = types.ModuleType("levanter.runtime.trainer"), types.ModuleType("levanter.compiler.compile")
def train(config, console, command, run, stop, threads):
    {train}
def report(config, mesh, hardware, dump_ir, verify, values=False, partitioner="explicit"):
    {report}
trainer.train, compiler.report = train, report
sys.modules["levanter.runtime.trainer"], sys.modules["levanter.compiler.compile"] = trainer, compiler
from levanter.cli.main import main
sys.exit(main())
"""
REPORT = "return dict(mesh=mesh, hardware=hardware, batch=config.trainer.train_batch_size, seq=config.model.seq_len)"


def run(*command: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"} | env
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)


def levanter(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run(*LEVANTER, *arguments)


def work(*arguments: str, train: str = "pass", report: str = REPORT, **env: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(train=train, report=report)
    with tempfile.TemporaryDirectory() as folder:  # where a run would be kept
        return run(sys.executable, "-c", program, *arguments, cwd=Path(folder), PYTHONPATH=str(ROOT), **env)


def test_help_answers_in_under_a_fifth_of_a_second() -> None:
    """Of a processor's time: it waits for nothing, and what else runs on the machine must not count."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert levanter("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(5)) < 0.2


def test_help_names_every_command() -> None:
    commands = levanter("--help").stdout.partition("Commands:")[2]
    assert re.findall(r"^  (\w+) ", commands, re.MULTILINE) == sorted(group.commands)
    assert "..." not in commands


def test_bare_command_prints_the_help() -> None:
    bare = levanter()
    assert (bare.returncode, bare.stdout) == (0, levanter("--help").stdout)


def test_version() -> None:
    assert re.fullmatch(r"levanter-compiler \d+\.\d+\.\d+\n", levanter("--version").stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("trian", "unknown command `levanter trian`: did you mean `train`?"),
        (
            "frobnicate",
            "unknown command `levanter frobnicate`: "
            "known: check, checkpoint, compile, config, data, eval, export, generate, import, ir, launch, lint, names, "
            "plan, plot, reproduce, status, train, verify",
        ),
        ("checkpoint digst x", "unknown command `levanter checkpoint digst`: did you mean `digest`?"),
        ("checkpoint digest", "Missing argument 'PATH': see `levanter checkpoint digest --help`"),
        (
            "train --model gpt2_nan",
            "unknown model `gpt2_nan`: did you mean `gpt2_nano`? (`--config PATH` takes any file)",
        ),
        ("train --config no.yaml", "no config file `no.yaml`: check the path, or name a model with --model"),
        (
            "train --config a.yaml --model b",
            "both --model and --config are given: each names the whole configuration, so keep one of them",
        ),
        ("train --optimizer.beta 1", "unknown option `--optimizer.beta`: did you mean `--optimizer.beta2`?"),
        ("train --mash 4x2", "unknown option `--mash`: did you mean `--mesh`?"),
        (
            "compile --mesh 4y2",
            "bad mesh `4y2`: write 8 (data), 4x2 (data, model), 2x4x2 (replica, data, model), 2x16x4x4 (replica, data, "
            "sequence, model), or name the axes: data=4,model=2",
        ),
        ("compile --mesh 0x2", "bad mesh `0x2`: axis `data` has size 0; sizes must be whole numbers of at least 1"),
        (
            "compile --batch-size many",
            "bad value for `--trainer.train_batch_size`: expected a whole number, such as 32, got `many`",
        ),
        (
            "compile --dump-ir pyproject.toml/ir",
            "cannot make the folder `pyproject.toml/ir` for --dump-ir: not a directory: name another one",
        ),
        ("compile extra", "unexpected argument `extra`: a field is set as `--section.field VALUE`"),
    ],
)  # fmt: skip
def test_wrong_input_exits_2_with_one_line(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(arguments.split()) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")


def test_config_prints_what_the_run_would_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--model", "gpt2_small", "--trainer.seed", "7"]) == 0
    out = capsys.readouterr().out
    assert "  hidden_dim: 768\n" in out and "  seed: 7\n" in out


def test_config_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--explain", "--trainer.seed", "7"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "  # A whole number, at least 0 and at most 4294967295. Default: 0.\n  seed: 7\n" in out


@pytest.mark.parametrize("command", ["train", "compile", "check", "config"])
def test_help_ends_with_the_names_that_there_are(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    names = capsys.readouterr().out.partition("Names:\n")[2]
    told = " ".join(names.split())
    assert "gpt2_nano, gpt2_nano_wikitext, gpt2_small, gpt2_xl, " in told
    assert all(chip in told for chip in ("v5e", "v5p", "h100"))
    assert "`levanter config --explain` prints every one" in told


def test_train_hands_over_the_configuration() -> None:
    line = "t = config.trainer; print(config.model.num_layers, t.run_dir, t.run_name, t.mesh, t.num_train_steps)"
    done = work("train", "--run-dir", "here", "--trainer.num_train_steps", "9", "--model.num_layers=2", train=line)
    assert (done.returncode, done.stdout) == (0, "2 here gpt2_nano None 9\n")


def test_train_hands_over_the_command() -> None:
    arguments = ["train", "--run-dir=a", "--optimizer.learning_rate", "1e-3"]
    done = work(*arguments, train="print(command.text(run_dir='b c'), command.is_bare)")
    assert done.stdout == "levanter train --optimizer.learning_rate 1e-3 --run-dir 'b c' False\n"
    assert work("train", train="print(command.text(), command.is_bare)").stdout == "levanter train True\n"


def test_train_makes_the_cpu_devices_of_the_mesh() -> None:
    line = "import jax; print(jax.device_count(), config.trainer.mesh)"
    done = work("train", "--mesh", "3x2", train=line, JAX_PLATFORMS="cpu")
    assert (done.returncode, done.stdout) == (0, "6 3x2\n")


def test_train_refuses_a_mesh_that_one_machine_cannot_stand_in_for() -> None:
    done = work("train", "--mesh", "64x64", JAX_PLATFORMS="cpu")
    assert (done.returncode, done.stderr) == (
        2,
        "error: mesh data=64,model=64 needs 4096 devices and one machine stands in for at most 512 with its CPU: "
        "give a smaller --mesh (`levanter compile` plans for any)\n",
    )


def test_compile_json_is_one_object_and_nothing_else() -> None:
    chatty = f"print('chatter'); {REPORT}"
    question = ["--mesh", "2x4", "--hardware", "h100", "--batch-size", "64", "--seq-len", "32"]
    done = work("compile", *question, "--json", report=chatty)
    assert done.returncode == 0 and done.stderr == "chatter\n"
    assert json.loads(done.stdout) == {
        "model": "gpt2_nano",
        "mesh": {"data": 2, "model": 4},
        "hardware": "h100",
        "batch": 64,
        "seq": 32,
    }


def test_compile_takes_the_command_line_of_a_run() -> None:
    of_a_run = ["--run-dir", "runs/a", "--profile=1:2", "--processes", "2", "--process-id", "0", "--coordinator", "a:1"]
    done = work("compile", "--mesh", "2x4", *of_a_run, "--trainer.num_train_steps", "5", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["mesh"] == {"data": 2, "model": 4}
    assert set(each for option in of_a_run if (each := option.split("=")[0]).startswith("--")) == {*OF_A_RUN}
    assert not any(option in work("compile", "--help").stdout for option in OF_A_RUN)


def test_compile_without_a_mesh_is_one_device() -> None:
    assert json.loads(work("compile", "--json").stdout)["mesh"] == {"data": 1}
    assert json.loads(work("compile", "--json", "--trainer.mesh", "2x2").stdout)["mesh"] == {"data": 2, "model": 2}


@pytest.mark.parametrize(("surprises", "noun"), [(1, "1 surprise"), (2, "2 surprises")])
def test_a_surprise_fails_verification_and_the_report_is_still_printed(surprises: int, noun: str) -> None:
    done = work("compile", "--json", "--verify", report=f"return dict(verify=dict(surprises={['x'] * surprises}))")
    assert done.returncode == 1
    assert done.stderr == f"error: verification found {noun}: the compiled step does what the plan did not say\n"
    assert len(json.loads(done.stdout)["verify"]["surprises"]) == surprises


def test_a_platform_is_what_verify_compiles_for() -> None:
    done = work("compile", "--platform", "tpu")
    assert done.returncode == 2
    assert done.stderr == "error: --platform tpu says what --verify compiles for: add --verify\n"


def test_work_that_fails_exits_1_with_its_message() -> None:
    done = work("train", train="from levanter.errors import WorkFailed; raise WorkFailed('the loss is nan (step 3)')")
    assert (done.returncode, done.stderr) == (1, "error: the loss is nan (step 3)\n")


def test_a_bug_is_one_line_and_debug_shows_where() -> None:
    done = work("train", train="1 / 0")
    assert (done.returncode, done.stderr) == (
        1,
        "error: unexpected ZeroDivisionError: division by zero (run again with --debug to see where)\n",
    )
    own = "def on_step():\n    1 / 0\non_step()"
    assert work("train", train=f"exec(compile({own!r}, 'my_callback.py', 'exec'))").stderr == (
        "error: unexpected ZeroDivisionError at my_callback.py:2: division by zero "
        "(run again with --debug to see where)\n"
    )
    debugged = work("train", "--debug", train="1 / 0")
    assert debugged.returncode == 1 and "Traceback (most recent call last):" in debugged.stderr


def test_ctrl_c_exits_130_with_one_line(tmp_path: Path) -> None:
    line = "import time; print('started', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(train=line, report=REPORT), "train"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "stopped by SIGINT with nothing to save\n")


TABLES = """
import levanter.compiler.report
levanter.compiler.report.compile_tables = lambda report, console: console.print(report["line"])
"""


@pytest.mark.parametrize("form", [["--json"], []])
def test_a_reader_that_goes_away_is_no_error(form: list[str]) -> None:
    wait = "sys.stdin.read(); return dict(line='x')"
    process = subprocess.Popen(
        [sys.executable, "-c", TABLES + PROGRAM.format(train="pass", report=wait), "compile", *form],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stdin.close()
    assert (process.stderr.read(), process.wait(60)) == (b"", 141)


@pytest.mark.parametrize("command", [["-m", "levanter.main.train_lm"], ["levanter/main/train_lm.py"]])
def test_the_older_spelling(command: list[str]) -> None:
    wrong = ["--config_path", "config/gpt2_nano.yaml", "--trainer.sed", "1"]
    done = run(sys.executable, *command, *wrong)
    assert (done.returncode, done.stderr) == (
        2,
        "error: unknown option `--trainer.sed`: did you mean `--trainer.seed`?\n",
    )


def test_the_script_finds_the_packages_of_its_checkout(tmp_path: Path) -> None:
    """Run as a file, Python puts the script's own folder on the path, and `levanter` is not in it."""
    paths = "import sys; print([p for p in sys.path if p.endswith('site-packages')][0])"
    packages = run(sys.executable, "-c", paths).stdout.strip()
    script = str(ROOT / "levanter" / "main" / "train_lm.py")
    # -S leaves site-packages out, and with it an editable install; the dependencies come back without it.
    done = run(sys.executable, "-S", script, "--help", cwd=tmp_path, PYTHONPATH=packages)
    assert done.returncode == 0 and "--config_path" in done.stdout


def test_what_to_try_next_has_no_option_that_its_command_has_not() -> None:
    def options(command: click.Command) -> set[str]:
        shown = [each for each in command.params if not getattr(each, "hidden", False)]
        return {name for parameter in shown for name in parameter.opts if name.startswith("--")}

    of_a_run = options(group.commands["train"]) - options(group.commands["compile"])
    assert {"--run-dir", "--profile", "--processes"} <= of_a_run
    typed = Command(("train", *(part for name in sorted(of_a_run) for part in (name, "2"))))
    *_, (line, _) = next_commands(typed, load("gpt2_nano"), Path("a"))
    assert line == "levanter compile --mesh 8x4"
