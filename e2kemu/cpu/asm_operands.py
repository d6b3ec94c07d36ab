"""Assembler, operands: register names, literals, conditions, parsed from tokens.

Register prefixes (``%r1 %dr1 %xr1 %qr1 %qpr1``) name the same byte; the operation decides the width.
"""

from __future__ import annotations

import re

from e2kemu.cpu.asm_expr import Parser, Tree, evaluate
from e2kemu.cpu.asm_lexer import Trouble
from e2kemu.cpu.encode_literals import Symbolic
from e2kemu.cpu.insn import Condition, Guard, Kind, Operand
from e2kemu.cpu.isa.plu import ELP_BGRPRED, ELP_LCNTEX, ELP_PRED

_LIMITS = {"r": (Kind.R, 64), "g": (Kind.G, 32)}
_PREFIXES = ("", "d", "x", "q", "qp")

REGISTERS: dict[str, Operand] = {
    f"{prefix}{letter}{n}": Operand(kind, n)
    for letter, (kind, count) in _LIMITS.items()
    for prefix in _PREFIXES
    for n in range(count)
}
"""``r``, ``g`` registers by name without the percent sign."""

SPECIAL_DST = {
    "ctpr1": Operand(Kind.CTPR, 1),
    "ctpr2": Operand(Kind.CTPR, 2),
    "ctpr3": Operand(Kind.CTPR, 3),
    "tst": Operand(Kind.TST),
    "tc": Operand(Kind.TC),
    "tcd": Operand(Kind.TCD),
    "empty": Operand(Kind.EMPTY),
    "empty.hi": Operand(Kind.EMPTY),
    "empty.lo": Operand(Kind.EMPTY_LO),
}
_ROTATING = frozenset(f"{prefix}b" for prefix in _PREFIXES)
_FORCED = {"_f16s": Kind.LIT16, "_f32s": Kind.LIT32, "_f64": Kind.LIT64}
_SLOTS16 = {"_lts0lo": 0xD0, "_lts1lo": 0xD1, "_lts0hi": 0xD4, "_lts1hi": 0xD5}


def constant(parser: Parser, what: str, low: int = 0, high: int = 0xFFFF_FFFF) -> int:
    """An expression whose value is known now and lies in ``low..high``. Raises Trouble."""
    column = parser.column
    value = evaluate(parser.expression())
    if value is None or value.base is not None:
        raise Trouble(f"{what} must be a number known here", column)
    if not low <= value.offset <= high:
        raise Trouble(f"{what} {value.offset} is not in {low}..{high}", column)
    return value.offset


def register(parser: Parser, what: str) -> Operand:
    """A general register. Raises Trouble, also when the name has a number out of range."""
    if parser.done or parser.toks[parser.at][0] != "reg":
        raise Trouble(f"{what}: expected a register, found {parser.describe()}", parser.column)
    _, name, column = parser.toks[parser.at]
    found = REGISTERS.get(name)
    if found is not None:
        parser.at += 1
        return found
    if name in _ROTATING:
        parser.at += 1
        parser.need("[")
        number = constant(parser, "%b index", 0, 127)
        parser.need("]")
        return Operand(Kind.B, number)
    if name.rstrip("0123456789") in {p + letter for p in _PREFIXES for letter in "rg"} and name[-1].isdigit():
        raise Trouble(f"register %{name} does not exist", column)
    raise Trouble(f"{what}: %{name} is no general register", column)


def destination(parser: Parser) -> Operand:
    """A general register or one of the places only a result may go to."""
    if not parser.done and parser.toks[parser.at][0] == "reg":
        special = SPECIAL_DST.get(parser.toks[parser.at][1])
        if special is not None:
            parser.at += 1
            return special
    return register(parser, "the result")


