"""What the compiler refuses, as an error of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import passes
from levanter.errors import UserError, WorkFailed


@contextmanager
def user_errors() -> Iterator[None]:
    """What the compiler refuses is the user's to fix: the same words, as this package's error."""
    try:
        yield
    except (passes.AxisErrors, passes.PlanError, passes.UnknownCode, passes.UnknownPass, passes.BadOption) as error:
        raise UserError(str(error)) from error
    except passes.NotProved as error:
        raise WorkFailed(str(error)) from error
