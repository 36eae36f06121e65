"""Signals that come while a command is still being imported: they wait until something listens to them.

What is held stays so when the command starts itself again (`levanter.runtime.huge_pages`).
"""

from __future__ import annotations

import signal

_HELD = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}


def hold() -> None:
    """Signals that ask this process to end wait from now on."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def release() -> None:
    """Those that have come are handled, and so are those to come."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