def predicate(parser: Parser) -> int:
    """``%pred0``..``%pred31``."""
    if not parser.done and parser.toks[parser.at][0] == "reg":
        _, name, column = parser.toks[parser.at]
        number = _numbered(name, "pred")
        if number is not None:
            if number > 31:
                raise Trouble(f"predicate %{name} does not exist", column)
            parser.at += 1
            return number
    raise Trouble(f"expected a predicate, found {parser.describe()}", parser.column)


def _numbered(name: str, stem: str) -> int | None:
    rest = name[len(stem) :]
    return int(rest) if name.startswith(stem) and rest.isdigit() else None


def by_number(name: str, stem: str, limit: int) -> int | None:
    """The number of ``sreg_0x15``, ``aareg_0x1234``: registers that have no name. None: not such a one."""
    match = re.fullmatch(f"{stem}0x([0-9a-f]+)", name)
    return number if match and (number := int(match[1], 16)) <= limit else None


def guard(parser: Parser) -> Guard:
    """``[~]%predN`` or ``[~]%pcntN``."""
    negated = parser.take("~")
    if not parser.done and parser.toks[parser.at][0] == "reg":
        _, name, column = parser.toks[parser.at]
        number = _numbered(name, "pcnt")
        if number is not None:
            if number > 31:
                raise Trouble(f"%{name} does not exist", column)
            parser.at += 1
            return Guard(number, True, negated)
    return Guard(predicate(parser), False, negated)


def guards(parser: Parser) -> tuple[Guard, ...]:
    """What follows ``?`` behind an operation."""
    found = [guard(parser)]
    while parser.take(","):
        found.append(guard(parser))
    return tuple(found)


def elementary(parser: Parser) -> int:
    """The ELP code of ``%predN %lcntex %bgrpred %rndpredN %spredDIGITS``."""
    if parser.done or parser.toks[parser.at][0] != "reg":
        raise Trouble(f"expected an elementary predicate, found {parser.describe()}", parser.column)
    _, name, column = parser.toks[parser.at]
    number = _numbered(name, "rndpred")
    if name == "lcntex" or name == "bgrpred":
        parser.at += 1
        return ELP_LCNTEX if name == "lcntex" else ELP_BGRPRED
    if number is not None:
        if not 1 <= number <= 15:
            raise Trouble(f"%{name} does not exist", column)
        parser.at += 1
        return ELP_BGRPRED + number
    if name.startswith("spred"):
        parser.at += 1
        digits = name[5:]
        while parser.peek(","):
            if parser.at + 1 >= len(parser.toks) or parser.toks[parser.at + 1][0] != "num":
                break
            digits += str(parser.toks[parser.at + 1][1])
            parser.at += 2
        if not digits or any(d not in "012345" for d in digits):
            raise Trouble(f"%{name}: the digits are those of channels 0..5", column)
        return sum({1 << int(d) for d in digits})
    return ELP_PRED + predicate(parser)


class Immediate:
    """Turns values into operands; keeps one ``Symbolic`` per symbolic expression of a bundle."""

    def __init__(self) -> None:
        self.symbols: dict[str, tuple[Symbolic, Tree, int]] = {}

    def operand(self, parser: Parser, bits: int, small: int) -> Operand:
        """A literal for an operand of ``bits``; values below ``small`` need no LTS. Raises Trouble."""
        kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", 0)
        if kind == "id" and name in _FORCED:
            parser.at += 1
            return self._forced(parser, _FORCED[name])
        if kind == "id" and name == "_lt_pack_code":
            parser.at += 1
            return Operand(Kind.LIT32, pack_code(parser))
        tree = parser.expression()
        value = evaluate(tree)
        if value is None or value.base is not None:
            return Operand(Kind.LIT64, self._symbolic(tree, column))
        return number_operand(value.offset, bits, small, column)

    def _symbolic(self, tree: Tree, column: int) -> Symbolic:
        key = _key(tree)
        if key not in self.symbols:
            self.symbols[key] = (Symbolic(0), tree, column)
        return self.symbols[key][0]

    def _forced(self, parser: Parser, kind: Kind) -> Operand:
        code = None
        if parser.take(","):
            _, slot, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
            if kind is Kind.LIT16:
                code = _SLOTS16.get(slot)
            elif slot in ("_lts0", "_lts1", "_lts2", "_lts3")[: 3 if kind is Kind.LIT64 else 4]:
                code = (0xD8 if kind is Kind.LIT32 else 0xDC) + int(slot[4])
            if code is None:
                raise Trouble(f"no literal slot {slot} for this size", column)
            parser.at += 1
        bits = {Kind.LIT16: 16, Kind.LIT32: 32, Kind.LIT64: 64}[kind]
        column = parser.column
        tree = parser.expression()
        value = evaluate(tree)
        if value is None or value.base is not None:
            if kind is not Kind.LIT64:
                raise Trouble("a symbol needs a 64-bit literal", column)
            return Operand(kind, self._symbolic(tree, column), code)
        if not -(1 << bits - 1) <= value.offset < 1 << bits:
            raise Trouble(f"{value.offset:#x} does not fit in {bits} bits", column)
        return Operand(kind, value.offset & (1 << bits) - 1, code)


