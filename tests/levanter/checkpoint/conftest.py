"""Makes `failing_disk` and `several` importable: importlib mode adds no folder to the path."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]
