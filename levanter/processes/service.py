"""The coordination service of `jax.distributed`, which the processes of a run are connected by.

JAX has no public name for its key-value store and its barrier (`jax.experimental.multihost_utils` builds on
collectives of the devices, which a thread that saves a checkpoint cannot join while the step runs). So this module
alone reaches for JAX's own client of it.
"""

from __future__ import annotations

import ctypes
import signal
import socket
from collections.abc import Callable
from typing import Any, Protocol

_CONNECT_SECONDS = 5.0


class Client(Protocol):
    """What is used of it. Every method raises JaxRuntimeError where the service cannot be reached."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None: ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...

    def wait_at_barrier(self, barrier_id: str, timeout_in_ms: int) -> None: ...


def connected_as() -> tuple[Client, int, int]:
    """The connection of this process to the service, its number and how many there are.

    `jax.process_index` would tell the same, and start the devices, for which it may be too early.
    """
    from jax._src import distributed

    found: Any = distributed.global_state
    return found.client, found.process_id, found.num_processes


def answers() -> bool:
    """Whether anyone listens where the service is. It can be asked where the client itself is in the way."""
    from jax._src import distributed

    host, _, port = str(distributed.global_state.coordinator_address).rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def before_abort(tell: Callable[[], None]) -> None:
    """Call `tell` when this process aborts itself.

    JAX's client does so the moment the service is gone, in a thread of its own and with a stack trace for a message;
    the callback that its library has for that case cannot be used from Python (it ends with `std::bad_cast`). A Python
    signal handler would wait for the main thread, which waits for the devices, so this is one of the C library's.
    """
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)

    def aborting(number: int) -> None:
        tell()

    _handlers.append(handler := kind(aborting))
    ctypes.CDLL(None).signal(int(signal.SIGABRT), handler)


_handlers: list[Any] = []
"""Who the C library may call, for as long as the process lives."""
