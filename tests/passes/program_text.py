"""What XLA is given to compile, as text."""

import re
from typing import Any


def program_text(jitted: Any, *arguments: Any) -> str:
    """The StableHLO of a jitted function, without the name of the function and the paths of its results."""
    text = jitted.lower(*arguments).as_text()
    return re.sub(
        r"module @\S+", "module", re.sub(r' \{jax\.result_info = "[^"]*"\}|jax\.result_info = "[^"]*"', "", text)
    )
