"""Arithmetic of the human monitor: ``p $r0 + 4*(0x10 | 1)``, and every numeric argument.

Grammar, loosest first (QEMU's; the logical operators bind tighter than the sum)::

    sum     = logic  { ("+" | "-") logic }
    logic   = product { ("&" | "|" | "^") product }
    product = unary  { ("*" | "/" | "%") unary }
    unary   = ("+" | "-" | "~") unary | "(" sum ")" | "'" char "'" | "$" register | number

Numbers are decimal, 0x hexadecimal or 0 octal; results wrap to signed 64 bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from e2kemu.errors import OptionError

Registers = Callable[[str], int | None]
"""Register name -> value, None when there is no such register."""

_REGISTER = re.compile(r"%?[A-Za-z0-9_.\[\]]+")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9][0-9A-Za-z]*")
_MASK = (1 << 64) - 1


def signed(value: int) -> int:
    """``value`` wrapped to a signed 64-bit integer."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def no_registers(name: str) -> int | None:
    """For monitors without a CPU at hand."""
    return None


class ExpressionReader:
    """Reads one expression from the front of ``text``; ``position`` is then after it and its blanks."""

    def __init__(self, text: str, registers: Registers = no_registers, position: int = 0) -> None:
        self.text = text
        self.position = position
        self._registers = registers
        self._skip()

    def read(self) -> int:
        """The value, signed 64 bits. Raises OptionError with QEMU's words."""
        return signed(self._sum())

    def _skip(self) -> None:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _advance(self, count: int = 1) -> None:
        self.position += count
        self._skip()

    def _operator(self, choices: str) -> str:
        """The next operator if it is one of ``choices``, consumed; "" otherwise."""
        char = self._peek()
        if char and char in choices:
            self._advance()
            return char
        return ""

    def _sum(self) -> int:
        value = self._logic()
        while operator := self._operator("+-"):
            other = self._logic()
            value = value + other if operator == "+" else value - other
        return value

    def _logic(self) -> int:
        value = self._product()
        while operator := self._operator("&|^"):
            other = self._product()
            value = value & other if operator == "&" else value | other if operator == "|" else value ^ other
        return value

    def _product(self) -> int:
        value = self._unary()
        while operator := self._operator("*/%"):
            other = self._unary()
            if operator == "*":
                value *= other
                continue
            if other == 0:
                raise OptionError("division by zero")
            # Towards zero, as C divides; floor division would not.
            quotient = abs(value) // abs(other) * (1 if (value < 0) == (other < 0) else -1)
            value = quotient if operator == "/" else value - quotient * other
        return value

    def _unary(self) -> int:
        operator = self._operator("+-~")
        if operator:
            value = self._unary()
            return value if operator == "+" else -value if operator == "-" else ~value
        if self._operator("("):
            value = self._sum()
            if not self._operator(")"):
                raise OptionError("')' expected")
            return value
        if self._peek() == "'":
            return self._character()
        if self._peek() == "$":
            return self._register()
        return self._number()

    def _character(self) -> int:
        literal = self.text[self.position : self.position + 3]
        if len(literal) < 3 or literal[2] != "'":
            raise OptionError("character constant expected")
        self._advance(3)
        return ord(literal[1])

    def _register(self) -> int:
        match = _REGISTER.match(self.text, self.position + 1)
        value = self._registers(match[0]) if match else None
        if match is None or value is None:
            raise OptionError("unknown register")
        self._advance(match.end() - self.position)
        return signed(value)

    def _number(self) -> int:
        match = _NUMBER.match(self.text, self.position)
        if match is None:
            end = not self._peek()
            raise OptionError("unexpected end of expression" if end else "invalid char in expression")
        digits = match[0].lower()
        try:
            if digits.startswith("0x"):
                value = int(digits, 16)
            else:
                value = int(digits, 8 if len(digits) > 1 and digits.startswith("0") else 10)
        except ValueError:
            raise OptionError("invalid char in expression") from None
        if value > _MASK:
            raise OptionError("number too large")
        self._advance(match.end() - self.position)
        return value


def evaluate(text: str, registers: Registers = no_registers) -> int:
    """The value of ``text``, which must be one expression. Raises OptionError."""
    reader = ExpressionReader(text, registers)
    value = reader.read()
    if reader.position < len(text):
        raise OptionError("invalid char in expression")
    return value
