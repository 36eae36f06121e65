"""The version stands once, in pyproject.toml, and every package tells it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import haliax
import levanter
import levanter.version

ROOT = Path(__file__).resolve().parents[1]


def test_both_packages_tell_the_installed_version() -> None:
    assert haliax.__version__ == levanter.__version__ == version("levanter-compiler")


def test_the_version_is_written_in_one_place() -> None:
    sources = [path for name in ("haliax", "ir", "passes", "levanter") for path in (ROOT / name).rglob("*.py")]
    assert [path for path in sources if f'"{levanter.__version__}"' in path.read_text(encoding="utf-8")] == []


def test_importing_levanter_looks_nothing_up() -> None:
    program = "import sys, levanter; print('importlib.metadata' in sys.modules); print(levanter.__version__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"False\n{levanter.__version__}\n"


def test_without_an_installation_the_version_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (haliax.version, levanter.version):
        monkeypatch.setattr(module, "DISTRIBUTION", "no-such-distribution")
        assert module.installed_version() == "0+unknown"


def test_the_package_has_no_other_lazy_name() -> None:
    with pytest.raises(AttributeError, match=r"^module 'levanter' has no attribute 'nope'$"):
        levanter.nope  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
