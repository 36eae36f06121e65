"""`levanter data`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from levanter.cli.main import main


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": f"{i} one two"}) + "\n" for i in range(2000)))
    return ["--data.type=jsonl", f"--data.paths=[{tmp_path}/rows.jsonl]", f"--data.cache_dir={tmp_path}/cache"]


def test_build_list_and_verify(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = f"--cache-dir={tmp_path}/cache"
    assert main(["data", "ls", cache]) == 0
    assert capsys.readouterr().out == f"no tokens in {tmp_path}/cache\n"
    assert main(["data", "build", *arguments]) == 0
    out = capsys.readouterr().out
    identity = out.split()[-1]
    assert out.startswith("training text   ") and len(identity) == 64
    assert main(["data", "ls", cache]) == 0
    listed = capsys.readouterr().out
    assert identity[:12] in listed and "training tokens" in listed
    assert main(["data", "verify", cache]) == 0
    assert capsys.readouterr().out == f"{identity[:12]}  whole    {tmp_path}/rows.jsonl\n"
    # In blocks it is the same corpus.
    assert main(["data", "build", *arguments, "--data.shuffle_block=100", "--model.seq_len=16"]) == 0
    assert capsys.readouterr().out.split()[-1] == identity
    (chunk,) = (tmp_path / "cache" / "tokens" / "chunks").rglob("*.tokens")
    content = bytearray(chunk.read_bytes())
    content[-100] ^= 1
    chunk.write_bytes(content)
    assert main(["data", "verify", cache, identity[:8]]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{identity[:12]}  DAMAGED  {chunk.name} does not match its checksum\n"
    assert printed.err == (
        f"error: damaged in the token cache: {identity[:12]}; the next run that needs such a corpus makes it again "
        "from its text\n"
    )
    assert main(["data", "build", *arguments]) == 0
    assert capsys.readouterr().out == out
    assert main(["data", "verify", cache]) == 0
    assert main(["data", "verify", f"--data.cache_dir={tmp_path}/cache", "beef"]) == 2  # as `train` has it
    assert capsys.readouterr().err == (
        f"error: no corpus in {tmp_path}/cache has the identity 'beef': `levanter data ls` lists those there are\n"
    )


def test_what_is_wrong_with_the_text_is_said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "build", *arguments, "--data.column=texts"]) == 2
    assert "it has no `texts`; did you mean `text`? (data.column)" in capsys.readouterr().err
    assert main(["data", "buidl"]) == 2
    assert "did you mean `build`?" in capsys.readouterr().err
