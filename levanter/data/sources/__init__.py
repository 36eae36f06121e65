"""Where text comes from, a folder for each source."""

from levanter.data.sources.hf.config import HfDataConfig
from levanter.data.sources.sotu.config import SotuDataConfig
from levanter.data.sources.text.config import TextDataConfig

__all__ = ["HfDataConfig", "SotuDataConfig", "TextDataConfig"]
