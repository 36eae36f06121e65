"""Adapters: a few weights beside frozen ones. `config` is what all have in common, each kind has a folder."""

from levanter.adapters.config import AdapterConfig

__all__ = ["AdapterConfig"]
