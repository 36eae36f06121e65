"""Folders behind a URL, through fsspec. Only what object stores have is used: whole files, and lists of them."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import fsspec

from levanter.checkpoint import errors
from levanter.checkpoint.locations import Url
from levanter.checkpoint.places import MARKER, Place


class RemotePlace(Place):
    """A folder of an object store."""

    def __init__(self, path: Url) -> None:
        self.path: Url = path
        try:
            self._fs, self._root = fsspec.core.url_to_fs(str(path))
        except Exception as error:  # clients look for credentials, with errors of their own kinds
            raise errors.cannot_open_url(path, str(error) or type(error).__name__) from error

    def child(self, name: str) -> RemotePlace:
        return RemotePlace(self.path / name)

    def exists(self) -> bool:
        return bool(self.names())

    def make(self) -> None:
        """A folder is there once a file is in it."""

    def names(self) -> list[str]:
        self._fs.invalidate_cache()
        with _as_os_errors():
            try:
                found = self._fs.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
        # Some stores keep an empty object that stands for the folder itself.
        return sorted({name for each in found if (name := self._name(each)) and "/" not in name})

    def files(self) -> dict[str, int]:
        self._fs.invalidate_cache()
        with _as_os_errors():
            found: dict[str, dict[str, Any]] = self._fs.find(self._root, detail=True)
        return {name: found[each]["size"] for each in sorted(found) if (name := self._name(each))}

    def read(self, file: str) -> bytes:
        with _as_os_errors():
            return self._fs.cat_file(self._at(file))

    def read_into(self, file: str, offset: int, buffer: memoryview) -> int:
        if not len(buffer):
            return 0
        with _as_os_errors():
            found = self._fs.cat_file(self._at(file), start=offset, end=offset + len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def write(self, file: str, parts: Iterable[memoryview | bytes]) -> None:
        with _as_os_errors():
            # A file that fails on the way is given up: closing it would make the part that there is the file.
            stream = self._fs.open(self._at(file), "wb")
            try:
                for part in parts:
                    stream.write(part)
            except BaseException:
                with contextlib.suppress(Exception):
                    stream.discard()
                stream.closed = True
                raise
            stream.close()

    def remove(self, file: str | None = None) -> None:
        self._fs.invalidate_cache()
        with _as_os_errors(), contextlib.suppress(FileNotFoundError):
            if file is not None:
                self._fs.rm_file(self._at(file))
            elif self._fs.exists(self._root):
                self._fs.rm(self._root, recursive=True)

    def is_complete(self, name: str) -> bool:
        return MARKER in self.child(name).names()

    def staging(self, name: str) -> RemotePlace:
        return self.child(name)

    def publish(self, name: str) -> None:
        """It is there: its marker was written last."""

    def retire(self, name: str) -> RemotePlace:
        doomed = self.child(name)
        doomed.remove(MARKER)
        return doomed

    def rename(self, name: str, other: str) -> None:
        source, target = self.child(name), self.child(other)
        for file in source.files():
            target.write(file, [source.read(file)])
        source.remove()

    def leftovers(self, prefix: str) -> list[str]:
        found = [name for name in self.names() if name.startswith(prefix) and "." not in name]
        return [name for name in found if not self.is_complete(name)]

    @cached_property
    def _prefix(self) -> str:
        return self._fs._strip_protocol(self._root).strip("/") + "/"

    def _name(self, found: str) -> str:
        """The path below this folder of what the store names; empty where it is the folder itself."""
        found = self._fs._strip_protocol(found).strip("/")
        return found.removeprefix(self._prefix) if found.startswith(self._prefix) else ""

    def _at(self, file: str) -> str:
        return f"{self._root.rstrip('/')}/{file}"


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Clients of stores raise errors of their own kinds."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error
