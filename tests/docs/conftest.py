"""Makes `pages` and what writes docs/haliax/api importable: importlib mode adds no folder to the path."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "docs" / "haliax")]
pytest.register_assert_rewrite("pages")
