"""The list of chunks that a build keeps while it goes on, for those who read tokens before all of them are made.

    build 1f0c…                which build this is
    3b5e…                      the key of a chunk, once that is on the disk, in the order of the text
    end 77ab…                  the key of the finished view

A build that is taken up again begins a new list, with the text from its start: what the text was is never taken on
trust. A reader goes on where it was and holds the new list against what it has read of the old one.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from types import TracebackType

from levanter import durable
from levanter.data import errors

_END = "end"


class Published:
    """Writes the list of a build."""

    def __init__(self, path: Path) -> None:
        durable.write_file(path, f"build {uuid.uuid4().hex}\n".encode())
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Published:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, key: str) -> None:
        """A chunk is on the disk."""
        self._file.write(f"{key}\n".encode())

    def end(self, view: str) -> None:
        """All are, and the view of them too."""
        self._file.write(f"{_END} {view}\n".encode())


class Follower:
    """Reads a list while it is written.

    Args:
        source: what the corpus is called.

    Attributes:
        chunks: the keys that are there.
        view: the key of the finished view, once the build is at its end.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.chunks: list[str] = []
        self.view: str | None = None
        self._path, self._source = path, source
        self._build = b""
        self._offset = 0
        self._place = 0  # of the chunks of this build

    def read(self) -> None:
        """See what has come.

        Raises:
            UserError: a later build has found another text.
        """
        try:
            with self._path.open("rb") as file:
                build = file.readline()
                if not build.endswith(b"\n"):
                    return
                if build != self._build:
                    self._build, self._offset, self._place = build, len(build), 0
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            self._line(line)

    def _line(self, line: str) -> None:
        known = self._place < len(self.chunks)
        if line.startswith(_END):
            if known:
                raise errors.text_changed(self._source)
            self.view = line.split()[1]
        elif not known:
            self.chunks.append(line)
            self._place += 1
        elif self.chunks[self._place] == line:
            self._place += 1
        else:
            raise errors.text_changed(self._source)
