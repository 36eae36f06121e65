"""Where a run's numbers go: `metrics.jsonl` (the record), the console, and mirrors (Weights &
Biases, TensorBoard, Trackio).

`config` has a section for each, light to import; each has a folder of its own beside it.
"""
