"""What sources of rows are asked for, as plain data (no data set library here)."""

from __future__ import annotations

from dataclasses import dataclass, field

from levanter.data.config import DataConfig
from levanter.fields import word

BAD_ROWS = ("error", "skip")


@dataclass(frozen=True)
class RowDataConfig(DataConfig):
    """Rows of files, a document each."""

    paths: list[str] = field(default_factory=list)
    """Files, folders, patterns such as crawl/**/*.jsonl.gz, or URLs such as gs://bucket/part-*.jsonl.zst."""
    heldout_paths: list[str] = field(default_factory=list)
    """The same for the held-out text; empty means a share of `paths` is held out."""
    column: str = "text"
    """What the text of a row is called."""
    bad_rows: str = word("error", BAD_ROWS)
    """What becomes of a row that cannot be read or has no text: error stops; skip leaves it out and counts it."""
