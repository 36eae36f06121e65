"""Dotted command-line overrides: `--optimizer.learning_rate 1e-3`, or `--optimizer.learning_rate=1e-3`."""

from __future__ import annotations

from collections.abc import Sequence

from levanter.config import errors
from levanter.config.document import Document, Mark, parse_value


def parse_overrides(arguments: Sequence[str]) -> Document:
    """The document that the arguments describe; of two values for one field the last wins.

    Raises:
        UserError: an argument is not an option, or an option has no value.
    """
    document = Document()
    position = 0
    while position < len(arguments):
        option, equals, text = arguments[position].partition("=")
        if not option.startswith("--") or option == "--":
            raise errors.not_an_option(arguments[position])
        if not equals:
            position += 1
            if position == len(arguments) or arguments[position].startswith("--"):
                raise errors.option_without_value(option)
            text = arguments[position]
        document = document.updated(_override(option, text))
        position += 1
    return document


def _override(option: str, text: str) -> Document:
    path = tuple(option.removeprefix("--").split("."))
    value = parse_value(text)
    for key in reversed(path):
        value = {key: value}
    return Document(value, {path: Mark("", text, option)})
