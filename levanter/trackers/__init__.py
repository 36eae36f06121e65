"""Where a run's numbers go: `metrics.jsonl` (the record), the console, and Weights & Biases (a mirror)."""

from levanter.trackers.console.progress import ConsoleProgress
from levanter.trackers.metrics_file.metrics_file import MetricsFile
from levanter.trackers.trackers import Tracker, Trackers, open_trackers

__all__ = ["ConsoleProgress", "MetricsFile", "Tracker", "Trackers", "open_trackers"]
