"""The words of the text form: how names, numbers and strings look, and a scanner that cuts a text into them.

The printer and the parser share what is here, so that a word is written in quotes exactly where it could not be read
back without them. A newline is a word too: one line is one thing.
"""

import re
from math import inf, nan
from typing import Literal, NamedTuple, cast

_OCCURRENCE = r"'*(?:\[\d+:\d+(?::\d+)?\]'*)*"  # see `ir.names`
_MADE = r"(?:~\d+)?"
_NAME = rf"[^\W\d]\w*{_MADE}{_OCCURRENCE}(?:[*/+]\w+{_MADE}{_OCCURRENCE})*"
_FINITE = r"\d+(?:\.(?!\.)\d*)?(?:[eE][+-]?\d+)?"
_PART = rf"(?:{_FINITE}|inf|nan)"
_NUMBER = rf"\([+-]?{_PART}[+-]{_PART}j\)|(?:[+-]?{_FINITE}|[+-](?:inf|nan))j?(?!\w)"
_COMMENT_LINES = r"(?:[ \t\r]*(?:#[^\n]*)?\n)*(?:[ \t\r]*#[^\n]*\Z)?"

_WORD = re.compile(
    rf"""(?P<newline>\n{_COMMENT_LINES})
    |(?P<value>%-?\d+)
    |(?P<number>{_NUMBER})
    |(?P<name>{_NAME})
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<mark>->|--|\.\.|[\#(){{}}\[\]<>=:,.@])
    |(?P<end>\Z)
    |(?P<unknown>"[^\n]*|\w+|\S)""".replace("\n    ", "")
)
_BLANK = re.compile(r"[ \t\r]*")
_FIRST_LINES = re.compile(_COMMENT_LINES)
_REST = re.compile(r"[^\n]*")

_PLAIN_NAME = re.compile(_NAME)
_PLAIN_SCALAR = re.compile(rf"{_NUMBER}|{_NAME}")
_PLAIN_DTYPE = re.compile(rf"{_NAME}(?:<{_NAME}>)?")
_PATH_CHARACTER = r"[^\s\"#(]"
_PATH = re.compile(rf"{_PATH_CHARACTER}+")
_PLAIN_PATH = re.compile(rf"[\w\[./'<*]{_PATH_CHARACTER}*")
_PLAIN_FILE = re.compile(r"[^\s\"](?:.*\S)?")

# What a bare word means as the value of an attribute; every other word is a string.
ATTRIBUTE_WORDS: dict[str, bool | float] = {"true": True, "false": False, "inf": inf, "nan": nan}

_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_UNESCAPES = {escape[1]: character for character, escape in _ESCAPES.items()}
_ESCAPE = re.compile(r"\\(?:u\{([0-9a-fA-F]{1,6})\}|(.))")

Kind = Literal["newline", "value", "number", "name", "string", "mark", "end", "unknown"]


class Token(NamedTuple):
    """A word of the text, from `start` up to `end`."""

    kind: Kind
    text: str
    start: int
    end: int


class Scanner:
    """Cuts a text into tokens, one at a time. Setting `position` back reads them again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = _end_of(_FIRST_LINES, text, 0)
        self._at = -1
        self._token = Token("end", "", 0, 0)

    def peek(self) -> Token:
        """The next token, which stays the next one."""
        if self._at != self.position:
            match = _WORD.match(self.text, _end_of(_BLANK, self.text, self.position))
            assert match is not None and match.lastgroup is not None
            self._token = Token(cast(Kind, match.lastgroup), match.group(), match.start(), match.end())
            self._at = self.position
        return self._token

    def take(self) -> Token:
        """The next token, now read."""
        token = self.peek()
        self.position = token.end
        return token

    def take_path(self) -> str:
        """The next stretch without a blank, a quote, `#` or `(`."""
        return self._take_stretch(_PATH)

    def take_line(self) -> str:
        """What is left of the line, as it stands, without the blanks around it."""
        return self._take_stretch(_REST).rstrip(" \t\r")

    def _take_stretch(self, pattern: re.Pattern[str]) -> str:
        start = _end_of(_BLANK, self.text, self.position)
        self.position = _end_of(pattern, self.text, start)
        return self.text[start : self.position]


def _end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def quote(text: str) -> str:
    """Any text on one line, in double quotes; what does not print is escaped."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in text) + '"'


def unquote(quoted: str) -> str:
    """The inverse of `quote`. Raises ValueError with the first escape that means nothing."""

    def character(match: re.Match[str]) -> str:
        code, letter = match.groups()
        if code is None and letter not in _UNESCAPES or code is not None and int(code, 16) > 0x10FFFF:
            raise ValueError(match.group())
        return _UNESCAPES[letter] if code is None else chr(int(code, 16))

    return _ESCAPE.sub(character, quoted[1:-1])


def name_text(name: str) -> str:
    """A name, bare where it is a plain identifier. `_` alone means "no name", so a dim called `_` is quoted."""
    return name if _PLAIN_NAME.fullmatch(name) and name != "_" else quote(name)


def scalar_text(text: str) -> str:
    """The text of a constant, bare where it is a number or a word."""
    return text if _PLAIN_SCALAR.fullmatch(text) else quote(text)


def dtype_text(dtype: str) -> str:
    """The short form of a dtype, bare where it is a plain one such as `f32` or `key<fry>`."""
    return dtype if _PLAIN_DTYPE.fullmatch(dtype) else quote(dtype)


def path_text(path: str) -> str:
    """Where a value stands in the arguments, bare where it has no blank, quote, `#` or `(`."""
    return path if _PLAIN_PATH.fullmatch(path) and path.isprintable() else quote(path)


def file_text(file: str) -> str:
    """A file name, bare unless it starts or ends with a blank, starts with a quote, or does not print."""
    return file if _PLAIN_FILE.fullmatch(file) and file.isprintable() else quote(file)
