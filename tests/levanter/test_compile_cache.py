"""Compiled programs are kept between runs: whole or not at all, and the bits of a run do not depend on them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from levanter import checkpoint
from levanter.config import TrainConfig
from levanter.data import TextDataConfig
from levanter.models.gpt2.config import Gpt2Config
from levanter.runtime import compile_cache
from levanter.runtime.compile_cache import Programs, depends_on, used
from levanter.runtime.config import TrainerConfig
from levanter.runtime.trainer import train

HITS, MISSES = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


@pytest.fixture
def events() -> Iterator[list[str]]:
    """What JAX says of its cache while a test runs."""
    found: list[str] = []

    def listen(event: str, **_: object) -> None:
        if event in (HITS, MISSES):
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    yield found
    jax.monitoring.unregister_event_listener(listen)


def compiled(monkeypatch: pytest.MonkeyPatch, root: Path, factor: float) -> jax.Array:
    """What a small program computes, compiled anew unless the cache below `root` has it."""
    monkeypatch.setattr(compile_cache, "WORTHWHILE", 0.0)
    with used(True, root):
        jax.clear_caches()
        return jax.jit(lambda x: jnp.sin(x) * factor)(jnp.arange(4.0))


def kept(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*/*.*") if not path.name.startswith("."))


@pytest.mark.hurried
@pytest.mark.slow
def test_a_run_from_the_cache_makes_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compile_cache, "WORTHWHILE", 0.0)  # what is kept must not depend on how busy the machine is
    (tmp_path / "text.txt").write_text("a text of a few words that says nothing, and says it again. " * 200)

    def digest(name: str, cached: bool) -> str:
        trainer = TrainerConfig(
            *(0, 4),
            num_train_steps=6,
            run_dir=str(tmp_path / name),
            eval_batches=1,
            sample_tokens=0,
            compile_cache=cached,
        )
        model = Gpt2Config(seq_len=16, hidden_dim=8, num_heads=2, num_layers=1, dropout=0.1)
        config = TrainConfig(model=model, data=TextDataConfig(paths=[str(tmp_path / "text.txt")]), trainer=trainer)
        events.clear()
        train(config, Console(file=io.StringIO()))
        jax.clear_caches()
        return checkpoint.digest(tmp_path / name)

    without = digest("without", cached=False)
    assert events == []
    assert digest("first", cached=True) == without
    assert HITS not in events and events.count(MISSES) >= 2
    assert digest("second", cached=True) == without
    assert MISSES not in events and events.count(HITS) >= 2
    assert jax.config.jax_compilation_cache_dir is None
    programs = kept(tmp_path / "levanter-compiler" / "programs")
    assert any(path.name.startswith("jit_train_step-") for path in programs)


def test_what_is_not_whole_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[str]
) -> None:
    first = compiled(monkeypatch, tmp_path, 2.0)
    for path in kept(tmp_path):
        flipped = bytearray(path.read_bytes())
        flipped[len(flipped) // 2] ^= 1
        path.write_bytes(flipped)
    events.clear()
    assert (compiled(monkeypatch, tmp_path, 2.0) == first).all()
    assert HITS not in events and MISSES in events
    events.clear()
    assert (compiled(monkeypatch, tmp_path, 2.0) == first).all()
    assert MISSES not in events and HITS in events


def test_half_an_entry_of_a_killed_process_is_seen_by_nobody(tmp_path: Path) -> None:
    left = tmp_path / "kind" / ".in-use-1-dead"
    left.mkdir(parents=True)
    (left / "jit_step-1-cache").write_bytes(b"half of")
    one = Programs(tmp_path / "kind")
    (one.own / "jit_step-1-cache").write_bytes(b"the program")
    two = Programs(tmp_path / "kind")
    assert not left.exists() and one.own.exists()
    assert list(two.own.iterdir()) == []
    one.keep()
    (two.own / "jit_step-1-cache").write_bytes(b"the program")
    two.close()  # what both have compiled is kept once
    one.close()
    assert [path.read_bytes() for path in kept(tmp_path)] == [b"the program"]
    three = Programs(tmp_path / "kind")
    assert [path.name for path in three.own.iterdir()] == ["jit_step-1-cache"]
    three.close()
    assert len(list((tmp_path / "kind").iterdir())) == 1


def test_the_oldest_programs_give_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_cache, "LIMIT", 25)
    for name in "abc":
        programs = Programs(tmp_path / f"kind_{name}")
        (programs.own / f"{name}-cache").write_bytes(b"ten bytes!")
        programs.close()
    Programs(tmp_path / "kind_a").close()
    assert [path.name[0] for path in kept(tmp_path)] == ["b", "c"]


def test_programs_are_apart_by_what_their_bits_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for name, value in (("NPROC", "1"), ("NPROC", "2"), ("XLA_FLAGS", "--xla_force_host_platform_device_count=3")):
        monkeypatch.setenv(name, value)
        found.add(depends_on())
    assert len(found) == 3
    monkeypatch.setattr(compile_cache, "_cpu", lambda: ["flags: another"])
    assert depends_on() not in found


def test_a_folder_of_the_users_own_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "theirs"))
    try:
        with used(True, tmp_path / "ours") as programs:
            assert programs is None
            assert jax.config.jax_compilation_cache_dir == str(tmp_path / "theirs")
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
    assert not (tmp_path / "ours").exists()


def test_where_nothing_can_be_written_there_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with used(True, tmp_path / "file") as programs:
        assert programs is None
        assert jax.config.jax_compilation_cache_dir is None
