"""The user's own code that a run is made of: what it was when a checkpoint was saved, and what it is now.

A configuration names a model of the user's own by its place. Of its file a checkpoint keeps the SHA-256, so that a
resume can say that the code has changed. What that file imports is not looked at.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path

from levanter.config import TrainConfig
from levanter.user_code import is_own

KEY = "code"
"""Where the metadata of a checkpoint has what `digests` gave; absent where there is no code of one's own."""


def digests(config: TrainConfig) -> dict[str, str]:
    """The SHA-256 of the file of every component that does not come with this package, by the file's name."""
    found = {}
    for component in (config.model, config.data, config.optimizer):
        cls = type(component)
        if is_own(cls):
            try:
                file = Path(inspect.getfile(cls))
                found[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
            except (OSError, TypeError):
                continue  # a class that was typed into a session: there is no file to compare
    return found


def changed(saved: Mapping[str, str], config: TrainConfig) -> list[str]:
    """The names of the files that are not what they were."""
    now = digests(config)
    return [name for name, digest in saved.items() if now.get(name, digest) != digest]
