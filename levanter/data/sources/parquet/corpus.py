"""Parquet files as a corpus, read a batch of rows and one column at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from levanter.data import errors
from levanter.data.corpus import Reading, Stretch
from levanter.data.sources import files
from levanter.data.sources.columns import arrow_column, arrow_names, arrow_path, has_arrow
from levanter.data.sources.files import PARQUET_ENDINGS, File
from levanter.data.sources.rows import RowCorpus, not_text, texts_of
from levanter.errors import UserError
from levanter.optional import require

_BATCH_ROWS = 1024


@dataclass(frozen=True)
class ParquetCorpus(RowCorpus):
    """The rows of Parquet files, each a document."""

    endings = PARQUET_ENDINGS

    def _of_file(self, file: File, side: str | None, reading: Reading) -> Iterator[Stretch]:
        parquet = require("pyarrow.parquet", f"the file '{file.path}' (data.type parquet)", "data")
        pyarrow = require("pyarrow", f"the file '{file.path}' (data.type parquet)", "data")
        with file.open() as content:
            try:
                opened = parquet.ParquetFile(content, buffer_size=1 << 20, pre_buffer=False)
                schema = opened.schema_arrow
                path = arrow_path(schema, self.column)
                if not has_arrow(schema, path):
                    raise errors.unknown_column_of(f"the file '{file.path}'", self.column, arrow_names(schema))
                number = 0
                weight = file.size() / max(1, opened.metadata.num_rows)
                for batch in opened.iter_batches(_BATCH_ROWS, columns=[".".join(path)]):
                    reading.read(int(weight * batch.num_rows))
                    for text in texts_of(arrow_column(batch, path)):
                        number += 1
                        if type(text) is str:
                            yield Stretch(text, side, file.path)
                        else:
                            self._bad(f"{file.path}, row {number}", file.field, not_text(self.column, text), reading)
            except UserError:
                raise
            except (pyarrow.lib.ArrowException, *file.failures) as error:
                raise files.reading(file)(error) from error
