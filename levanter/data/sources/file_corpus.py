"""Sources that read files: which there are, and the stretches of each in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from levanter.data import corpus, errors
from levanter.data.corpus import HELDOUT, TRAIN, Document, Fingerprint, Reading, Stretch
from levanter.data.sources import files
from levanter.data.sources.files import File


@dataclass(frozen=True)
class FileCorpus(ABC):
    """Files in the order they are named; the files of one pattern in the order of their paths."""

    paths: tuple[str, ...]
    heldout_paths: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return ", ".join(self.paths)

    def documents(self) -> Iterator[Document]:
        return corpus.documents(self.stretches(Reading()))

    def stretches(self, reading: Reading) -> Iterator[Stretch]:
        # Every name is checked before the first text is read: a typo in the last one shows at once.
        train, heldout = self._files()
        sides = reading.ordered((train, TRAIN if heldout else None), (heldout, HELDOUT))
        for named, side in sides:
            for file in named:
                yield from self._of_file(file, side, reading)

    def fingerprint(self) -> Fingerprint:
        train, heldout = self._files()
        return files.fingerprint([*train, *heldout])

    def _files(self) -> tuple[list[File], list[File]]:
        if not self.paths:
            raise errors.no_paths()
        return self._expanded("paths", self.paths), self._expanded("heldout_paths", self.heldout_paths)

    @abstractmethod
    def _of_file(self, file: File, side: str | None, reading: Reading) -> Iterator[Stretch]: ...

    @abstractmethod
    def _expanded(self, field: str, patterns: tuple[str, ...]) -> list[File]:
        """The files that patterns mean. Raises `UserError` where one is not for this source."""
