"""Models: `config` is what all have in common, light to import; each family has a folder of its own beside it.

`LmModel` loads on first use, so that reading a config imports no numerical library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from levanter.models.config import ModelConfig

if TYPE_CHECKING:
    from levanter.models.lm_model import LmModel

__all__ = ["LmModel", "ModelConfig"]


def __getattr__(name: str) -> Any:
    if name != "LmModel":
        raise AttributeError(f"module 'levanter.models' has no attribute '{name}'")
    from levanter.models.lm_model import LmModel

    return LmModel
