"""Work that is done before it is asked for, in a thread of its own."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.2


class Failed:
    """An exception on its way to the thread that is to raise it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Ahead(Generic[T]):
    """Goes through an iterator, at most `most` items ahead of who reads this.

    What the iterator raises is raised here, where its item would have been. Leaving the `with` block ends the thread.

    Attributes:
        waited_seconds: how long readers have waited for items in all.
    """

    def __init__(self, items: Iterator[T], most: int, name: str) -> None:
        self._items = items
        self._ready: queue.Queue[tuple[T] | Failed | None] = queue.Queue(most)
        self._closed = threading.Event()
        self.waited_seconds = 0.0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread; what it has made is dropped."""
        self._closed.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        began = time.perf_counter()
        try:
            found = self._ready.get()
        finally:
            self.waited_seconds += time.perf_counter() - began
        if found is None or isinstance(found, Failed):
            self._ready.put(found)  # asked again, it says the same
            if found is None:
                raise StopIteration
            raise found.error
        return found[0]

    def _work(self) -> None:
        try:
            for item in self._items:
                if not self._put((item,)):
                    return
            self._put(None)
        except BaseException as error:
            self._put(Failed(error))

    def _put(self, found: tuple[T] | Failed | None) -> bool:
        while not self._closed.is_set():
            try:
                self._ready.put(found, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False


class Upcoming(Generic[T]):
    """Answers questions about one step after the other, the next ones of which are answered before they are asked.

    Only while steps are asked for in order does it work ahead; the answers are the same in any order. The thread does
    not keep a program from its end.

    Args:
        make: the answer for a step and a question, a pure function.
        most: how many steps it is ahead.

    Attributes:
        waited_seconds: how long answers have been waited for in all.
        check: called now and then while an answer is waited for; what it raises ends the wait.
    """

    def __init__(self, make: Callable[[int, Any], T], most: int = 2) -> None:
        self._make = make
        self._most = most
        self._asked: tuple[int, Any] | None = None
        self._made: dict[int, Future[T]] = {}
        self._tasks: queue.SimpleQueue[Any] | None = None
        self.waited_seconds = 0.0
        self.check: Callable[[], None] | None = None

    def __call__(self, step: int, question: Any) -> T:
        before, self._asked = self._asked, (step, question)
        in_order = before == (step - 1, question)
        if not in_order:
            self._made.clear()
        began = time.perf_counter()
        try:
            found = self._answer(step, question)
        finally:
            self.waited_seconds += time.perf_counter() - began
        if in_order:
            for later in range(step + 1, step + 1 + self._most):
                if later not in self._made:
                    self._made[later] = self._begun(later, question)
        return found

    def _answer(self, step: int, question: Any) -> T:
        ready = self._made.pop(step, None)
        if ready is None:
            if self.check is None:
                return self._make(step, question)
            ready = self._begun(step, question)
        while self.check is not None and not wait([ready], _POLL_SECONDS).done:
            self.check()
        return ready.result()

    def _begun(self, step: int, question: Any) -> Future[T]:
        """The answer, once the thread has made it."""
        if self._tasks is None:
            self._tasks = queue.SimpleQueue()
            weakref.finalize(self, self._tasks.put, None)
            threading.Thread(target=_answering, args=(self._tasks,), name="batches", daemon=True).start()
        answer: Future[T] = Future()
        self._tasks.put((answer, partial(self._make, step, question)))
        return answer


def _answering(tasks: queue.SimpleQueue[Any]) -> None:
    while (task := tasks.get()) is not None:
        answer, make = task
        try:
            answer.set_result(make())
        except BaseException as error:
            answer.set_exception(error)
        del task, answer, make  # nothing is kept alive while the next one is waited for