def number_operand(number: int, bits: int, small: int, column: int = 0) -> Operand:
    """The smallest form of ``number`` for an operand of ``bits``: immediate, 16, 32, 64 bits."""
    if 0 <= number < small:
        return Operand(Kind.IMM, number)
    if not -(1 << bits - 1) <= number < 1 << bits:
        raise Trouble(f"{number:#x} does not fit in {bits} bits", column)
    signed = (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)
    if -0x8000 <= signed < 0x8000:
        return Operand(Kind.LIT16, signed & 0xFFFF)
    if -0x8000_0000 <= signed < 0x8000_0000:
        return Operand(Kind.LIT32, signed & 0xFFFF_FFFF)
    return Operand(Kind.LIT64, signed & 0xFFFF_FFFF_FFFF_FFFF)


_PACK_NAMES = {
    **{f"lt_{name}": n for n, name in enumerate(
        ("shuffle", "extract", "shift", "interleave", "signextend", "zeroextend", "insert"))},
    **{f"lt_{size}": n for n, size in enumerate("bhwd")},
}  # fmt: skip
_PACK_COUNTS = {"d": 2, "w": 4, "h": 8, "b": 16}


def _pack_part(name: str, index: int, value: int) -> int | None:
    """The bits of one ``name[index] = value`` of a pack code, None when there is no such part."""
    width = {"opc": (4, 0), "fmt": (2, 4), "fmt1": (2, 6)}.get(name)
    if width is not None:
        return value << width[1] if index < 0 and value >> width[0] == 0 else None
    kind, _, rest = name.partition("_")
    size, _, part = rest.partition("_")
    count = _PACK_COUNTS.get(size, 0)
    if not 0 <= index < count or part not in ("", "lo", "hi"):
        return None
    if kind == "mask" and not part:
        return value << 8 + index if value < 2 else None
    if kind != "pos":
        return None
    if size == "b":
        return value << 8 if index == 0 and not part and value < 16 else None
    step = 1 if size == "d" else 2
    low, high = value & (1 << step) - 1, value >> step
    if part:
        return (value << 8 + step * index if part == "lo" else value << 24 + index) if not high else None
    return low << 8 + step * index | high << 24 + index if high < 2 else None


def pack_code(parser: Parser) -> int:
    """``[opc=lt_shuffle+fmt=lt_w+pos_w[0]=1]`` behind ``_lt_pack_code``: a 32-bit literal. Raises Trouble."""
    parser.need("[")
    word = 0
    while True:
        kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
        parser.at += 1
        index = -1
        if parser.take("["):
            index = constant(parser, "the index", 0, 15)
            parser.need("]")
        parser.need("=")
        number_kind, value, at = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
        parser.at += 1
        number: int | None = int(value) if number_kind == "num" else _PACK_NAMES.get(str(value))
        if number is None:
            raise Trouble("expected a number or a name of a pack code", at)
        bits = _pack_part(name, index, number) if kind == "id" else None
        if bits is None:
            raise Trouble("no such part of a pack code", column)
        word |= bits
        if parser.take("]"):
            return word
        parser.need("+")


