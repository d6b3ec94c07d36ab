"""Assembler, expressions: tokens -> a tree -> a value, absolute or relative to a section or symbol.

Grammar: C's integer expressions (``|| && == != <> < <= > >= | ^ & << >> + - * / %``, unary
``- + ~ !``, parentheses) over numbers, characters, symbols, ``.`` and local labels ``1b 1f``.
Values are Python integers; only whoever stores one cuts it to its width. Truth is 1, as in C (gas
says -1). A value may be ``section + offset`` or ``undefined symbol + offset``; of these only sums
with numbers and differences within one section are computed at once, the rest waits for the layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from e2kemu.cpu.asm_lexer import Place, Token, Trouble

Tree = Any
"""int | ("sym", Symbol) | ("here", Section, offset) | ("un", op, tree) | ("bin", op, left, right, column)"""


@dataclass(eq=False)
class Section:
    """A section being filled. ``data`` stays empty for one without contents (``.bss``: ``size`` only)."""

    name: str
    flags: str = ""
    nobits: bool = False
    align: int = 1
    data: bytearray = field(default_factory=bytearray)
    size: int = 0
    address: int = 0
    base: int | None = None  # set by .org of an absolute kind: fixed address


@dataclass(eq=False)
class Symbol:
    """A symbol: a label (``section`` + ``value``), a number (``section`` None), an expression whose
    value is not known yet (``tree``), or undefined."""

    name: str
    defined: bool = False
    section: Section | None = None
    value: int = 0
    tree: Tree = None
    binding: str = ""  # "", "global", "local", "weak"
    type: str = ""
    size: int = 0
    place: Place | None = None         # where tree stands
    fixed: bool = False  # label or .equiv: may not be defined again

    @property
    def readable(self) -> str:
        """The name for a message: a local label as it was written."""
        return self.name[1:].partition("\1")[0] + "f" if self.name.startswith("\1") else self.name


@dataclass(frozen=True, slots=True)
class Value:
    """``base`` None: the number ``offset``; else relative to a Section or an undefined Symbol."""

    base: Section | Symbol | None
    offset: int


_LEVELS: tuple[tuple[str, ...], ...] = (
    ("||",),
    ("&&",),
    ("==", "!=", "<>"),
    ("<", "<=", ">", ">="),
    ("|",),
    ("^",),
    ("&",),
    ("<<", ">>"),
    ("+", "-"),
    ("*", "/", "%"),
)
_PRECEDENCE = {op: level for level, ops in enumerate(_LEVELS) for op in ops}


class Parser:
    """Parses expressions from a token list; ``at`` is the position, shared with the statement parser.

    ``symbol`` finds or makes a symbol by name, ``here`` gives the tree of ``.``, ``local`` that of
    ``(number, "b" or "f")``.
    """

    def __init__(
        self,
        toks: list[Token],
        symbol: Callable[[str], Symbol],
        here: Callable[[], Tree],
        local: Callable[[int, str], Symbol],
    ) -> None:
        self.toks, self.at = toks, 0
        self._symbol, self._here, self._local = symbol, here, local

    @property
    def column(self) -> int:
        """Column of the next token (one past the last at the end)."""
        if self.at < len(self.toks):
            return self.toks[self.at][2]
        if not self.toks:
            return 0
        kind, value, column = self.toks[-1]
        width = len(value) if kind in ("id", "op", "local") else len(value) + 1 if kind == "reg" else 1
        return column + width

    def peek(self, value: str) -> bool:
        """Whether the next token is this operator or name."""
        return (
            self.at < len(self.toks)
            and self.toks[self.at][1] == value
            and self.toks[self.at][0] in ("op", "id")
        )

    def take(self, value: str) -> bool:
        """Consume this operator or name if it is next."""
        if self.peek(value):
            self.at += 1
            return True
        return False

    def need(self, value: str) -> None:
        """Consume it or raise Trouble."""
        if not self.take(value):
            raise Trouble(f"expected '{value}', found {self.describe()}", self.column)

    def describe(self) -> str:
        """The next token, for a message."""
        if self.at >= len(self.toks):
            return "the end of the statement"
        kind, value, _ = self.toks[self.at]
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        return f"'{'%' if kind == 'reg' else '@p' if kind == 'at' else ''}{text}'"

    @property
    def done(self) -> bool:
        return self.at >= len(self.toks)

    def starts_expression(self) -> bool:
        """Whether the next token can begin an expression."""
        if self.done:
            return False
        kind, value, _ = self.toks[self.at]
        return kind in ("num", "id", "local") or (kind == "op" and value in ("-", "+", "~", "!", "("))

    def expression(self, level: int = 0, depth: int = 0) -> Tree:
        """Parse one expression of precedence ``level`` or higher."""
        left = self._unary(depth)
        while self.at < len(self.toks):
            kind, op, column = self.toks[self.at]
            binding = _PRECEDENCE.get(op, -1) if kind == "op" else -1
            if binding < level:
                break
            self.at += 1
            left = ("bin", op, left, self.expression(binding + 1, depth + 1), column)
        return left

    def _unary(self, depth: int) -> Tree:
        if self.done or depth > 100:
            raise Trouble(f"expected an expression, found {self.describe()}", self.column)
        kind, value, column = self.toks[self.at]
        if kind == "num":
            self.at += 1
            return value
        if kind == "id":
            self.at += 1
            return self._here() if value == "." else ("sym", self._symbol(value))
        if kind == "local":
            self.at += 1
            return ("sym", self._local(int(value[:-1]), value[-1]))
        if kind == "op" and value in ("-", "+", "~", "!"):
            self.at += 1
            return ("un", value, self._unary(depth + 1))
        if kind == "op" and value == "(":
            self.at += 1
            tree = self.expression(0, depth + 1)
            self.need(")")
            return tree
        raise Trouble(f"expected an expression, found {self.describe()}", column)


def _divide(a: int, b: int, column: int, remainder: bool) -> int:
    if b == 0:
        raise Trouble("division by zero", column)
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return a - quotient * b if remainder else quotient


def _shift(a: int, count: int, column: int, left: bool) -> int:
    if not 0 <= count <= 128:
        raise Trouble(f"shift count {count} is out of range", column)
    return a << count if left else a >> count


_NUMBERS: dict[str, Callable[[int, int, int], int]] = {
    "+": lambda a, b, c: a + b,
    "-": lambda a, b, c: a - b,
    "*": lambda a, b, c: a * b,
    "/": lambda a, b, c: _divide(a, b, c, False),
    "%": lambda a, b, c: _divide(a, b, c, True),
    "<<": lambda a, b, c: _shift(a, b, c, True),
    ">>": lambda a, b, c: _shift(a, b, c, False),
    "&": lambda a, b, c: a & b,
    "|": lambda a, b, c: a | b,
    "^": lambda a, b, c: a ^ b,
    "&&": lambda a, b, c: int(bool(a and b)),
    "||": lambda a, b, c: int(bool(a or b)),
    "==": lambda a, b, c: int(a == b),
    "!=": lambda a, b, c: int(a != b),
    "<>": lambda a, b, c: int(a != b),
    "<": lambda a, b, c: int(a < b),
    "<=": lambda a, b, c: int(a <= b),
    ">": lambda a, b, c: int(a > b),
    ">=": lambda a, b, c: int(a >= b),
}


def evaluate(tree: Tree, final: bool = False, depth: int = 0) -> Value | None:
    """The value of a tree, or None when it needs the layout first.

    With ``final`` sections have addresses: the result is a number, or relative to an undefined
    symbol. Raises Trouble on what has no meaning (division by zero, product of labels).
    """
    if isinstance(tree, int):
        return Value(None, tree)
    kind = tree[0]
    if kind == "sym":
        symbol: Symbol = tree[1]
        if symbol.tree is not None:
            if depth > 50:
                raise Trouble(f"symbol {symbol.name} is defined by itself")
            return evaluate(symbol.tree, final, depth + 1)
        if not symbol.defined:
            return Value(symbol, 0)
        return _placed(symbol.section, symbol.value, final)
    if kind == "here":
        return _placed(tree[1], tree[2], final)
    if kind == "un":
        inner = evaluate(tree[2], final, depth)
        if inner is None or inner.base is not None:
            _later(final, f"'{tree[1]}' of a relocatable value")
            return None
        number = inner.offset
        return Value(None, {"-": -number, "+": number, "~": ~number, "!": int(not number)}[tree[1]])
    _, op, left_tree, right_tree, column = tree
    left, right = evaluate(left_tree, final, depth), evaluate(right_tree, final, depth)
    if left is None or right is None:
        return None
    if left.base is None and right.base is None:
        return Value(None, _NUMBERS[op](left.offset, right.offset, column))
    if op == "+" and (left.base is None or right.base is None):
        return Value(left.base or right.base, left.offset + right.offset)
    if op == "-" and right.base is None:
        return Value(left.base, left.offset - right.offset)
    if left.base is right.base and op in ("-", "==", "!=", "<>", "<", "<=", ">", ">="):
        return Value(None, _NUMBERS[op](left.offset, right.offset, column))
    _later(final, f"'{op}' cannot join {_name(left)} and {_name(right)}", column)
    return None


def _name(value: Value) -> str:
    return "a number" if value.base is None else value.base.name


def _placed(section: Section | None, value: int, final: bool) -> Value:
    if section is None:
        return Value(None, value)
    return Value(None, section.address + value) if final else Value(section, value)


def _later(final: bool, reason: str, column: int = 0) -> None:
    if final:
        raise Trouble(reason, column)
