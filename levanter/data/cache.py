"""The token cache: a corpus is tokenized once, and later runs map the ids into memory.

    tokens/chunks/XX/….tokens   ids, about 16 million characters of text each (`levanter.data.chunks`)
    tokens/views/IDENTITY/      which chunks a corpus is made of, and its two sides (`levanter.data.views`)
    tokens/records/….json       what the files of a corpus were when they were read (`levanter.data.records`)

Everything is named by a hash of what decides its content, so a changed file or setting makes another view and nothing
ever has to be cleared. Files are written aside and renamed. A build that was killed is taken up again: its chunks are
there. One lock file per request makes a second process wait for the first instead of doing the same work.

A start compares the sizes, times and inodes of the text's files, and of the cache's, with those of the last time, and
reads what has changed; `levanter data verify` reads everything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from levanter import durable
from levanter.data import chunks, errors, records, views
from levanter.data.ahead import Ahead
from levanter.data.corpus import HELDOUT, TRAIN, Corpus, Fingerprint, Reading, Streamed
from levanter.data.progress import Progress
from levanter.data.published import Follower, Published
from levanter.data.records import Record
from levanter.data.split import BY_DOCUMENT, BY_TAIL, Survey, Surveyor
from levanter.data.tokenizer import Tokenizer
from levanter.data.tokens import ArrayTokens, Tokens
from levanter.data.views import View
from levanter.errors import UserError

# Of the key, which checkpoints keep: what data are the same does not depend on how they lie in a cache.
_FORMAT = 1
Notify = Callable[[str], None]


@dataclass(frozen=True)
class CachedTokens:
    """The ids of both sides. Equal `key`s mean equal ids. Plain arrays of ids will do."""

    key: str
    train: Tokens
    heldout: Tokens

    def __post_init__(self) -> None:
        for side in (TRAIN, HELDOUT):
            if isinstance(ids := getattr(self, side), np.ndarray):
                object.__setattr__(self, side, ArrayTokens(ids))


def default_cache_dir() -> Path:
    """~/.cache/levanter-compiler, or the same below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "levanter-compiler"


def cache_dir_of(configured: str | None) -> Path:
    """The folder that `data.cache_dir` means."""
    return default_cache_dir() if configured is None else Path(configured).expanduser()


def cached_tokens(
    corpus: Corpus, tokenizer: Tokenizer, heldout_fraction: float, cache_dir: Path, notify: Notify
) -> CachedTokens:
    """The tokens of `corpus`, from the cache in `cache_dir`, which is made first where it is missing or damaged.

    Raises:
        UserError: the corpus cannot be read or is empty, or the cache cannot be written.
    """
    view = Cache(cache_dir, corpus, tokenizer, heldout_fraction, notify).view()
    return CachedTokens(view.key, view.tokens(TRAIN), view.tokens(HELDOUT))


