"""Several processes of a run as threads of one, each of which sees the shards of its own devices only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import jax

T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """One of the threads, as a `levanter.processes.group.Group`."""

    index: int
    count: int
    barrier: threading.Barrier
    said: dict[tuple[str, int], str]

    def exchange(self, topic: str, value: str = "") -> list[str]:
        assert (topic, self.index) not in self.said, f"{topic} comes twice"
        self.said[topic, self.index] = value
        self.barrier.wait(30)
        return [self.said[topic, index] for index in range(self.count)]


@dataclass(frozen=True)
class Seen:
    """An array as process `index` of `count` sees it."""

    array: jax.Array
    index: int
    count: int

    @property
    def addressable_shards(self) -> list[Any]:
        share = len(jax.devices()) // self.count
        return [shard for shard in self.array.addressable_shards if shard.device.id // share == self.index]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.array, name)


def together(count: int, use: Callable[[Member], T]) -> list[T | Exception]:
    """What `use` returns or raises in each of `count` processes."""
    barrier, said = threading.Barrier(count), {}

    def one(index: int) -> T | Exception:
        try:
            return use(Member(index, count, barrier, said))
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))
