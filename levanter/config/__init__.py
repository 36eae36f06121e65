"""Configuration: nested dataclasses, read from YAML and dotted command-line overrides. It imports no JAX."""

from levanter.config.files import DEFAULT_MODEL, find_model, model_names
from levanter.config.loader import dump, load, loads
from levanter.config.mesh import device_count, mesh_text, parse_mesh
from levanter.config.schema import TrainConfig

__all__ = [
    "DEFAULT_MODEL",
    "TrainConfig",
    "device_count",
    "dump",
    "find_model",
    "load",
    "loads",
    "mesh_text",
    "model_names",
    "parse_mesh",
]
