"""What the `config.yaml` of a run has beside the configuration: what a run keeps, and no field of a configuration.

    fixed:        what null meant for some fields when the run started; a resume keeps it
    environment:  what its bits depend on besides
    history:      what each resume has changed

A configuration that is read from such a file has none of it: another run made from it fixes its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from levanter.config.document import Document

_RUN_DIR = ("trainer", "run_dir")
_FILE, _CHECKPOINTS = "config.yaml", "checkpoints"

FIXED, ENVIRONMENT, HISTORY = "fixed", "environment", "history"
KEPT = (FIXED, ENVIRONMENT, HISTORY)


def without_kept(document: Document) -> Document:
    """The document without what a run keeps."""
    return Document(
        split(document.values)[0], {key: mark for key, mark in document.marks.items() if key[:1][0] not in KEPT}
    )


def split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sections of a configuration, and those that a run keeps beside them."""
    config = {name: section for name, section in values.items() if name not in KEPT}
    return config, {name: values[name] for name in KEPT if name in values}


def in_its_place(document: Document, path: Path) -> Document:
    """What is written at `path`; where that is the `config.yaml` of a run directory, the run directory that it names is
    the one that it lies in, which may have moved."""
    run = path.parent
    section, name = _RUN_DIR
    trainer = document.values.get(section)
    if not isinstance(trainer, Mapping) or not trainer.get(name):
        return document
    if path.name != _FILE or not (run / _CHECKPOINTS).is_dir():
        return document
    return Document({**document.values, section: {**trainer, name: str(run)}}, document.marks)
