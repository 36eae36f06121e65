"""Models. `config` is plain data and light to import; each model has a file of its own beside it."""

from levanter.models.config import Gpt2Config, ModelConfig

__all__ = ["Gpt2Config", "ModelConfig"]
