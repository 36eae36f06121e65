"""Where a run's numbers go: `metrics.jsonl` (the record), the console, and Weights & Biases (a mirror)."""

from levanter.tracker.console import ConsoleProgress
from levanter.tracker.metrics_file import MetricsFile
from levanter.tracker.trackers import Tracker, Trackers, open_trackers

__all__ = ["ConsoleProgress", "MetricsFile", "Tracker", "Trackers", "open_trackers"]
