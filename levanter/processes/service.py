"""The coordination service of `jax.distributed`, which the processes of a run are connected by.

JAX has no public name for its key-value store and its barrier (`jax.experimental.multihost_utils` builds on
collectives of the devices, which a thread that saves a checkpoint cannot join while the step runs). So this module
alone reaches for JAX's own client of it.
"""

from __future__ import annotations

from typing import Any, Protocol


class Client(Protocol):
    """What is used of it. Every method raises JaxRuntimeError where the service cannot be reached."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None: ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...

    def wait_at_barrier(self, barrier_id: str, timeout_in_ms: int) -> None: ...


def client() -> Client | None:
    """The connection of this process to the service; None where it runs alone."""
    from jax._src import distributed

    found: Any = distributed.global_state.client
    return found
