"""Models: `config` is what all have in common, light to import; each family has a folder of its own beside it."""

from levanter.models.config import ModelConfig

__all__ = ["ModelConfig"]
