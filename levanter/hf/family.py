"""A family of Hugging Face models as data: which configs it reads and writes, and where each array lies in the file.

    FAMILY = HfFamily(
        model_types=("gpt2",), architecture="GPT2LMHeadModel", base_prefix="transformer",
        config_from_hf=…, config_to_hf=…, weights=…)

It stands in `hf.py` beside the config of the family, and nothing else has to know of it: `ModelConfig.hf` finds it
there, and `family_of_type` finds the family of a config.json among the registered models. No JAX here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levanter.hf import errors
from levanter.hf.layout import Layout, parse
from levanter.registry import MODELS, TASKS

if TYPE_CHECKING:
    from levanter.models.config import InFolders, ModelConfig, TaskConfig

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Weight:
    """Where one array of ours lies in the file.

    Attributes:
        path: the array's flat name in the model, such as `blocks.attention.q.weight`.
        key: the tensor's name as `save_pretrained` writes it, with a placeholder for each axis of ours that is spread
            over tensors: `model.layers.{layers}.self_attn.q_proj.weight`.
        layout: the dims of the tensor in our axis names; see `levanter.hf.layout`.
        rows: (start, stop), where our array is a range of the tensor's dim `dim`, as in a fused query-key-value.
        first: an axis of which the file may have more than the model: the first ones are read.
    """

    path: str
    key: str
    layout: str
    rows: tuple[int, int] | None = None
    dim: int = 0
    first: str | None = None

    @cached_property
    def parsed(self) -> Layout:
        """The layout."""
        return parse(self.layout)

    @cached_property
    def placeholders(self) -> tuple[str, ...]:
        """The axes that are spread over tensors."""
        return tuple(_PLACEHOLDER.findall(self.key))

    def tensor(self, **places: int) -> str:
        """The tensor's name at a place of every placeholder."""
        return self.key.format(**places)


@dataclass(frozen=True)
class HfFamily:
    """How one family's folders are read and written.

    Attributes:
        model_types: what config.json calls it.
        architecture: what `architectures` in config.json says.
        config_from_hf: config.json → our config. Raises `UserError` for what the model cannot compute.
        config_to_hf: our config → the fields of config.json that describe it.
        weights: our config → all the arrays of the model, in the order of the reference's modules.
        base_prefix: what stands before all names but the head's, and is missing in old files.
        tied: pairs (head, embedding) of tensors that are one where `tie_word_embeddings` is true.
        ignored: patterns of tensors in old files that are no parameters.
        joined: patterns of modules of a file, and what a loaded model calls the module that has them, where
            `transformers` joins the tensors of several.
    """

    model_types: tuple[str, ...]
    architecture: str
    config_from_hf: Callable[[Mapping[str, Any]], ModelConfig | TaskConfig]
    config_to_hf: Callable[[Any], dict[str, Any]]
    weights: Callable[[Any], Sequence[Weight]]
    base_prefix: str = "model"
    tied: tuple[tuple[str, str], ...] = (("lm_head.weight", "model.embed_tokens.weight"),)
    ignored: tuple[str, ...] = (r"(^|\.)rotary_emb\.inv_freq$",)
    joined: tuple[tuple[str, str], ...] = ()

    def ignores(self, tensor: str) -> bool:
        """Whether the tensor is no parameter."""
        return any(re.search(pattern, tensor) for pattern in self.ignored)

    def loaded(self, module: str) -> str:
        """What a loaded model calls a module of a file."""
        for pattern, name in self.joined:
            module = re.sub(pattern, name, module)
        return module


def families() -> Iterator[HfFamily]:
    """The families of all registered models, each once."""
    seen: list[HfFamily] = []
    for kind in (*MODELS.values(), *TASKS.values()):
        family = kind.hf()
        if family is not None and family not in seen:
            seen.append(family)
            yield family


def family_of_type(config: Mapping[str, Any], folder: Path) -> HfFamily:
    """The family of a config.json.

    Raises:
        UserError: there is none, with the list of those that there are.
    """
    model_type = config.get("model_type")
    known: list[str] = []
    for family in families():
        if model_type in family.model_types:
            return family
        known += family.model_types
    raise errors.unknown_model_type(folder, model_type, known)


def family_of(config: InFolders) -> HfFamily:
    """The family of one of our configs.

    Raises:
        UserError: its kind of model has none.
    """
    family = type(config).hf()
    if family is None:
        raise errors.no_family(type(config).__name__)
    return family


def field(config: Mapping[str, Any], name: str, model_type: str) -> Any:
    """A field of config.json that must be there.

    Raises:
        UserError: it is not.
    """
    if config.get(name) is None:
        raise errors.missing_field(model_type, name)
    return config[name]


def only(config: Mapping[str, Any], name: str, supported: Sequence[Any]) -> Any:
    """A field of config.json that our model can compute a few values of; the first one where it is not there.

    Raises:
        UserError: it has another value.
    """
    value = config.get(name, supported[0])
    # `True == 1`: a flag that is given as a number is another value.
    if not any(value == each and type(value) is type(each) for each in supported):
        raise errors.config_unsupported(config.get("model_type"), name, value, supported)
    return value
