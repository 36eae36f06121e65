"""Makes `failing_disk` importable: importlib mode adds no folder to the path."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]
