"""A data set that the `datasets` library loads, as a corpus, read in batches of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levanter.data import corpus, errors
from levanter.data.corpus import HELDOUT, TRAIN, Document, Fingerprint, Reading, Stretch
from levanter.data.sources import files
from levanter.data.sources.columns import arrow_column, arrow_names, arrow_path, has_arrow, path_of
from levanter.data.sources.files import File
from levanter.data.sources.rows import SKIP, not_text, texts_of
from levanter.errors import UserError
from levanter.optional import require

_BATCH_ROWS = 1000
_STRETCH_CHARACTERS = 1 << 20
_SAVED = ("state.json", "dataset_dict.json")
"""What `save_to_disk` writes beside the rows of a data set, and beside the folders of several splits."""


@dataclass(frozen=True)
class HfCorpus:
    """Splits of a data set that the `datasets` library loads, from the hub or from a local folder."""

    id: str
    name: str | None
    train_split: str
    heldout_split: str | None
    text_column: str
    rows: str
    streaming: bool = False
    bad_rows: str = "error"

    @property
    def source(self) -> str:
        return f"the data set '{self.id}'"

    def documents(self) -> Iterator[Document]:
        return corpus.documents(self.stretches(Reading()))

    def stretches(self, reading: Reading) -> Iterator[Stretch]:
        named = self.heldout_split is not None
        sides = reading.ordered((self.train_split, TRAIN if named else None), (self.heldout_split, HELDOUT))
        for split, side in sides:
            if split is not None:
                yield from self._split(split, side, reading)

    def fingerprint(self) -> Fingerprint | None:
        """Of a folder its files; of a data set on the hub its revision, where the hub can be asked."""
        if Path(self.id).is_dir():
            inside = sorted(path for path in Path(self.id).rglob("*") if path.is_file())
            return files.fingerprint(File(str(path), "id") for path in inside)
        hub = require("huggingface_hub", "a data set (data.type hf)", "hf")
        try:
            return Fingerprint({f"hub:{self.id}": hub.HfApi().dataset_info(self.id, timeout=10).sha})
        except Exception as error:  # every way in which a network can fail, and a hub refuse
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise errors.dataset_unavailable(self.id, self.name, reason) from error

    def _split(self, split: str, side: str | None, reading: Reading) -> Iterator[Stretch]:
        if self.rows != "lines":
            for text in self._texts(split, reading):
                yield Stretch(text, side)
            return
        # One document whose length must be known before its text.
        size = sum(len(line.encode("utf-8", "surrogatepass")) for line in self._lines(split, Reading()))
        held: list[str] = []
        characters = 0
        for line in self._lines(split, reading):
            if characters >= _STRETCH_CHARACTERS:
                yield Stretch("".join(held), side, None, False, size)
                held, characters = [], 0
            held.append(line)
            characters += len(line)
        yield Stretch("".join(held), side, None, True, size)

    def _lines(self, split: str, reading: Reading) -> Iterator[str]:
        for line in self._texts(split, reading):
            yield line if line.endswith("\n") else line + "\n"

    def _texts(self, split: str, reading: Reading) -> Iterator[str]:
        datasets = require("datasets", "a data set (data.type hf)", "hf")
        number = 0
        try:
            rows = self._rows(datasets, split)
            if (known := rows.column_names) is not None:
                first, *_ = path_of(self.text_column, known)
                if first not in known:
                    raise errors.unknown_column(self.text_column, known)
                rows = rows.select_columns(first)
            for batch in rows.with_format("arrow").iter(_BATCH_ROWS):
                path = arrow_path(batch.schema, self.text_column)
                if not has_arrow(batch.schema, path):
                    raise errors.unknown_column(self.text_column, arrow_names(batch.schema))
                for text in texts_of(arrow_column(batch, path)):
                    number += 1
                    if type(text) is not str:
                        self._bad(
                            f"{self.source}, split {split}, row {number}", not_text(self.text_column, text), reading
                        )
                        continue
                    reading.read(len(text))
                    yield text
        except datasets.exceptions.DatasetGenerationError as error:
            raise errors.dataset_broken(self.id, self.name, _reason(error.__cause__ or error)) from error
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise errors.dataset_unavailable(self.id, self.name, _reason(error)) from error

    def _rows(self, datasets: Any, split: str) -> Any:
        """The rows of a split."""
        folder = Path(self.id)
        if not any((folder / name).is_file() for name in _SAVED):
            try:
                return datasets.load_dataset(self.id, self.name, split=split, streaming=self.streaming)
            except ValueError as error:
                known = datasets.get_dataset_split_names(self.id, self.name)
                if known and _named(split) - set(known):
                    raise self._no_split(split, known) from error
                raise
        # As `save_to_disk` wrote it: splits by name, or one data set, which has no splits but the one it was.
        saved = datasets.load_from_disk(self.id)
        if isinstance(saved, datasets.DatasetDict):
            if split not in saved:
                raise self._no_split(split, saved)
            rows = saved[split]
        else:
            rows = saved
            if split not in (found := str(rows.split or "train"), "train"):
                raise self._no_split(split, [found])
        return rows.to_iterable_dataset() if self.streaming else rows

    def _no_split(self, split: str, known: Iterable[str]) -> UserError:
        return errors.no_split(self.id, self.name, split, split == self.heldout_split, known)

    def _bad(self, where: str, reason: str, reading: Reading) -> None:
        if self.bad_rows != SKIP:
            raise errors.bad_row(where, "id", reason)
        reading.skip(f"{where}: {reason}")


def _reason(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _named(split: str) -> set[str]:
    """The splits of which a text such as train[:90%]+test takes rows."""
    return {part.partition("[")[0].strip() for part in split.split("+")}
