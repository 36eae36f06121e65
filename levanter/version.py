"""The version of the installed distribution; `pyproject.toml` is the one place that it is written.

It is looked up when it is asked for: reading the metadata takes a tenth of the time of `levanter --help`. (`haliax` has
the same lines; importing them from there would import JAX.)
"""

from __future__ import annotations

DISTRIBUTION = "levanter-compiler"


def installed_version() -> str:
    """Such as `0.1.0`; `0+unknown` where the packages are on the path without having been installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"


def __getattr__(name: str) -> str:
    """`levanter.__version__`: this function is the package's as well."""
    if name == "__version__":
        return installed_version()
    raise AttributeError(f"module 'levanter' has no attribute '{name}'")
