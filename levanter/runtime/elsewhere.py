"""Checkpoints that are kept outside of the run directory (`trainer.checkpoint.directory`): whose they are.

A run directory protects what is in it. A folder or a bucket that a config names may be named by another one too, and
outlives the machine on which a run was started: the same configuration in a new run directory resumes from it. So every
checkpoint says of what configuration it is, and one of another run is refused. A folder on this machine has one writer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from levanter.checkpoint import Location, Manifest
from levanter.runtime import errors
from levanter.runtime.run_directory import LOCK, MAY_CHANGE, RunDirectory, differences_from, take

KEY = "config"
"""In the metadata of a checkpoint."""


def identity(config_text: str) -> dict[str, Any]:
    """What of a resolved config, given as YAML, no resume may change."""
    return _without(yaml.safe_load(config_text), "")


def differences(manifest: Manifest, config_text: str) -> list[str]:
    """In what a config differs from that of the run which made a checkpoint.

    A checkpoint of an older version does not say of what run it is, and differs in nothing.
    """
    before = manifest.metadata.get(KEY)
    return [] if before is None else [str(each) for each in differences_from(before, config_text)]


@contextlib.contextmanager
def sole_writer(folder: Location, run: RunDirectory) -> Iterator[None]:
    """Keep other runs on this machine from writing checkpoints into `folder`; its own folder a run has already, and
    behind a URL nobody can be kept away.

    Raises:
        UserError: another process has it, or it cannot be written.
    """
    if not isinstance(folder, Path) or folder == run.checkpoints_path:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115 (closed by the `with` below)
    except OSError as error:
        raise errors.cannot_keep_checkpoints(folder, error.strerror or str(error)) from error
    with lock:
        take(lock, lambda holder: errors.checkpoints_in_use(folder, holder))
        yield


def _without(section: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{prefix}{key}"
        if name in MAY_CHANGE:
            continue
        kept[key] = _without(value, f"{name}.") if isinstance(value, Mapping) else value
    return kept
