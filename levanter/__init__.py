"""The runtime: it drives a compiled training step over data, checkpoints, trackers and the command line."""
