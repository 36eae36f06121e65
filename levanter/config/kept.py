"""What the `config.yaml` of a run has beside the configuration: what a run keeps, and no field of a configuration.

    fixed:        what null meant for some fields when the run started; a resume keeps it
    environment:  what its bits depend on besides
    history:      what each resume has changed

A configuration that is read from such a file has none of it: another run made from it fixes its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.config.document import Document

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
