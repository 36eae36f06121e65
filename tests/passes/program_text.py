"""What XLA is given to compile, as text."""

import hashlib
import re
from typing import Any

_HELPER = re.compile(r"^  func\.func private @(\S+?)\(.*?^  }\n", re.DOTALL | re.MULTILINE)
_CALLED = re.compile(r"@([\w.]+)")


def program_text(jitted: Any, *arguments: Any) -> str:
    """The StableHLO of a jitted function, without the name of the function, the paths of its results, and the names of
    its helper functions, of which JAX writes some twice where it traced them twice."""
    text = jitted.lower(*arguments).as_text()
    text = re.sub(r' \{jax\.result_info = "[^"]*"\}|jax\.result_info = "[^"]*"', "", text)
    return _with_helpers_by_content(re.sub(r"module @\S+", "module", text))


def _with_helpers_by_content(text: str) -> str:
    """The text with each helper function called after what it does, those that others call first, and written once."""
    helpers = {match.group(1): match.group() for match in _HELPER.finditer(text)}
    text = _HELPER.sub("", text)
    known: dict[str, str] = {}
    written: dict[str, str] = {}
    while len(known) < len(helpers):
        ready = [
            name for name, body in helpers.items() if name not in known and _calls(body, helpers) <= {*known, name}
        ]
        assert ready, "helper functions that call each other"
        for name in ready:
            body = _renamed(helpers[name], {**known, name: "itself"})
            known[name] = f"helper_{hashlib.sha256(body.encode()).hexdigest()[:16]}"
            written[known[name]] = body
    return _renamed(text, known) + "".join(written[name] for name in sorted(written))


def _calls(body: str, helpers: dict[str, str]) -> set[str]:
    return {name for name in _CALLED.findall(body) if name in helpers}


def _renamed(text: str, names: dict[str, str]) -> str:
    return _CALLED.sub(lambda match: f"@{names.get(match.group(1), match.group(1))}", text)
