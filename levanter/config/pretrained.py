"""`model.initialize_from`: fields of a model that are not written are those of the checkpoint that it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import draccus

from levanter.config import errors, kinds
from levanter.config.document import Document
from levanter.errors import UserError
from levanter.hf import errors as hf_errors
from levanter.hf.folder import open_folder
from levanter.models.config import ModelConfig
from levanter.registry import MODELS

_FIELD = "model.initialize_from"


def with_pretrained(written: Document) -> Document:
    """The document over what config.json of its `model.initialize_from` says; as it is where it names none.

    The tokenizer, too, is that of the checkpoint where none is written.

    Raises:
        UserError: the checkpoint cannot be had, is of a kind that is not known, or of another than `model.type`.
    """
    section = written.values.get("model")
    source = section.get("initialize_from") if isinstance(section, Mapping) else None
    if not isinstance(source, str) or not source or _is_complete(section):
        return written
    try:
        folder = open_folder(source)
        config = folder.model_config()
        if not isinstance(config, ModelConfig):
            raise hf_errors.no_language_model(folder.path, folder.config["model_type"])
        fields = _encoded(config)
        given = section.get("type", fields["type"]) if isinstance(section, Mapping) else None
        if given != fields["type"]:
            raise hf_errors.other_type(str(given), fields["type"], source)
    except UserError as error:
        raise errors.in_field(_FIELD, error) from None
    values: dict[str, Any] = {"model": fields}
    if folder.has_tokenizer:
        values["data"] = {"tokenizer": source}
    return Document(values).updated(written)


def _encoded(config: ModelConfig) -> dict[str, Any]:
    return {"type": MODELS.name_of(type(config)), **draccus.encode(config)}


def _is_complete(section: Any) -> bool:
    """Whether every field is written, as in the config.yaml of a run: the checkpoint may be gone by then."""
    kind = section.get("type")
    return kind in MODELS and set(kinds.members(MODELS[kind])) <= set(section)
