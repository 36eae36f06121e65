"""What a token cache holds, for people: its corpora, and whether they are whole."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from levanter.data import errors, views
from levanter.data.corpus import HELDOUT, TRAIN
from levanter.data.views import View


@dataclass(frozen=True)
class Stored:
    """A corpus: its tokens of both sides, and when it was made."""

    identity: str
    source: str
    train: int
    heldout: int
    day: str


def corpora(cache_dir: Path) -> list[Stored]:
    """The corpora of a cache, by identity; damaged ones have no source."""
    return [_stored(name, view) for name, view in _views(cache_dir)]


def verified(cache_dir: Path, identities: Sequence[str] = ()) -> Iterator[str]:
    """A line for each corpus, once all of it has been read.

    Args:
        identities: those that are meant, or how they begin; all where there are none.

    Raises:
        UserError: an identity is that of no corpus.
        WorkFailed: one is damaged; raised at the end.
    """
    found = _views(cache_dir)
    for wanted in identities:
        if not any(name.startswith(wanted[:32]) for name, _ in found):
            raise errors.no_such_corpus(wanted, cache_dir)
    damaged = []
    for name, view in found:
        if identities and not any(name.startswith(wanted[:32]) for wanted in identities):
            continue
        try:
            if isinstance(view, str):
                raise ValueError(view)
            views.check(view, everything=True)
            yield f"{name[:12]}  whole    {view.manifest['source']}"
        except ValueError as problem:
            damaged.append(name[:12])
            yield f"{name[:12]}  DAMAGED  {problem}"
    if damaged:
        raise errors.damaged_corpora(damaged)


def _views(cache_dir: Path) -> list[tuple[str, View | str]]:
    """Each corpus by the name of its folder, or what is wrong with it."""
    folder = cache_dir / "tokens" / "views"
    found: list[tuple[str, View | str]] = []
    for name in views.names(folder):
        try:
            found.append((name, views.opened(folder / name, cache_dir / "tokens" / "chunks")))
        except ValueError as problem:
            found.append((name, str(problem)))
    return found


def _stored(name: str, view: View | str) -> Stored:
    if isinstance(view, str):
        return Stored(name, f"damaged: {view}", 0, 0, "")
    train, heldout = (view.manifest[side]["tokens"] for side in (TRAIN, HELDOUT))
    day = time.strftime("%Y-%m-%d", time.localtime(view.manifest["made"]))
    return Stored(view.key, view.manifest["source"], train, heldout, day)
