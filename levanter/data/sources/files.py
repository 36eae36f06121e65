"""The files that a configuration names: paths, folders, patterns and URLs, read as bytes without their compression.

What stands before `://` says how a file is reached; the library `fsspec` knows many ways (`s3://`, `gs://`, `https://`,
`memory://`). The endings .gz, .bz2, .xz and .zst say how it is compressed.
"""

from __future__ import annotations

import bz2
import contextlib
import glob
import gzip
import io
import lzma
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from levanter.data import errors
from levanter.data.corpus import Fingerprint
from levanter.errors import UserError
from levanter.optional import require

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
TEXT_ENDINGS = (".txt", ".text", ".md")
JSONL_ENDINGS = (".jsonl", ".ndjson")
PARQUET_ENDINGS = (".parquet",)


@dataclass(frozen=True)
class File:
    """A file by its path or URL, and the field of the config that names it."""

    path: str
    field: str

    @property
    def is_remote(self) -> bool:
        return "://" in self.path

    @property
    def ending(self) -> str:
        """The ending of its name, without that of its compression, in small letters."""
        return _ending(self.path)

    @property
    def is_compressed(self) -> bool:
        return self.path.lower().endswith(COMPRESSED)

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What reaching or reading it may raise where it is damaged or out of reach. The libraries that reach remote
        files have errors of their own, which have nothing in common."""
        return (Exception,) if self.is_remote else (OSError, EOFError, lzma.LZMAError, ValueError)

    def size(self) -> int:
        """Bytes of the file as it lies there."""
        return _told(
            self, lambda: _remote(self).size(_remote_path(self)) if self.is_remote else os.stat(self.path).st_size
        )

    def open(self) -> IO[bytes]:
        """Its bytes, not compressed.

        Raises:
            UserError: it cannot be read.
        """
        return _told(self, lambda: _decompressed(self, self._raw()))

    def _raw(self) -> IO[bytes]:
        if self.is_remote:
            system = _remote(self)
            content = system.open(_remote_path(self), "rb")
            with contextlib.suppress(AttributeError):
                content.system = system  # an archive is closed with the last who knows of it
            return content
        return open(self.path, "rb")

    def mark(self) -> tuple[Any, int, float]:
        """What changes whenever its content does, its size, and when it last changed in seconds since 1970."""
        if self.is_remote:
            system, path = _remote(self), _remote_path(self)
            return _told(self, lambda: (str(system.ukey(path)), int(system.size(path) or 0), 0.0))
        found = _told(self, lambda: os.stat(self.path))
        marks = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        return marks, found.st_size, max(found.st_mtime, found.st_ctime)


def fingerprint(files: Iterable[File]) -> Fingerprint:
    """The marks of files by their names, as absolute paths."""
    parts, total, youngest = {}, 0, 0.0
    for file in files:
        mark, size, changed = file.mark()
        parts[file.path if file.is_remote else os.path.abspath(file.path)] = mark
        total, youngest = total + size, max(youngest, changed)
    return Fingerprint(parts, total, youngest)


def expand(field: str, patterns: Iterable[str], endings: Sequence[str] = TEXT_ENDINGS) -> list[File]:
    """The files that patterns in a field of the config name, in the order of the patterns.

    Args:
        endings: of a folder, the files with these endings are meant, compressed or not, at any depth.

    Raises:
        UserError: one names none.
    """
    files = []
    for pattern in patterns:
        found = _remote_matches(field, pattern, endings) if "://" in pattern else _matches(field, pattern, endings)
        files += [File(path, field) for path in found]
    return files


def _matches(field: str, pattern: str, endings: Sequence[str]) -> list[str]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        inside = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
        found = [str(each) for each in sorted(inside) if _is_meant(each.relative_to(path).parts, endings)]
        if not found:
            raise errors.nothing_in_folder(field, pattern, endings)
        return found
    if path.exists():
        return [str(path)]
    if not glob.has_magic(pattern):
        raise errors.no_such_file(field, pattern)
    found = [match for match in sorted(glob.glob(str(path), recursive=True)) if Path(match).is_file()]
    if not found:
        raise errors.no_match(field, pattern)
    return found


def _remote_matches(field: str, pattern: str, endings: Sequence[str]) -> list[str]:
    file = File(pattern, field)
    system, path = _remote(file), _remote_path(file)

    def found() -> list[str]:
        if glob.has_magic(path):
            return [each for each in sorted(system.glob(path)) if system.isfile(each)]
        if not system.isdir(path):
            return [path] if system.exists(path) else []
        inside = sorted(system.find(path))
        return [each for each in inside if _is_meant((each.rpartition("/")[2],), endings)]

    names = _told(file, found)
    if not names:
        raise errors.no_remote_file(field, pattern)
    inside = pattern[pattern.index("::") :] if "::" in pattern else ""  # as zip://*.jsonl::s3://bucket/all.zip
    return [f"{system.unstrip_protocol(name)}{inside}" for name in names]


def _is_meant(parts: Sequence[str], endings: Sequence[str]) -> bool:
    return not any(part.startswith(".") for part in parts) and _ending(parts[-1]) in endings


def _ending(name: str) -> str:
    name = name.lower()
    for compression in COMPRESSED:
        name = name.removesuffix(compression)
    return os.path.splitext(name)[1]


def _remote(file: File) -> Any:
    return _told(file, lambda: _url_to_fs(file.path)[0])


def _remote_path(file: File) -> str:
    return _url_to_fs(file.path)[1]


def _url_to_fs(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # it takes a while to import, and few runs need it

    return url_to_fs(url)


def _decompressed(file: File, raw: IO[bytes]) -> IO[bytes]:
    name = file.path.lower()
    if name.endswith(".gz"):
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if name.endswith(".bz2"):
        return bz2.BZ2File(raw)  # type: ignore[return-value]
    if name.endswith(".xz"):
        return lzma.LZMAFile(raw)  # type: ignore[return-value]
    if name.endswith(".zst"):
        pyarrow = require("pyarrow", f"the compressed file '{file.path}' (data.{file.field})", "data")
        return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd"))
    return raw


def _told(file: File, attempt: Callable[[], Any]) -> Any:
    """What `attempt` gives, or its error in words."""
    try:
        return attempt()
    except ImportError as error:  # fsspec says which package speaks to a kind of store
        raise errors.file_unreadable(file.field, file.path, str(error)) from error
    except UserError:
        raise
    except file.failures as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise errors.file_unreadable(file.field, file.path, reason) from error


def reading(file: File) -> Callable[[BaseException], Exception]:
    """What to raise for an error that reading `file` ended with."""
    return lambda error: errors.file_unreadable(file.field, file.path, str(error) or type(error).__name__)