class Cache:
    """One request to the cache.

    Args:
        by_blocks: whether the tokens are read while they are made (`levanter.data.block_data`): which documents are
            held out is then decided by each alone, and those that the source names come first.

    Attributes:
        list_path: of the list of chunks that a build by blocks keeps, see `levanter.data.published`.
    """

    def __init__(
        self,
        cache_dir: Path,
        corpus: Corpus,
        tokenizer: Tokenizer,
        heldout_fraction: float,
        notify: Notify,
        by_blocks: bool = False,
    ) -> None:
        self._cache_dir = cache_dir
        self._folder = cache_dir / "tokens"
        self._corpus, self._tokenizer, self._fraction = corpus, tokenizer, heldout_fraction
        self._notify = notify
        self._by_blocks = by_blocks
        request = records.request(corpus, tokenizer, heldout_fraction) + ("-blocks" if by_blocks else "")
        self._record_path = self._folder / "records" / f"{request}.json"
        self._lock_path = self._folder / "records" / f"{request}.lock"
        self.list_path = self._folder / "records" / f"{request}.chunks"

    @property
    def source(self) -> str:
        """What the corpus is called."""
        return self._corpus.source

    def view(self) -> View:
        """The tokens, made if need be."""
        if not self._by_blocks and (found := self.known()) is not None:
            return found
        with told_where_it_cannot_be_written(self._cache_dir):
            self._lock_path.parent.mkdir(parents=True, exist_ok=True)
            with durable.locked(self._lock_path):
                # Another process may have made it in the meantime.
                found = self.known()
                if found is None:
                    return self._built()
                if self._by_blocks:
                    self._list(found)
                return found

    def _list(self, view: View) -> None:
        """Keep the list of chunks of a view that is there already."""
        with Published(self.list_path) as published:
            for key in view.chunk_keys:
                published.add(key)
            published.end(view.key)

    def without_old_list(self) -> None:
        """Remove the list of chunks of a build that has ended, or was killed: the text may have changed since."""
        old = Follower(self.list_path, self.source)
        old.read()
        with told_where_it_cannot_be_written(self._cache_dir):
            self._lock_path.parent.mkdir(parents=True, exist_ok=True)
            # A build that is at its end may hold the lock for a moment more.
            with durable.locked(self._lock_path, wait=old.view is not None) as holds:
                if holds:
                    self.list_path.unlink(missing_ok=True)

    def view_of(self, key: str) -> View:
        """The view that a build has just made."""
        return views.opened(self._view_folder(key), self.chunk_folder)

    def known(self) -> View | None:
        """The view that an earlier reading of the same text made; None where the text must be read."""
        record = records.read(self._record_path)
        if record is None:
            return None
        try:
            mark = self._mark()
        except UserError as error:
            if not record.others_unchanged:
                raise
            return self._without_text(record, error)
        if mark is None or not record.fits(mark):
            return None
        if (view := self._opened(record.view)) is not None:
            self._tell_skipped(record.skipped, record.first_skipped)
        return view

    def _mark(self) -> Fingerprint | None:
        return self._corpus.fingerprint() if isinstance(self._corpus, Streamed) else None

    def _without_text(self, record: Record, error: UserError) -> View:
        """The tokens of a text that is gone."""
        try:
            view = views.opened(self._view_folder(record.view), self.chunk_folder)
            views.check(view)
        except (FileNotFoundError, ValueError):
            raise error from None
        self._notify(errors.text_is_gone(record.source, record.day))
        return view

    def _opened(self, key: str) -> View | None:
        """The view `key`, with all its files as they should be; None where there is none."""
        try:
            view = views.opened(self._view_folder(key), self.chunk_folder)
            views.check(view)
        except FileNotFoundError:
            return None
        except ValueError as error:
            self._notify(errors.cache_damaged(self._view_folder(key), str(error)))
            return None
        return view if view.manifest["made_by"] == chunks.identity(self._tokenizer) else None

    def _built(self) -> View:
        """The view of the text as it is now."""
        began = time.time()
        reading = Reading(heldout_first=self._by_blocks)
        mark = None
        with contextlib.suppress(UserError):  # what is not there is told when it is read
            mark = self._mark()
        with Published(self.list_path) if self._by_blocks else contextlib.nullcontext() as published:
            view = self._made(reading, mark, began, published)
            if published is not None:
                published.end(view.key)
        if mark is not None:
            records.write(self._record_path, Record.of(view.key, self._corpus, mark, reading, began))
        self._tell_skipped(reading.skipped, reading.first_skipped)
        return view

    def _made(self, reading: Reading, mark: Fingerprint | None, began: float, published: Published | None) -> View:
        survey, keys = self._tokenized(reading, mark, published)
        if survey.characters == 0:
            raise errors.corpus_empty(self._corpus.source)
        if self._by_blocks and survey.rule == BY_TAIL:
            survey = dataclasses.replace(survey, rule=BY_DOCUMENT)
        key = _key(survey, self._tokenizer, self._fraction)
        about = {
            "key": key,
            "source": self._corpus.source,
            "characters": survey.characters,
            "made_by": chunks.identity(self._tokenizer),
            "made": began,
        }
        view = self._opened(key)
        if view is None or view.chunk_keys != keys:
            view = views.write(self._view_folder(key), self.chunk_folder, keys, survey.rule, self._fraction, about)
        return view

    def _tokenized(
        self, reading: Reading, mark: Fingerprint | None, published: Published | None
    ) -> tuple[Survey, list[str]]:
        """Read the text and tokenize what of it is new; the keys of all its chunks."""
        surveyor = Surveyor(self._fraction)
        identity = chunks.identity(self._tokenizer)
        keys: list[str] = []
        with Progress(self._corpus.source, None if mark is None else mark.size) as progress:
            reading.read = progress.read
            texts = chunks.text_chunks(self._corpus, self._tokenizer, surveyor, reading)
            # The next chunk is read, hashed and cut while this one is encoded.
            with Ahead(texts, 1, "reading text") as ready:
                for text in ready:
                    key = text.key(identity)
                    path = chunks.path_of(self.chunk_folder, key)
                    if chunks.problem(path, key) is not None:
                        if progress.starts_work():
                            self._notify(errors.tokenizing(self._corpus.source, self._folder))
                        chunks.write(path, key, chunks.made(text, self._tokenizer))
                    keys.append(key)
                    if published is not None:
                        published.add(key)
                    progress.tokenized(text.characters)
        return surveyor.result(), keys

    def _view_folder(self, key: str) -> Path:
        return self._folder / "views" / key[:32]

    @property
    def chunk_folder(self) -> Path:
        """Of the chunks of all corpora."""
        return self._folder / "chunks"

    def _tell_skipped(self, skipped: int, first: str | None) -> None:
        if skipped:
            self._notify(errors.rows_skipped(skipped, self._corpus.source, first or ""))


def _key(found: Survey, tokenizer: Tokenizer, heldout_fraction: float) -> str:
    parts = {
        "format": _FORMAT,
        "corpus": found.sha256,
        "split": [found.rule, heldout_fraction],
        "tokenizer": tokenizer.identity,
        "end_of_text": tokenizer.end_of_text,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def told_where_it_cannot_be_written(cache_dir: Path) -> Iterator[None]:
    """Say of a cache that cannot be written how to have another one."""
    try:
        yield
    except OSError as error:
        raise errors.cache_unwritable(cache_dir, error.strerror or str(error)) from error
