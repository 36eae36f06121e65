"""Published names that have no other home here; `haliax._src` re-exports them where published code imports them."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, Literal

from haliax.hof.checkpointing import ScanCheckpointPolicy

ScanCheckpointSpec = ScanCheckpointPolicy | bool | Literal["offload", "recompute", "full", "save_all", "nested"]
"""What `gradient_checkpointing` and `remat` take: a policy, or what `ScanCheckpointPolicy.from_bool_or_str` takes."""


class IdentityMap(MutableMapping[Any, Any]):
    """A mapping whose keys are told apart by identity, so that they need no hash."""

    def __init__(self, iterable: Sequence[tuple[Any, Any]] | None = None):
        self._entries: dict[int, tuple[Any, Any]] = {}
        for key, value in iterable or ():
            self[key] = value

    def __getitem__(self, key: Any) -> Any:
        return self._entries[id(key)][1]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._entries[id(key)] = key, value

    def __delitem__(self, key: Any) -> None:
        del self._entries[id(key)]

    def __contains__(self, key: object) -> bool:
        return id(key) in self._entries

    def __iter__(self) -> Iterator[Any]:
        return (key for key, _ in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)
