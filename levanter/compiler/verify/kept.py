"""Programs that were compiled, kept in a folder by what they were compiled from.

What the compiler makes is decided by the lowered program (StableHLO), what it is compiled for (the topology, the mesh,
and the part of the network that each of its axes has, by which its devices are ordered), the versions of JAX and of the
compilers, and their flags. A digest of these names a kept program, so that one whose source did not change is not
compiled again, and one whose source did is. Of which lines of which files the program was written on decides nothing:
the source lines that the text of a kept program names are those of the tree that it was first compiled in.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COMPILERS = {"tpu": ("libtpu",), "gpu": ("jax-cuda", "jax_cuda")}
"""By platform, what the distributions begin with that decide what a program is compiled to, besides JAX."""
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
_KERNEL = re.compile(r"(?<=\\22body\\22: \\22)[A-Za-z0-9+/=]+")
"""A Pallas kernel in the text of a lowered program: MLIR bytecode in JSON, whose quotes MLIR escapes."""
_KERNEL_LINES = re.compile(r", \\22debug_locations\\22: \\22[A-Za-z0-9+/=]*\\22")
"""Where since JAX 0.12 the source lines of a kernel are."""


@dataclass(frozen=True)
class Keeper:
    """Where compiled programs are kept, and whether to compile anew what is there already."""

    folder: Path
    again: bool = False

    def path(self, digest: str) -> Path:
        return self.folder / f"{digest}.json.gz"

    def has(self, digest: str) -> bool:
        return not self.again and self.path(digest).exists()

    def read(self, digest: str) -> tuple[str, dict[str, Any]]:
        """The text of a program and what was said of it."""
        kept = json.loads(gzip.decompress(self.path(digest).read_bytes()))
        return kept["text"], kept["result"]

    def write(self, digest: str, text: str, result: Mapping[str, Any]) -> None:
        """Keeps a program; a reader sees all of it or nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        whole = gzip.compress(json.dumps({"text": text, "result": result}).encode(), mtime=0)
        part = self.folder / f"{digest}.{os.getpid()}.part"
        part.write_bytes(whole)
        part.replace(self.path(digest))

    def as_json(self) -> dict[str, Any]:
        """What `Keeper.of_json` reads."""
        return {"folder": str(self.folder), "again": self.again}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Keeper:
        return cls(Path(data["folder"]), data["again"])


_KEEPER: ContextVar[Keeper | None] = ContextVar("keeper", default=None)


@contextlib.contextmanager
def keeping(folder: Path, *, again: bool = False) -> Iterator[None]:
    """Within it `compile_in_child` keeps what is compiled, and takes what is kept.

    Args:
        folder: where; made where it is not there.
        again: whether to compile also what is there, and keep that.
    """
    token = _KEEPER.set(Keeper(folder, again))
    try:
        yield
    finally:
        _KEEPER.reset(token)


def keeper() -> Keeper | None:
    """That of the `keeping` around."""
    return _KEEPER.get()


def digest_of(lowered: Any, request: Mapping[str, Any]) -> str:
    """The SHA-256 of all that decides what a `jax.stages.Lowered` of a request is compiled to."""
    place = {name: request.get(name) for name in ("topology", "mesh", "network")}
    flags = {name: sorted(os.environ.get(name, "").split()) for name in _FLAGS}
    told = json.dumps([place, _versions((request.get("topology") or {}).get("platform", "cpu")), flags])
    return hashlib.sha256(f"{told}\n{_without_lines(lowered.as_text())}".encode()).hexdigest()


def _without_lines(text: str) -> str:
    """The text of a lowered program, its kernels as text of no source lines: JAX leaves lines out of the program that
    it prints, but not out of the bytes of a kernel in it."""
    return _KERNEL.sub(lambda match: _kernel_text(match[0]), _KERNEL_LINES.sub("", text))


def _kernel_text(body: str) -> str:
    """A kernel as MLIR prints it; as it is where the bytes are none that this JAX reads."""
    from jax.experimental.mosaic.dialects import tpu
    from jax.extend.mlir import ir

    context = ir.Context()
    context.allow_unregistered_dialects = True  # kernels are written in a versioned form of the dialects
    tpu.register_dialect(context)
    try:
        with context:
            return str(ir.Module.parse(base64.b64decode(body)).operation.get_asm(enable_debug_info=False))
    except (binascii.Error, ir.MLIRError):
        return body


def _versions(platform: str) -> list[tuple[str, str]]:
    found = {(each.metadata["Name"] or "").lower(): each.version for each in importlib.metadata.distributions()}
    others = _COMPILERS.get(platform, ())
    return sorted(
        (name, version) for name, version in found.items() if name in ("jax", "jaxlib") or name.startswith(others)
    )
