"""The text of a mixture: that of all its sources, one after the other. An evaluation counts each by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from levanter.data.corpus import Corpus, Document


@dataclass(frozen=True)
class MixtureCorpus:
    """Corpora by name."""

    corpora: Mapping[str, Corpus]

    @property
    def source(self) -> str:
        return ", ".join(self.corpora)

    def documents(self) -> Iterator[Document]:
        for name, corpus in self.corpora.items():
            for document in corpus.documents():
                yield Document(document.text, document.side, name)
