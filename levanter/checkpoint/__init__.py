"""Checkpoints that are whole or absent, and that never give back a value they were not given.

The names below load on first use, so that reading a config imports no numerical library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levanter.checkpoint.checkpointer import Checkpointer
    from levanter.checkpoint.config import CheckpointConfig
    from levanter.checkpoint.directory import clean, committed, resolve
    from levanter.checkpoint.errors import CheckpointMismatch, DamagedCheckpoint
    from levanter.checkpoint.loading import load
    from levanter.checkpoint.locations import Location, location
    from levanter.checkpoint.manifest import ArrayRecord, Manifest, read_manifest
    from levanter.checkpoint.reading import digest, latest, newest, read_array, verify
    from levanter.checkpoint.writing import save

__all__ = [
    "ArrayRecord",
    "CheckpointConfig",
    "CheckpointMismatch",
    "Checkpointer",
    "DamagedCheckpoint",
    "Manifest",
    "clean",
    "committed",
    "digest",
    "Location",
    "latest",
    "load",
    "location",
    "newest",
    "read_array",
    "read_manifest",
    "resolve",
    "save",
    "verify",
]

_HOMES = {
    "ArrayRecord": "manifest",
    "CheckpointConfig": "config",
    "CheckpointMismatch": "errors",
    "Checkpointer": "checkpointer",
    "DamagedCheckpoint": "errors",
    "Manifest": "manifest",
    "clean": "directory",
    "committed": "directory",
    "digest": "reading",
    "Location": "locations",
    "latest": "reading",
    "load": "loading",
    "location": "locations",
    "newest": "reading",
    "read_array": "reading",
    "read_manifest": "manifest",
    "resolve": "directory",
    "save": "writing",
    "verify": "reading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'levanter.checkpoint' has no attribute '{name}'")
    return getattr(import_module(f"levanter.checkpoint.{_HOMES[name]}"), name)
