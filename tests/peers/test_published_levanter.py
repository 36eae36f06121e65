"""The published Levanter is a client: its GPT-2 and LLaMA give here what they give on the published haliax.

`pytest -m peers` installs both from the package index, each in a folder of its own, and runs one program twice.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.peers

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("levanter_program.py")
LEVANTER, HALIAX = "levanter==1.1", "haliax==1.3"


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=1200, **options)


def installed(package, folder):
    done = run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), package])
    if done.returncode:
        unreachable = ("No matching distribution", "Connection", "Temporary failure", "Could not fetch", "timed out")
        if any(text in done.stderr for text in unreachable):
            pytest.skip(f"pip reaches no index that has {package}")
        raise AssertionError(done.stderr)
    return folder


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What the program writes on the published haliax and on this one."""
    folder = tmp_path_factory.mktemp("peers")
    levanter = installed(LEVANTER, folder / "levanter")
    published = installed(HALIAX, folder / "published")
    own = folder / "own"
    own.mkdir()
    (own / "haliax").symlink_to(ROOT / "haliax")  # without the `levanter` that lies beside it
    results = []
    for library in (published, own):
        file = folder / f"{library.name}.npz"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(library), str(levanter)])}
        environment["JAX_PLATFORMS"] = "cpu"
        command = [sys.executable, "-W", "ignore", str(PROGRAM), str(file)]
        done = run(command, env=environment, cwd=folder)
        assert done.returncode == 0, done.stderr[-4000:]
        assert done.stdout.split()[-1].startswith(str(library))  # it ran on that haliax
        results.append(dict(np.load(file)))
    return results


@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_the_same_numbers(outcomes, model):
    published, own = outcomes
    names = [name for name in published if name.startswith(f"{model} ") and not name.endswith("keys")]
    assert len(names) > 12 and set(names) <= set(own)
    assert float(published[f"{model} loss"]) > 1
    assert published[f"{model} loss_mask"].tolist() == [True] * 15 + [False]
    for name in names:
        scale = np.abs(published[name]).max()
        np.testing.assert_allclose(own[name], published[name], rtol=1e-4, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_the_same_state_dict_keys(outcomes, model):
    published, own = outcomes
    keys = published[f"{model} keys"].tolist()
    assert own[f"{model} keys"].tolist() == keys
    if model == "gpt2":
        assert "h.0.attn.c_attn.weight" in own["gpt2 haliax keys"].tolist()
