"""The record of a run, `metrics.jsonl`."""
