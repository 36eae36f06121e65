"""The nearest of some names to one that is not among them: what every package's "did you mean" says."""

import difflib
from collections.abc import Iterable


def nearest_name(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` most likely meant; None where none is near."""
    close = difflib.get_close_matches(name, list(candidates), n=1)
    return close[0] if close else None


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`; did you mean `embed`?` where a candidate is near, else the empty string."""
    close = nearest_name(name, candidates)
    return f"; did you mean `{close}`?" if close else ""
