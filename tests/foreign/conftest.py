"""Makes the package `corpus` and the helpers of tests/passes importable: importlib mode adds no folder to the path."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("foreign", "passes")]
