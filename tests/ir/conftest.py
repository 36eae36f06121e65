"""Makes the helpers here and tests/passes/step_models.py importable: importlib mode adds no folder to the path."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "passes")]
