"""Folders of this machine's file system: what is published is made aside, flushed, and renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from levanter import durable
from levanter.checkpoint.places import Place


class LocalPlace(Place):
    """A folder of this machine's file system."""

    def __init__(self, path: Path) -> None:
        self.path: Path = path

    def child(self, name: str) -> LocalPlace:
        return LocalPlace(self.path / name)

    def exists(self) -> bool:
        return self.path.is_dir()

    def make(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []

    def files(self) -> dict[str, int]:
        found = sorted(path for path in self.path.rglob("*") if path.is_file())
        return {path.relative_to(self.path).as_posix(): path.stat().st_size for path in found}

    def read(self, file: str) -> bytes:
        return (self.path / file).read_bytes()

    def read_into(self, file: str, offset: int, buffer: memoryview) -> int:
        descriptor = os.open(self.path / file, os.O_RDONLY)
        try:
            done = 0
            while done < len(buffer):
                count = os.preadv(descriptor, [buffer[done:]], offset + done)
                if count == 0:
                    break
                done += count
            return done
        finally:
            os.close(descriptor)

    def write(self, file: str, parts: Iterable[memoryview | bytes]) -> None:
        target = self.path / file
        target.parent.mkdir(parents=True, exist_ok=True)
        durable.write_new(target, parts)

    def remove(self, file: str | None = None) -> None:
        if file is not None:
            (self.path / file).unlink(missing_ok=True)
        elif self.path.is_dir():
            shutil.rmtree(self.path)

    def is_complete(self, name: str) -> bool:
        return self.child(name).exists()

    def staging(self, name: str) -> LocalPlace:
        return self.child(f".{name}.tmp")

    def publish(self, name: str) -> None:
        durable.commit_tree(self.staging(name).path, self.path / name)

    def retire(self, name: str) -> LocalPlace:
        doomed = self.child(f".{name}.deleted")
        doomed.remove()  # of an earlier try that failed
        os.rename(self.path / name, doomed.path)
        durable.sync(self.path)
        return doomed

    def rename(self, name: str, other: str) -> None:
        os.rename(self.path / name, self.path / other)
        durable.sync(self.path)

    def leftovers(self, prefix: str) -> list[str]:
        return [name for name in self.names() if name.startswith(f".{prefix}")]
