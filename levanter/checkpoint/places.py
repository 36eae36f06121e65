"""Folders of files, on this machine or behind a URL, and the two ways of making a finished thing appear at once.

On this machine a folder is made beside its name, flushed, and renamed. Object stores have no rename that is atomic, but
a file is there whole or not at all: what is written last (`MARKER`) says that the rest is there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from levanter.checkpoint.locations import Location

MARKER = "manifest.sha256"
"""The file of a checkpoint that is written last."""


class Place(ABC):
    """A folder. What fails is an OSError, whatever is behind it."""

    path: Location

    @abstractmethod
    def child(self, name: str) -> Place:
        """A folder in it."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is such a folder."""

    @abstractmethod
    def make(self) -> None:
        """Make it, where it is not there."""

    @abstractmethod
    def names(self) -> list[str]:
        """What is in it, by name; nothing where it is not there."""

    @abstractmethod
    def files(self) -> dict[str, int]:
        """Bytes of every file below it, by its path there, in the order of the paths."""

    @abstractmethod
    def read(self, file: str) -> bytes:
        """A file, whole."""

    @abstractmethod
    def read_into(self, file: str, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` with the bytes of a file from `offset` on; returns how many there were."""

    @abstractmethod
    def write(self, file: str, parts: Iterable[memoryview | bytes]) -> None:
        """Make a file; when it returns, its bytes are flushed to the disk."""

    @abstractmethod
    def remove(self, file: str | None = None) -> None:
        """Remove one file, or the folder with all that is in it, where it is there."""

    # --- children that appear and go at once ---

    @abstractmethod
    def is_complete(self, name: str) -> bool:
        """Whether the child `name` was published."""

    @abstractmethod
    def staging(self, name: str) -> Place:
        """Where what is to be published as `name` is made."""

    @abstractmethod
    def publish(self, name: str) -> None:
        """Make the child `name` of what was made; its file `MARKER` was written last."""

    @abstractmethod
    def retire(self, name: str) -> Place:
        """Make a published child none at once; what there is then, to be removed."""

    @abstractmethod
    def rename(self, name: str, other: str) -> None:
        """Give a child another name."""

    @abstractmethod
    def leftovers(self, prefix: str) -> list[str]:
        """What a killed process left of children whose names begin with `prefix`."""
