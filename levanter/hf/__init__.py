"""Hugging Face in and out: a model folder becomes named arrays, and named arrays become a model folder.

The names below load on first use, so that reading a config imports no numerical library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levanter.hf.exporting import export_model
    from levanter.hf.family import HfFamily, Weight
    from levanter.hf.folder import HfFolder, open_folder
    from levanter.hf.importing import import_model

__all__ = ["HfFamily", "HfFolder", "Weight", "export_model", "import_model", "open_folder"]

_HOMES = {
    "HfFamily": "family",
    "HfFolder": "folder",
    "Weight": "family",
    "export_model": "exporting",
    "import_model": "importing",
    "open_folder": "folder",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'levanter.hf' has no attribute '{name}'")
    return getattr(import_module(f"levanter.hf.{_HOMES[name]}"), name)
