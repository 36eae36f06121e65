"""Optimizers. `config` is plain data and light to import; `adamw` and `schedule` build what it describes."""

from levanter.optim.config import AdamWConfig, OptimizerConfig

__all__ = ["AdamWConfig", "OptimizerConfig"]
