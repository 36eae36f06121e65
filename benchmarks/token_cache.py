"""What building the token cache costs, beside the batch encoder of `tokenizers` alone, on corpora of five shapes.

    python benchmarks/token_cache.py [--megabytes 8] [--repeats 3]

Prints a table: CPU seconds of the encoder (`encode_batch_fast` of all texts, once they are in memory, and the ids as an
array), CPU seconds of the whole build (reading, hashing, cutting, encoding, writing, fsync), their ratio, and how much
memory the build took at most. Each measurement is a process of its own; the smallest of the repeats counts. At the end:
CPU seconds of a second start, which reads no text.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path

SHAPES = ("many tiny", "few huge", "mixed", "one line", "many mid")


def texts(shape: str, size: int) -> list[str]:
    """Documents of a shape, of `size` characters in all, from the speeches of the quickstart corpus."""
    from levanter.data import SotuDataConfig

    whole = "".join(document.text for document in SotuDataConfig().corpus().documents())
    whole = (whole * (size // len(whole) + 1))[:size]
    rng = random.Random(0)
    lengths: dict[str, Callable[[], int]] = {
        "many tiny": lambda: rng.randint(60, 260),
        "few huge": lambda: size // 3 + 1,
        "mixed": lambda: rng.choice([100, 2_000, 50_000, 1_500_000]),
        "one line": lambda: size,
        "many mid": lambda: rng.randint(2_000, 10_000),
    }
    if shape == "one line":
        whole = whole.replace("\n", " ")
    found, at = [], 0
    while at < len(whole):
        found.append(whole[at : (at := at + lengths[shape]())])
    return found


def written(shape: str, size: int, folder: Path) -> list[str]:
    """The documents in files; the paths of a source that reads them: text for few, JSON lines for many."""
    found = texts(shape, size)
    if len(found) > 50:
        with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in found)
        return [str(folder / "rows.jsonl")]
    for i, text in enumerate(found):
        (folder / f"{i:04}.txt").write_text(text, encoding="utf-8")
    return [str(folder / f"{i:04}.txt") for i in range(len(found))]


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def encoder(shape: str, size: int) -> dict[str, float]:
    """CPU seconds of the encoder alone."""
    import numpy as np

    from levanter.data.tokenizer import Gpt2Tokenizer

    found, tokenizer = texts(shape, size), Gpt2Tokenizer()._tokenizer
    began = cpu()
    ids = [each.ids for each in tokenizer.encode_batch_fast(found)]
    array = np.fromiter(chain.from_iterable(ids), np.uint16)
    return {"cpu": cpu() - began, "tokens": len(array)}


def cache(paths: list[str], folder: str) -> dict[str, float]:
    """CPU seconds and memory of a build."""
    from levanter.data import JsonlDataConfig, TextDataConfig
    from levanter.data.cache import cached_tokens
    from levanter.data.tokenizer import Gpt2Tokenizer

    tokenizer = Gpt2Tokenizer()
    kind = JsonlDataConfig if paths[0].endswith(".jsonl") else TextDataConfig
    corpus = kind(paths=paths).corpus()
    began = cpu()
    found = cached_tokens(corpus, tokenizer, 0.05, Path(folder), lambda line: None)
    used = cpu() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu": used, "tokens": len(found.train) + len(found.heldout), "peak": peak}


def alone(*arguments: str) -> dict[str, float]:
    """A measurement in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def row(shape: str, size: int, repeats: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        paths = written(shape, size, Path(folder))
        plain = min((alone("--encoder", shape, str(size)) for _ in range(repeats)), key=lambda each: each["cpu"])
        builds = [alone("--cache", json.dumps(paths), f"{folder}/cache{i}") for i in range(repeats)]
        built = min(builds, key=lambda each: each["cpu"])
        subprocess.run(["sleep", "2.1"], check=True)  # until the times of the files tell
        alone("--cache", json.dumps(paths), f"{folder}/cache0")
        again = alone("--cache", json.dumps(paths), f"{folder}/cache0")
    ratio = built["cpu"] / plain["cpu"]
    return (
        f"| {shape} | {size / 1e6:.0f} | {plain['tokens']:,.0f} | {plain['cpu']:.2f} | {built['cpu']:.2f} "
        f"| {ratio:.2f} | {built['peak']:.0f} | {again['cpu']:.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--encoder", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--cache", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.encoder:
        print(json.dumps(encoder(given.encoder[0], int(given.encoder[1]))))
    elif given.cache:
        print(json.dumps(cache(json.loads(given.cache[0]), given.cache[1])))
    else:
        print("| shape | MB | tokens | encoder, CPU s | cache, CPU s | ratio | peak MB | second start, CPU s |")
        print("|---|---|---|---|---|---|---|---|")
        for shape in given.shape or SHAPES:
            print(row(shape, int(given.megabytes * 1e6), given.repeats), flush=True)


if __name__ == "__main__":
    main()
