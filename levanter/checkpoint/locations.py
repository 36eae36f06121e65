"""Where checkpoints are kept: a path on this machine, or a URL that fsspec opens (`gs://…`, `s3://…`, `memory://…`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOCAL = "file://"


@dataclass(frozen=True)
class Url:
    """A folder behind a URL; it has of a path's methods what is needed here."""

    text: str

    @property
    def name(self) -> str:
        return self.text.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Url:
        return Url(self.text.rstrip("/").rpartition("/")[0])

    def __truediv__(self, name: str) -> Url:
        return Url(f"{self.text.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.text


Location = Path | Url


def location(path: Location | str) -> Location:
    """What a path or a URL, as a user writes it, names."""
    if not isinstance(path, str):
        return path
    if path.startswith(LOCAL):
        return Path(path.removeprefix(LOCAL))
    return Url(path) if "://" in path else Path(path)
