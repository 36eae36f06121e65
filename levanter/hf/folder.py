"""A Hugging Face model folder: found by path or by id, and what config.json in it says. No JAX here."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levanter.hf import errors
from levanter.hf.family import HfFamily, family_of_type
from levanter.optional import require

if TYPE_CHECKING:
    from levanter.models.config import ModelConfig, TaskConfig

CONFIG, GENERATION = "config.json", "generation_config.json"
COMPANIONS = (
    *(CONFIG, GENERATION, "tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*"),
    *("vocab.*", "merges.txt", "*.tiktoken", "spiece.model", "sentencepiece*", "normalizer.json"),
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json", "*.jinja"),
)
"""What belongs to a model besides its weights and travels with it."""

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "spiece.model")


@dataclass(frozen=True)
class HfFolder:
    """A model folder on this machine; `source` is what the user called it."""

    path: Path
    source: str

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json says.

        Raises:
            UserError: there is none, or it is not a JSON object.
        """
        if not (self.path / CONFIG).is_file():
            raise errors.no_config(self.path, sorted(entry.name for entry in self.path.iterdir()))
        return read_json(self.path / CONFIG)

    @cached_property
    def family(self) -> HfFamily:
        """The family that config.json names.

        Raises:
            UserError: none of ours is it, or the weights are quantized.
        """
        if quantization := self.config.get("quantization_config"):
            raise errors.quantized(self.path, quantization.get("quant_method", "an unknown method"))
        return family_of_type(self.config, self.path)

    def model_config(self) -> ModelConfig | TaskConfig:
        """Our config of this model, with `initialize_from` set to the folder.

        Raises:
            UserError: the family has something that our model cannot compute, or a field is missing.
        """
        return dataclasses.replace(self.family.config_from_hf(self.config), initialize_from=self.source)

    @property
    def has_tokenizer(self) -> bool:
        """Whether there are files of a tokenizer."""
        return any((self.path / name).is_file() for name in _TOKENIZERS)

    def companions(self) -> list[Path]:
        """The files that travel with the weights: config, tokenizer, chat template, generation config; by name."""
        found = {path for pattern in COMPANIONS for path in self.path.glob(pattern) if path.is_file()}
        return sorted(found)


def open_folder(path_or_id: str) -> HfFolder:
    """The model folder at a path, or of an id on the Hugging Face hub, downloaded where it is not here already.

    Raises:
        UserError: there is no such folder, or the id cannot be had.
    """
    path = Path(path_or_id).expanduser()
    if path.is_dir():
        return HfFolder(path, path_or_id)
    if path_or_id.startswith((".", "/", "~")) or path_or_id.count("/") > 1 or path.exists():
        raise errors.no_folder(path_or_id)
    hub = require("huggingface_hub", f"the model `{path_or_id}` of the Hugging Face hub", "hf")
    try:
        found = hub.snapshot_download(
            path_or_id,
            allow_patterns=["*.safetensors", "*.safetensors.index.json", *COMPANIONS],
            # The same weights once more, as their authors had them, and parts of other libraries.
            ignore_patterns=["consolidated*", "*/*"],
        )
        return HfFolder(Path(found), path_or_id)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise errors.cannot_download(path_or_id, reason) from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise errors.unreadable_json(path, str(error)) from error
    if not isinstance(found, dict):
        raise errors.unreadable_json(path, "it is not an object")
    return found
