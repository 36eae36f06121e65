"""Configuration: nested dataclasses, read from YAML and dotted command-line overrides. It imports no JAX."""

from levanter.compiler.question import parse_mesh
from levanter.config.files import DEFAULT_MODEL, find_model, model_names
from levanter.config.loader import dump, load, load_pretrained, loads
from levanter.config.schema import TrainConfig

__all__ = [
    "DEFAULT_MODEL",
    "TrainConfig",
    "dump",
    "find_model",
    "load",
    "load_pretrained",
    "loads",
    "model_names",
    "parse_mesh",
]