def _key(tree: Tree) -> str:
    """Equal for equal expressions over the same symbols."""
    if isinstance(tree, int):
        return str(tree)
    if tree[0] == "sym":
        return f"s{id(tree[1])}"
    if tree[0] == "here":
        return f"h{id(tree[1])}+{tree[2]}"
    parts = tree[2:3] if tree[0] == "un" else tree[2:4]
    return f"({tree[1]} {' '.join(_key(part) for part in parts)})"


def condition(parser: Parser, mlock: bool = False) -> Condition:
    """What follows ``?`` behind ct, call, ibranch, done: SS ctcond. ``mlock``: rbranch, whose
    condition is ``%MLOCK || ...`` without saying so. Raises Trouble."""
    start = parser.column
    if mlock or _take_name(parser, "MLOCK"):
        if not mlock and not parser.take("||"):
            return Condition(8, 0)
        return _local(parser, 8, 9)
    negated = parser.take("~")
    if not negated and _take_name(parser, "LOOP_END"):
        return Condition(4, 0)
    if not negated and _take_name(parser, "NOT_LOOP_END"):
        return Condition(5, 0)
    number = predicate(parser)
    if parser.take("||"):
        if not _take_name(parser, "LOOP_END"):
            raise Trouble("only %LOOP_END may follow '||'", parser.column)
        return Condition(14 if negated else 6, number)
    if parser.take("&&"):
        if not _take_name(parser, "NOT_LOOP_END"):
            raise Trouble("only %NOT_LOOP_END may follow '&&'", parser.column)
        return Condition(7 if negated else 15, number)
    if parser.peek(","):
        raise Trouble("a control transfer has one condition", start)
    return Condition(3 if negated else 2, number)


def _take_name(parser: Parser, name: str) -> bool:
    """Consume ``%NAME`` or ``#NAME`` if it is next."""
    rest = parser.toks[parser.at : parser.at + 2]
    if rest and rest[0][:2] == ("reg", name):
        parser.at += 1
        return True
    if len(rest) == 2 and rest[0][:2] == ("op", "#") and rest[1][:2] == ("id", name):
        parser.at += 2
        return True
    return False


_ALC_INDEX = {0: 0, 1: 1, 3: 2, 4: 3}


def _local(parser: Parser, trap_type: int, local_type: int) -> Condition:
    """``%dt_al0134``, ``[~]%cmpN``, ``[~]%cmpN || [~]%cmpM``, ``[~]%clpN`` behind ``%MLOCK ||``."""
    negated = parser.take("~")
    kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    parser.at += 1
    if kind == "reg" and name.startswith("dt_al") and not negated and name[5:]:
        if all(c in "0134" for c in name[5:]):
            return Condition(trap_type, sum({1 << _ALC_INDEX[int(c)] for c in name[5:]}))
    elif kind == "reg" and name in ("clp0", "clp1", "clp2"):
        return Condition(local_type, 0x10 | int(name[3]) << 1 | negated)
    elif kind == "reg" and name in ("cmp0", "cmp1", "cmp3", "cmp4"):
        first = int(name[3])
        if not parser.take("||"):
            return Condition(local_type, _ALC_INDEX[first] << 1 | negated)
        second_negated = parser.take("~")
        if first in (0, 3) and not parser.done and parser.toks[parser.at][:2] == ("reg", f"cmp{first + 1}"):
            parser.at += 1
            return Condition(local_type, 0x08 | (first == 3) << 2 | negated << 1 | second_negated)
        column = parser.column
    raise Trouble(
        "expected %dt_al0134, %cmp0 %cmp1 %cmp3 %cmp4 (a pair: 0 and 1, or 3 and 4) or %clp0..2", column
    )
