"""The version of the installed distribution; `pyproject.toml` is the one place that it is written."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "levanter-compiler"


def installed_version() -> str:
    """Such as `0.1.0`; `0+unknown` where the packages are on the path without having been installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"


__version__ = installed_version()
