"""Arguments of HMP commands, read by QEMU's letters: ``"detach:-d,uri:s"`` is a flag and a string.

====== =====================================================================================
F B s  a word (file name, block device, string), may be quoted with ``"`` and backslash escapes
S      the rest of the line
i l    an expression, 32 bits or 64 bits
M      an expression, in mebibytes, given to the handler in bytes
o      a size with a suffix, in mebibytes without one
b      on or off
O      ``key=value,...``, given to the handler as text
/      ``/fmt``: count, format and size letters (``Format``)
-x     the flag ``-x``, in any order before the other arguments
====== =====================================================================================

A ``?`` after the letter makes the argument optional (None).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from e2kemu.errors import OptionError
from e2kemu.monitor.dispatch import HmpCommand
from e2kemu.monitor.expr import ExpressionReader, Registers, no_registers
from e2kemu.options import parse_size

_ESCAPES = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_EXPECTED = {"F": "filename", "B": "block device name", "s": "string", "S": "string", "O": "options"}
FORMATS = "oxdutfci"
SIZES = {"b": 1, "h": 2, "w": 4, "g": 8, "L": 8}


@dataclass(frozen=True)
class Format:
    """A ``/fmt``; ``format`` and ``size`` (bytes) are None when not given."""

    count: int = 1
    format: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Argument:
    """One element of an args_type."""

    name: str
    letter: str
    optional: bool


def arguments(args_type: str) -> list[Argument]:
    """The elements of an args_type; a flag has its own letter after the dash."""
    result = []
    for element in filter(None, args_type.split(",")):
        name, _, letters = element.partition(":")
        result.append(Argument(name, letters.rstrip("?"), letters.endswith("?") or letters.startswith("-")))
    return result


class ArgumentReader:
    """Reads the arguments of ``command`` from the text after its name."""

    def __init__(self, command: HmpCommand, text: str, registers: Registers = no_registers) -> None:
        self._name = command.name
        self._arguments = arguments(command.args_type)
        self._text = text
        self._at = 0
        self._registers = registers
        self._skip()

    def read(self) -> dict[str, Any]:
        """The values by name. Raises OptionError with the line QEMU would print."""
        flags = {a.letter[1]: a.name for a in self._arguments if a.letter.startswith("-")}
        values: dict[str, Any] = dict.fromkeys(flags.values(), False)
        flags_over = not flags
        for argument in self._arguments:
            if argument.letter.startswith("-"):
                continue
            if not flags_over and argument.letter != "/":
                self._read_flags(flags, values)
                flags_over = True
            if argument.optional and self._at == len(self._text):
                values[argument.name] = None
            else:
                values[argument.name] = self._value(argument)
        if not flags_over:
            self._read_flags(flags, values)
        if self._at < len(self._text):
            raise OptionError(f"{self._name}: extraneous characters at the end of line")
        return values

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _read_flags(self, flags: dict[str, str], values: dict[str, Any]) -> None:
        while match := re.compile(r"-(\S)(?=\s|$)").match(self._text, self._at):
            if match[1] not in flags:
                raise OptionError(f"{self._name}: unsupported option -{match[1]}")
            values[flags[match[1]]] = True
            self._at = match.end()
            self._skip()

    def _value(self, argument: Argument) -> Any:
        letter = argument.letter
        if letter == "/":
            return self._format()
        if letter == "S":
            rest = self._text[self._at :].rstrip()
            self._at = len(self._text)
            if not rest:
                raise OptionError(f"{self._name}: string expected")
            return rest
        if letter in "ilM":
            return self._number(letter)
        word = self._word()
        if word is None:
            raise OptionError(f"{self._name}: {_EXPECTED.get(letter, 'string')} expected")
        if letter == "o":
            return parse_size(word, "M", argument.name)
        if letter == "b":
            if word not in ("on", "off"):
                raise OptionError("Expected 'on' or 'off'")
            return word == "on"
        return word

    def _number(self, letter: str) -> int:
        reader = ExpressionReader(self._text, self._registers, self._at)
        value = reader.read()
        self._at = reader.position
        if letter == "i" and not -(1 << 31) <= value < 1 << 32:
            raise OptionError(f"'{self._name}' has failed: integer is for 32-bit values")
        if letter == "M":
            if value < 0:
                raise OptionError("enter a positive value")
            return value << 20
        return value

    def _word(self) -> str | None:
        """The next word, unquoted; None at the end of the line."""
        if self._at == len(self._text):
            return None
        if self._text[self._at] != '"':
            match = re.compile(r"\S+").match(self._text, self._at)
            assert match is not None  # blanks are skipped and it is not the end
            self._at = match.end()
            self._skip()
            return match[0]
        self._at += 1
        word = ""
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 1
            if char == '"':
                self._skip()
                return word
            if char == "\\":
                escaped = self._text[self._at : self._at + 1]
                if escaped not in _ESCAPES or not escaped:
                    raise OptionError(f"unsupported escape code: '\\{escaped}'")
                word += _ESCAPES[escaped]
                self._at += 1
            else:
                word += char
        raise OptionError("unterminated string")

    def _format(self) -> Format:
        if self._text[self._at : self._at + 1] != "/":
            return Format()
        match = re.compile(r"/(\d{0,18})([^\s]*)").match(self._text, self._at)
        assert match is not None  # it begins with a slash
        self._at = match.end()
        self._skip()
        kind: str | None = None
        size: int | None = None
        for char in match[2]:
            if char in FORMATS:
                kind = char
            elif char in SIZES:
                size = SIZES[char]
            else:
                raise OptionError(f"invalid char in format: '{char}'")
        return Format(int(match[1] or 1), kind, size)
