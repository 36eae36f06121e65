"""A process that tokenizes a corpus while a run trains: Python threads would take the steps' turns at the interpreter.

It gets its task by a pipe, which it watches: where the run ends, however it does, the pipe closes and the process ends.
What it cannot do it says on the way back. It has a session of its own, so that Ctrl-C is for the run alone, and steps
aside for the run where they share cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from levanter.data import errors
from levanter.data.cache import Cache
from levanter.data.corpus import Corpus
from levanter.data.tokenizer import load_tokenizer
from levanter.errors import UserError, WorkFailed

_NICE = 10
_CHILD = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from levanter.data import builder; builder.main()"
)


@dataclass(frozen=True)
class Task:
    """What is to be tokenized; see `levanter.data.cache.Cache`."""

    corpus: Corpus
    tokenizer: str
    heldout_fraction: float
    cache_dir: Path


class Builder:
    """The process, from the side of the run."""

    def __init__(self, task: Task) -> None:
        self._source = task.corpus.source
        content = pickle.dumps(sys.path) + pickle.dumps(task)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(content)
            self._process.stdin.flush()
        self.close = weakref.finalize(self, _end, self._process)

    def check(self) -> None:
        """Raise what has ended it before its end."""
        code = self._process.poll()
        if not code:
            return
        assert self._process.stdout is not None
        said = self._process.stdout.read()
        with contextlib.suppress(ValueError):
            raise UserError(json.loads(said))
        raise errors.builder_failed(self._source, code)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            pipe.close()


def can_build(task: Task) -> bool:
    """Whether a process of its own can: a corpus of a class that only this one has is not for it."""
    try:
        return type(task.corpus).__module__ != "__main__" and bool(pickle.dumps(task))
    except Exception:  # whatever a class of the user's own says when it is to be written down
        return False


def main() -> NoReturn:
    """The process, from its own side."""
    task: Task = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with, args=(sys.stdin.buffer,), name="run", daemon=True).start()
    os.nice(_NICE)
    code = 0
    try:
        Cache(
            task.cache_dir,
            task.corpus,
            load_tokenizer(task.tokenizer),
            task.heldout_fraction,
            lambda line: print(line, file=sys.stderr, flush=True),
            by_blocks=True,
        ).view()
    except (UserError, WorkFailed) as error:
        json.dump(str(error), sys.stdout)
        sys.stdout.flush()
        code = 2
    os._exit(code)


def _end_with(pipe: BinaryIO) -> None:
    """Wait until the run is gone."""
    pipe.read()
    os._exit(0)
