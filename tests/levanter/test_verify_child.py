"""Compiling in a child process: real processes, a function of the test's own."""

from __future__ import annotations

import runpy
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from levanter.compiler.verify import CompiledProgram, collectives, compile_in_child, keeping
from levanter.compiler.verify.kept import Keeper, digest_of
from levanter.errors import UserError, WorkFailed

LOWER = """
import os
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from levanter.errors import UserError

def lower(request):
    print("noise on stdout")
    assert len(jax.devices()) == request["devices"], jax.devices()
    jax.jit(lambda x: x + 1)(1.0)
    mesh = jax.make_mesh((request["devices"],), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, P("data"))
    def step(w, x):
        return w - jnp.sum(x)
    x = jax.ShapeDtypeStruct((request["size"],), jnp.float32)
    return jax.jit(step, in_shardings=(split, split), out_shardings=split, donate_argnums=0).lower(x, x)

def bad_input(request):
    raise UserError("the mesh is wrong: use 4x2")

def broken(request):
    raise RuntimeError("no such thing")

def killed(request):
    os.kill(os.getpid(), 9)
"""

KERNEL = """
import jax
from jax.experimental import pallas as pl

def kernel(x, out):
    def doubled(value):
        return value * 2.0
    out[...] = doubled(x[...])

def step(x):
    return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype))(x)
"""


@pytest.fixture(autouse=True)
def lowering_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lowering_for_test.py").write_text(LOWER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def leftovers(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("levanter-verify-*"))


def test_the_program_and_its_memory_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    program = compile_in_child({"devices": 4, "size": 1024}, devices=4, function="lowering_for_test:lower")
    (found,) = collectives(program.text, {"data": 4})
    assert (found.kind, found.mesh_axes, found.bytes, found.count) == ("all_reduce", ("data",), 4, 1)
    memory = program.memory
    assert (memory["arguments"], memory["outputs"], memory["aliased"]) == (2048, 1024, 1024)
    assert program.peak == 2048 + memory["temporaries"]
    assert program.seconds > 0
    assert leftovers(tmp_path) == []


def test_one_device_is_not_partitioned() -> None:
    program = compile_in_child({"devices": 1, "size": 8}, devices=1, function="lowering_for_test:lower")
    assert program.text == ""
    assert program.memory["arguments"] == 64


def test_a_user_error_stays_one() -> None:
    with pytest.raises(UserError, match="^the mesh is wrong: use 4x2$"):
        compile_in_child({}, devices=2, function="lowering_for_test:bad_input")


def test_a_failure_shows_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed) as caught:
        compile_in_child({}, devices=2, function="lowering_for_test:broken")
    assert str(caught.value).startswith(
        "compiling the step failed (for 2 CPU devices, in a child process that ended with status 1)\n"
    )
    assert str(caught.value).endswith("RuntimeError: no such thing")
    assert leftovers(tmp_path) == []


def test_a_killed_child_is_said_to_be_killed() -> None:
    with pytest.raises(WorkFailed, match="was killed by signal 9; is there enough memory"):
        compile_in_child({}, devices=2, function="lowering_for_test:killed")


def test_a_slow_child_is_stopped() -> None:
    with pytest.raises(WorkFailed) as caught:
        compile_in_child({}, devices=2, function="lowering_for_test:lower", timeout=0.01)
    assert str(caught.value) == (
        "compiling the step took longer than 0 s (for 2 CPU devices, in a child process): "
        "verify a smaller model or mesh"
    )


def test_a_kept_program_is_compiled_once_and_a_changed_one_anew(tmp_path: Path) -> None:
    def compiled(size: int, again: bool = False) -> CompiledProgram:
        with keeping(tmp_path / "kept", again=again):
            return compile_in_child({"devices": 2, "size": size}, devices=2, function="lowering_for_test:lower")

    def kept() -> list[Path]:
        return sorted((tmp_path / "kept").iterdir())

    first = compiled(8)
    (path,) = kept()
    assert path.name == f"{first.digest}.json.gz"
    mark = first.text.replace("HloModule", "HloModule kept_", 1)
    Keeper(path.parent).write(first.digest, mark, {"memory": dict(first.memory), "digest": first.digest})
    second = compiled(8)
    assert (second.text, second.memory, second.digest) == (mark, first.memory, first.digest)
    changed = compiled(16)
    assert changed.digest != first.digest and changed.memory["arguments"] == 2 * first.memory["arguments"]
    assert compiled(8, again=True).text == first.text
    assert compiled(8).text == first.text
    assert len(kept()) == 2


def test_a_program_with_a_kernel_is_known_again_from_another_path_and_other_lines(tmp_path: Path) -> None:
    def digest(folder: str, source: str) -> str:
        path = tmp_path / folder / "kernel_for_test.py"
        path.parent.mkdir(parents=True)
        path.write_text(source)
        traced = jax.jit(runpy.run_path(str(path))["step"]).trace(jax.ShapeDtypeStruct((8, 128), jnp.float32))
        return digest_of(traced.lower(lowering_platforms=("tpu",)), {})

    here = digest("here", KERNEL)
    assert digest("in/another/tree", "# moved\n" + KERNEL) == here
    assert digest("changed", KERNEL.replace("2.0", "3.0")) != here
