"""Makes the helpers here and of tests/passes and tests/docs importable: importlib mode adds no folder to the path."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("ir", "passes", "docs")]
