"""A gigabyte of text is tokenized in little memory, whatever its shape."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from levanter.data import SotuDataConfig

PROGRAM = """
import json, resource, sys
from pathlib import Path
from levanter.data import JsonlDataConfig, TextDataConfig
from levanter.data.cache import cached_tokens
from levanter.data.tokenizer import Gpt2Tokenizer
path, cache = sys.argv[1:]
kind = JsonlDataConfig if path.endswith(".jsonl") else TextDataConfig
found = cached_tokens(kind(paths=[path]).corpus(), Gpt2Tokenizer(), 0.05, Path(cache), lambda line: None)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({"tokens": len(found.train) + len(found.heldout), "documents": len(found.train.ends), "peak": peak}))
"""


def built(path: Path, cache: Path) -> dict[str, int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, path, cache], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("megabytes", "shape"), [(1000, "one line"), (100, "tiny rows"), (40, "one word")])
def test_memory_is_bounded(megabytes: int, shape: str, tmp_path: Path) -> None:
    text = "".join(document.text for document in SotuDataConfig().corpus().documents()).replace("\n", " ")[:10_000_000]
    path = tmp_path / ("rows.jsonl" if shape == "tiny rows" else "text.txt")
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(megabytes // 10):
            if shape == "tiny rows":
                file.writelines(json.dumps({"text": text[at : at + 100]}) + "\n" for at in range(0, len(text), 100))
            else:
                file.write(text if shape == "one line" else text.replace(" ", ""))
    found = built(path, tmp_path / "cache")
    assert found["peak"] < 500
    if shape == "one line":
        assert found["tokens"] > megabytes * 190_000
    if shape == "tiny rows":
        assert found["documents"] == pytest.approx(0.95 * megabytes * 10_000, rel=0.01)
