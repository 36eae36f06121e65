"""Packages that come with an extra of ours and that a light installation does without.

Each is imported where it is first needed, by `require`, so that what is missing is named there with the command that
installs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from levanter import errors


def require(package: str, what: str, extra: str) -> Any:
    """The module `package`, imported.

    Args:
        what: what needs it, as the subject of the message.
        extra: the extra of this distribution that installs it.

    Raises:
        UserError: it is not installed. An import that fails inside it is raised as it is.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise errors.package_missing(package, what, extra) from None
