"""Assembler, first step: one line of text -> tokens with columns; and what a diagnostic looks like.

Tokens are tuples ``(kind, value, column)``, columns from 1. Kinds: ``id`` (names, mnemonics,
directives), ``reg`` (``%dr1``, value without the percent sign), ``num``, ``str`` (bytes, escapes
done), ``local`` (``1f``, ``1b``), ``at`` (``@p4``, value 4), ``op`` (everything else).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from e2kemu.errors import ImageError, one_line

Token = tuple[str, Any, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a source: file name, line from 1, column from 1, text of the line."""

    file: str
    line: int
    column: int
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One complaint. ``str()`` is the line ``file:line:col: error: reason``."""

    place: Place
    reason: str

    def __str__(self) -> str:
        return f"{self.place.file}:{self.place.line}:{self.place.column}: error: {one_line(self.reason)}"

    def render(self) -> str:
        """The complaint, the source line and a caret under the culprit."""
        text = self.place.text.rstrip()
        pad = "".join("\t" if c == "\t" else " " for c in text[: self.place.column - 1])
        return f"{self}\n    {text}\n    {pad}^"


class AsmError(ImageError):
    """A source text that does not assemble. ``str()`` is its first complaint, one line; all of them
    are in ``diagnostics``, and ``render()`` shows them with source lines and carets."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        super().__init__(str(diagnostics[0]))
        self.diagnostics = diagnostics

    def render(self) -> str:
        return "\n".join(d.render() for d in self.diagnostics)


class Trouble(Exception):
    """Internal: a reason and the column it belongs to (0: the statement); becomes a Diagnostic."""

    def __init__(self, reason: str, column: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.column = column


_TOKEN = re.compile(
    r"""[ \t\r\f]*(?:%(?P<reg>[A-Za-z_][\w.]*)
    | (?P<id>[A-Za-z_.$][\w.$]*)
    | (?P<local>\d+[bf](?![\w]))
    | (?P<num>0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)(?![\w])
    | "(?P<str>(?:[^"\\]|\\.)*)"
    | '(?P<chr>\\.|[^\\])'?
    | @p(?P<at>\d+)
    | (?P<op><<|>>|<=|>=|==|!=|<>|&&|\|\||[-+*/%&|^~!?,\[\]{}()=;:<>\#\\@])
    )""",
    re.VERBOSE,
)

_BEFORE = {"reg": 0, "id": 1, "local": 1, "num": 1, "str": 0, "chr": 0, "at": -1, "op": 1}
"""What to add to the start of a group, counted from 0, to get the column of its token."""

_ESCAPES = {"n": 10, "t": 9, "r": 13, "b": 8, "f": 12, "v": 11, "a": 7, "e": 27, "0": 0}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)


def unescape(text: str) -> bytes:
    """The bytes of a string literal's inside: C escapes done, the rest in UTF-8."""
    out, at = bytearray(), 0
    for match in _ESCAPE.finditer(text):
        out += text[at : match.start()].encode()
        at = match.end()
        code = match[1]
        if code[0] == "x" and len(code) > 1:
            out.append(int(code[1:], 16))
        elif code.isdigit() and all(c in "01234567" for c in code):
            out.append(int(code, 8) & 0xFF)
        elif code in _ESCAPES:
            out.append(_ESCAPES[code])
        else:
            out += code.encode()
    return bytes(out + text[at:].encode())


def number(text: str) -> int:
    """A C integer: decimal, 0x hexadecimal, 0b binary, 0 octal. Raises ValueError."""
    if len(text) > 1 and text[0] == "0" and text[1].isdigit():
        return int(text, 8)
    return int(text, 0)


def tokens(line: str) -> list[Token]:
    """The tokens of one line without comments. Raises Trouble at a character that starts none."""
    result: list[Token] = []
    at, match_at = 0, _TOKEN.match
    while (match := match_at(line, at)) is not None:
        kind: Any = match.lastgroup
        value: Any = match[kind]
        column = match.start(kind) + _BEFORE[kind]
        if kind in ("num", "at"):
            try:
                value = number(value)
            except ValueError:
                raise Trouble(f"bad number {value}", column) from None
        elif kind == "str":
            value = unescape(value)
        elif kind == "chr":
            kind, value = "num", unescape(value)[0]
        result.append((kind, value, column))
        at = match.end()
    if rest := line[at:].lstrip(" \t\r\f"):
        what = "unterminated string" if rest[0] == '"' else f"unexpected character {rest[0]!r}"
        raise Trouble(what, len(line) - len(rest) + 1)
    return result
