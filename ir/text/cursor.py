"""A place in a text that moves on word by word: what the rules of `ir.text.parse` are made of.

Methods called `at_…` look, the others read, and fail with the expected word, the one found, and the shape of the `rule`
that was being read.
"""

from collections.abc import Callable
from typing import NoReturn, TypeVar

from ir import errors
from ir.errors import Rule, Spot
from ir.limits import LARGEST
from ir.text.tokens import Scanner, Token, unquote

_T = TypeVar("_T")

LONGEST = 1000
"""Digits, leading zeros included: Python reads no more than a few thousand."""


class Cursor:
    """A scanner and the few questions that a grammar asks."""

    def __init__(self, text: str) -> None:
        self.scanner = Scanner(text)

    def listing(self, opening: str, closing: str, item: Callable[[], _T], rule: Rule) -> list[_T]:
        """Items between brackets, over as many lines as they take."""
        self.mark(opening, rule)
        self.skip_line()
        items = [] if self.at(closing) else self.separated(item)
        self.skip_line()
        if not self.at(closing):
            self.fail(f"`,` or `{closing}`" if items else f"`{closing}`", rule)
        self.scanner.take()
        return items

    def separated(self, item: Callable[[], _T]) -> list[_T]:
        items = [item()]
        while self.at(","):
            self.scanner.take()
            self.skip_line()
            items.append(item())
        return items

    def name(self, expected: str, rule: Rule) -> str:
        if not self.at_word():
            self.fail(expected, rule)
        return self.word()

    def word(self) -> str:
        """The text of a name or of a string."""
        token = self.scanner.take()
        if token.kind != "string":
            return token.text
        try:
            return unquote(token.text)
        except ValueError as problem:
            raise errors.unknown_escape(self.spot(token), str(problem)) from None

    def integer(self, expected: str, rule: Rule) -> int:
        token = self.scanner.peek()
        if token.kind != "number" or not token.text.removeprefix("-").isdecimal():
            self.fail(expected, rule)
        return self.number(token, self.scanner.take().text)

    def number(self, token: Token, digits: str, most: int | None = LARGEST) -> int:
        """The number that is written so in a token."""
        if len(digits) > LONGEST or (most is not None and abs(int(digits)) > most):
            raise errors.number_too_large(self.spot(token))
        return int(digits)

    def keyword(self, keyword: str, rule: Rule) -> Token:
        if self.scanner.peek().text != keyword:
            self.fail(f"`{keyword}`", rule)
        return self.scanner.take()

    def mark(self, mark: str, rule: Rule) -> None:
        if not self.at(mark):
            self.fail(f"`{mark}`", rule)
        self.scanner.take()

    def line_end(self, rule: Rule) -> None:
        if self.scanner.peek().kind not in ("newline", "end"):
            self.fail("the end of the line", rule)
        self.scanner.take()

    def skip_line(self) -> None:
        if self.scanner.peek().kind == "newline":
            self.scanner.take()

    def at(self, mark: str) -> bool:
        token = self.scanner.peek()
        return token.kind == "mark" and token.text == mark

    def at_close(self) -> bool:
        """Whether a block ends here, by `}` or because the text does."""
        return self.at("}") or self.scanner.peek().kind == "end"

    def at_word(self) -> bool:
        return self.scanner.peek().kind in ("name", "string")

    def at_section(self, name: str) -> bool:
        """Whether the section's name stands alone on its line."""
        start = self.scanner.position
        token = self.scanner.peek()
        if token.kind != "name" or token.text != name:
            return False
        self.scanner.take()
        alone = self.scanner.peek().kind == "newline"
        self.scanner.position = start
        return alone

    def spot(self, token: Token) -> Spot:
        return Spot(self.scanner.text, token.start, token.end)

    def fail(self, expected: str, rule: Rule) -> NoReturn:
        token = self.scanner.peek()
        if token.kind == "unknown" and token.text.startswith('"'):
            raise errors.open_string(self.spot(token))
        raise errors.unexpected(self.spot(token), expected, token.text, rule)
