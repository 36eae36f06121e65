"""Optimizers: `config` is what all have in common, light to import; each has a folder of its own beside it."""

from levanter.optim.config import OptimizerConfig

__all__ = ["OptimizerConfig"]
