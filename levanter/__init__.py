"""The runtime: it drives a compiled training step over data, checkpoints, trackers and the command line."""

from levanter.version import __getattr__ as __getattr__
