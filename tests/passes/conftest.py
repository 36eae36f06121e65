"""Makes the helpers here and the zoo of tests/ir importable: importlib mode adds no folder to the path."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("passes", "ir")]
