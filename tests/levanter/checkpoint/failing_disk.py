"""A disk that fails, for tests of what is saved: at a chosen system call, or by forgetting what was not flushed.

`Disk` stands between Python's `os` and the system, so it sees every call that changes files in this process.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CALLS = ("open", "write", "fsync", "close", "mkdir", "rename", "replace", "unlink", "rmdir")


class Died(BaseException):
    """The process is gone: no handler of an exception does anything from here on."""


@dataclass
class File:
    """What is in a file, and what of that is on the disk."""

    content: bytearray = field(default_factory=bytearray)
    flushed: bytes = b""


@dataclass
class Folder:
    """The names in a folder, and the changes to them that are not on the disk."""

    entries: dict[str, File | Folder] = field(default_factory=dict)
    flushed: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[tuple[str, File | Folder | None]] = field(default_factory=list)

    def put(self, name: str, entry: File | Folder | None) -> None:
        if entry is None:
            self.entries.pop(name, None)
        else:
            self.entries[name] = entry
        self.pending.append((name, entry))

    def flush(self) -> None:
        self.flushed, self.pending = dict(self.entries), []


class Disk:
    """Counts the calls below `root`; at call `fails_at` an error comes, or the process dies.

    Args:
        error: the `errno` that the call gives; None: the process dies there.
    """

    def __init__(self, root: Path, fails_at: int | None = None, error: int | None = None) -> None:
        self.calls = 0
        self._root, self._fails_at, self._error = root, fails_at, error
        self._lock = threading.Lock()
        self._dead = False
        self._tree = _loaded(root)
        self._opened: dict[int, File | Folder] = {}
        self._real = {name: getattr(os, name) for name in CALLS}

    @contextmanager
    def installed(self) -> Iterator[Disk]:
        for name in CALLS:
            setattr(os, name, self._between(name))
        try:
            yield self
        finally:
            for name, call in self._real.items():
                setattr(os, name, call)

    def after_power_loss(self, target: Path, chance: random.Random | None) -> None:
        """What is on the disk when the power goes: all that was flushed and, by `chance`, some of the rest.

        Args:
            chance: None leaves nothing that was not flushed.
        """
        _made(self._tree, target, chance)

    def _between(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            with self._lock:
                self._count(name, arguments, keywords)
                folder_fd = keywords.get("dir_fd")
                entry = self._entry_before(name, arguments, folder_fd)
                result = self._real[name](*arguments, **keywords)
                self._note(name, arguments, folder_fd, entry, result)
                return result

        return call

    def _count(self, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if self._dead:
            raise Died
        if not self._is_ours(name, arguments, keywords):
            return
        self.calls += 1
        if self.calls == self._fails_at:
            if self._error is None:
                self._dead = True
                raise Died
            if name == "close":
                self._real["close"](*arguments)  # the descriptor is gone all the same
            raise OSError(self._error, os.strerror(self._error))

    def _is_ours(self, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
        if name in ("write", "fsync", "close"):
            return arguments[0] in self._opened
        return self._relative(arguments[0], keywords.get("dir_fd")) is not None

    def _relative(self, path: Any, folder_fd: int | None) -> tuple[str, ...] | None:
        if isinstance(path, int):
            return None
        full = Path(os.fspath(path))
        if folder_fd is not None:
            full = Path(os.readlink(f"/proc/self/fd/{folder_fd}")) / full
        return full.relative_to(self._root).parts if full.is_relative_to(self._root) else None

    def _find(self, parts: tuple[str, ...]) -> File | Folder | None:
        found: File | Folder | None = self._tree
        for part in parts:
            found = found.entries.get(part) if isinstance(found, Folder) else None
        return found

    def _entry_before(self, name: str, arguments: tuple[Any, ...], folder_fd: int | None) -> File | Folder | None:
        if name in ("write", "fsync", "close"):
            return self._opened.get(arguments[0])
        parts = self._relative(arguments[0], folder_fd)
        return None if parts is None else self._find(parts)

    def _note(
        self, name: str, arguments: tuple[Any, ...], folder_fd: int | None, entry: File | Folder | None, result: Any
    ) -> None:
        if name == "write" and isinstance(entry, File):
            entry.content += bytes(arguments[1])[:result]
        elif name == "fsync" and entry is not None:
            if isinstance(entry, File):
                entry.flushed = bytes(entry.content)
            else:
                entry.flush()
        elif name == "close":
            self._opened.pop(arguments[0], None)
        elif name not in ("write", "fsync") and (parts := self._relative(arguments[0], folder_fd)) is not None:
            self._note_name(name, arguments, parts, entry, result)

    def _note_name(
        self, name: str, arguments: tuple[Any, ...], parts: tuple[str, ...], entry: File | Folder | None, result: Any
    ) -> None:
        folder = self._find(parts[:-1])
        if name == "open":
            if entry is None:
                assert isinstance(folder, Folder)
                folder.put(parts[-1], entry := File())
            elif arguments[1] & os.O_TRUNC and isinstance(entry, File):
                entry.content = bytearray()
            self._opened[result] = entry
            return
        assert isinstance(folder, Folder)
        if name == "mkdir":
            folder.put(parts[-1], Folder())
        else:
            folder.put(parts[-1], None)
        if name in ("rename", "replace"):
            target = self._relative(arguments[1], None)
            assert target is not None
            parent = self._find(target[:-1])
            assert isinstance(parent, Folder)
            parent.put(target[-1], entry)


NO_ROOM, BROKEN = errno.ENOSPC, errno.EIO


def _loaded(path: Path) -> Folder:
    folder = Folder()
    for entry in path.iterdir():
        if entry.is_dir():
            folder.entries[entry.name] = _loaded(entry)
        else:
            content = entry.read_bytes()
            folder.entries[entry.name] = File(bytearray(content), content)
    folder.flush()
    return folder


def _made(entry: File | Folder, target: Path, chance: random.Random | None) -> None:
    if isinstance(entry, File):
        content = entry.flushed
        if chance is not None and bytes(entry.content) != content:
            written = chance.randint(0, len(entry.content))
            kept = bytes(entry.content[:written])
            content = chance.choice([content, kept, kept + bytes(len(entry.content) - written)])
        target.write_bytes(content)
        return
    target.mkdir()
    names = dict(entry.flushed)
    for name, changed in entry.pending[: chance.randint(0, len(entry.pending)) if chance is not None else 0]:
        if changed is None:
            names.pop(name, None)
        else:
            names[name] = changed
    for name, child in names.items():
        _made(child, target / name, chance)
