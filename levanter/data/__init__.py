"""Text to batches of token ids: corpora, tokenizers, the token cache and the order of the data.

`build` is the one way in. The names below load on first use, so that reading a config imports no numerical library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levanter.data.config import DataConfig
    from levanter.data.sources.hf.config import HfDataConfig
    from levanter.data.sources.jsonl.config import JsonlDataConfig
    from levanter.data.sources.mixture.config import MixtureDataConfig
    from levanter.data.sources.parquet.config import ParquetDataConfig
    from levanter.data.sources.sotu.config import SotuDataConfig
    from levanter.data.sources.text.config import TextDataConfig
    from levanter.data.token_data import TokenData, build
    from levanter.data.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "DataConfig",
    "HfDataConfig",
    "JsonlDataConfig",
    "MixtureDataConfig",
    "ParquetDataConfig",
    "SotuDataConfig",
    "TextDataConfig",
    "TokenData",
    "Tokenizer",
    "build",
    "load_tokenizer",
]

_HOMES = {
    "DataConfig": "config",
    "HfDataConfig": "sources.hf.config",
    "JsonlDataConfig": "sources.jsonl.config",
    "MixtureDataConfig": "sources.mixture.config",
    "ParquetDataConfig": "sources.parquet.config",
    "SotuDataConfig": "sources.sotu.config",
    "TextDataConfig": "sources.text.config",
    "TokenData": "token_data",
    "Tokenizer": "tokenizer",
    "build": "token_data",
    "load_tokenizer": "tokenizer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'levanter.data' has no attribute '{name}'")
    return getattr(import_module(f"levanter.data.{_HOMES[name]}"), name)
