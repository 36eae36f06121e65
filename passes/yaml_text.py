"""The nodes of a YAML text, each of which knows its line."""

from collections.abc import Callable
from typing import Any

import yaml

from passes.errors import PlanError

_yaml: Any = yaml


def composed(text: str, unparsable: Callable[[int, str], PlanError]) -> Any:
    """The root node of a text; None where there is nothing in it.

    Args:
        unparsable: the error for a line and the reason why the text cannot be parsed.
    """
    try:
        return _yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise unparsable(mark.line + 1 if mark else 1, error.problem or "it cannot be read") from None
    except yaml.YAMLError as error:
        raise unparsable(1, str(error).splitlines()[0]) from None
