"""Assembler, directives: everything that starts with a dot.

Sections: ``.text .data .bss .rodata .section NAME[, "flags"[, @nobits]] .previous``. Data: ``.byte
.short .hword .half .2byte .word .long .int .4byte .quad .dword .8byte .octa .ascii .asciz .string .space
.skip .zero .fill .incbin``. Place: ``.org .align .balign .p2align``. Symbols: ``.equ .set .equiv
.global .globl .local .weak .type .size .comm .lcomm``. Text: ``.include .macro .endm .exitm .rept .irp
.irpc .endr .if .ifdef .ifndef .ifb .ifnb .ifc .ifnc .ifeq .ifne .iflt .ifle .ifgt .ifge .elseif .else
.endif``. Others: ``.ignore ld_st_style``, ``.push_iset N``, ``.pop_iset``, ``.error``, ``.warning``,
``.end``; ``.file .ident .loc .cfi_* .line .title`` and the like are accepted and do nothing.

Sizes as in gas for e2k: ``.word`` is 32 bits, ``.align N`` is N bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from e2kemu.cpu.asm_expr import Parser, evaluate
from e2kemu.cpu.asm_lexer import Trouble
from e2kemu.cpu.asm_macros import irp, macro, rept, stray
from e2kemu.cpu.asm_operands import constant

if TYPE_CHECKING:
    from e2kemu.cpu.asm import Assembler

MAX_SECTION = 1 << 30
"""Largest section: a slip in ``.org`` or ``.skip`` shall not eat the host's memory."""

_SIZES = {
    ".byte": 1,
    ".short": 2,
    ".hword": 2,
    ".half": 2,
    ".2byte": 2,
    ".word": 4,
    ".long": 4,
    ".int": 4,
    ".4byte": 4,
    ".quad": 8,
    ".dword": 8,
    ".8byte": 8,
    ".octa": 16,
}
_IGNORED = {
    ".file",
    ".ident",
    ".loc",
    ".line",
    ".title",
    ".sbttl",
    ".list",
    ".nolist",
    ".hidden",
    ".protected",
    ".internal",
    ".version",
    ".popsection_note",
}
_KNOWN = {".text": "ax", ".rodata": "a", ".data": "aw", ".bss": "aw"}


@dataclass
class Conditions:
    """Nested ``.if``: each level is [taking lines now, some branch was taken, outer is live, line]."""

    levels: list[list[int]] = field(default_factory=list)

    @property
    def live(self) -> bool:
        return not self.levels or bool(self.levels[-1][0])


def run(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    """Obey the directive ``name``; ``text`` is the rest of its statement as written. Raises Trouble."""
    if name in _SIZES:
        _data(asm, _SIZES[name], parser)
    elif name in _TABLE:
        _TABLE[name](asm, name, parser, text)
    elif name in _IGNORED or name.startswith(".cfi_"):
        parser.at = len(parser.toks)
    elif name in _KNOWN:
        asm.switch(name, _KNOWN[name], name == ".bss")
    else:
        raise Trouble(f"unknown directive {name}", 0)
    if not parser.done:
        raise Trouble(f"{name}: unexpected {parser.describe()}", parser.column)


def condition(asm: Assembler, name: str, parser: Parser, text: str) -> bool:
    """Handle ``.if`` and its relatives, dead or alive; False when ``name`` is none of them."""
    levels = asm.conditions.levels
    if name.startswith(".if"):
        live = asm.conditions.live
        truth = live and _truth(asm, name, parser, text)
        levels.append([int(truth), int(truth), int(live), asm.reader.line])
    elif name in (".else", ".elseif"):
        if not levels:
            raise Trouble(f"{name} without .if")
        level = levels[-1]
        truth = bool(level[2]) and not level[1] and (name == ".else" or _truth(asm, ".if", parser, text))
        level[0] = int(truth)
        level[1] |= level[0]
    elif name == ".endif":
        if not levels:
            raise Trouble(".endif without .if")
        levels.pop()
    else:
        return False
    return True


_COMPARISONS: dict[str, Callable[[int], bool]] = {
    ".if": lambda v: v != 0,
    ".ifne": lambda v: v != 0,
    ".ifeq": lambda v: v == 0,
    ".iflt": lambda v: v < 0,
    ".ifle": lambda v: v <= 0,
    ".ifgt": lambda v: v > 0,
    ".ifge": lambda v: v >= 0,
}


def _truth(asm: Assembler, name: str, parser: Parser, text: str) -> bool:
    if name in (".ifdef", ".ifndef"):
        symbol = asm.symbols.get(text.strip())
        known = (
            symbol is not None and (symbol.defined or symbol.tree is not None)
        ) or text.strip() in asm.reader.macros
        return known == (name == ".ifdef")
    if name in (".ifb", ".ifnb"):
        return (not text.strip()) == (name == ".ifb")
    if name in (".ifc", ".ifnc", ".ifeqs", ".ifnes"):
        left, _, right = text.partition(",")
        same = left.strip().strip("\"'") == right.strip().strip("\"'")
        return same == (name in (".ifc", ".ifeqs"))
    if name in _COMPARISONS:
        value = evaluate(parser.expression())
        if value is None or value.base is not None:
            raise Trouble(f"{name} needs an expression whose value is known here", parser.column)
        if not parser.done:
            raise Trouble(f"{name}: unexpected {parser.describe()}", parser.column)
        return _COMPARISONS[name](value.offset)
    raise Trouble(f"unknown directive {name}", 0)


# --- data ------------------------------------------------------------------------------------------


def _data(asm: Assembler, size: int, parser: Parser) -> None:
    if parser.done:
        return
    while True:
        asm.put_value(parser.expression(), size, parser.column)
        if not parser.take(","):
            return


def _ascii(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    while not parser.done:
        kind, value, column = parser.toks[parser.at]
        if kind != "str":
            raise Trouble(f"{name} needs a string, found {parser.describe()}", column)
        parser.at += 1
        asm.put(value + (b"" if name == ".ascii" else b"\0"))
        if not parser.take(","):
            return


def _space(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    size = constant(parser, "the size", 0, MAX_SECTION)
    fill = constant(parser, "the fill byte", -128, 255) & 0xFF if parser.take(",") else 0
    asm.put_fill(size, fill)


def _fill(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    count = constant(parser, "the count", 0, MAX_SECTION)
    size = constant(parser, "the size", 0, 8) if parser.take(",") else 1
    value = constant(parser, "the value", -(1 << 63), (1 << 64) - 1) if parser.take(",") else 0
    if value == 0:
        asm.put_fill(count * size, 0)
    else:
        asm.put((value & (1 << 8 * size) - 1).to_bytes(size, "little") * count)


def _incbin(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    path = _string(parser, name)
    skip = constant(parser, "the offset", 0, MAX_SECTION) if parser.take(",") else 0
    count = constant(parser, "the count", 0, MAX_SECTION) if parser.take(",") else MAX_SECTION
    try:
        data = asm.reader.find(path).read_bytes()
    except OSError as error:
        raise Trouble(f"cannot read {path}: {error}") from None
    asm.put(data[skip : skip + count])


def _string(parser: Parser, name: str) -> str:
    if parser.done or parser.toks[parser.at][0] != "str":
        raise Trouble(f"{name} needs a string, found {parser.describe()}", parser.column)
    value: bytes = parser.toks[parser.at][1]
    parser.at += 1
    return value.decode("utf-8", "replace")


# --- place and sections ----------------------------------------------------------------------------


def _align(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    if parser.done:
        return
    if name == ".p2align":
        size = 1 << constant(parser, "the power of two", 0, 24)
    else:
        size = constant(parser, "the alignment", 0, 1 << 24) or 1
        if size & size - 1:
            raise Trouble(f"alignment {size} is not a power of two", 0)
    fill = 0
    if parser.take(",") and parser.starts_expression():
        fill = constant(parser, "the fill byte", -128, 255) & 0xFF
    limit = constant(parser, "the limit", 0, MAX_SECTION) if parser.take(",") else MAX_SECTION
    section = asm.section
    need = -section.size % size
    if need <= limit:
        section.align = max(section.align, size)
        asm.put_fill(need, fill)


def _org(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    """``.org`` moves forward within the section; an absolute expression is an offset in it."""
    column = parser.column
    value = evaluate(parser.expression())
    fill = constant(parser, "the fill byte", -128, 255) & 0xFF if parser.take(",") else 0
    if value is None or value.base not in (None, asm.section):
        raise Trouble(".org needs an offset in this section", column)
    if value.offset < asm.section.size:
        raise Trouble(f".org cannot go back from {asm.section.size:#x} to {value.offset:#x}", column)
    asm.put_fill(value.offset - asm.section.size, fill)


def _section(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    if parser.done:
        raise Trouble(".section needs a name", 0)
    kind, value, _ = parser.toks[parser.at]
    parser.at += 1
    section = value.decode("utf-8", "replace") if kind == "str" else str(value)
    flags, nobits = None, None
    if parser.take(","):
        flags = _string(parser, name)
        if parser.take(","):
            while not parser.done:
                nobits = nobits or parser.toks[parser.at][1] == "nobits"
                parser.at += 1
    stem = "." + section.split(".")[1] if section.startswith(".") and len(section) > 1 else section
    asm.switch(
        section,
        _KNOWN.get(stem, "a") if flags is None else flags,
        stem == ".bss" if nobits is None else bool(nobits),
    )


def _previous(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    asm.section, asm.last_section = asm.last_section, asm.section


# --- symbols ---------------------------------------------------------------------------------------


def _names(parser: Parser, name: str) -> list[str]:
    found = []
    while True:
        if parser.done or parser.toks[parser.at][0] != "id":
            raise Trouble(f"{name} needs a symbol, found {parser.describe()}", parser.column)
        found.append(str(parser.toks[parser.at][1]))
        parser.at += 1
        if not parser.take(","):
            return found


def _binding(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    for symbol in _names(parser, name):
        asm.symbol(symbol).binding = "global" if name == ".globl" else name[1:]


def _one_name(parser: Parser, name: str) -> str:
    if parser.done or parser.toks[parser.at][0] != "id":
        raise Trouble(f"{name} needs a symbol, found {parser.describe()}", parser.column)
    parser.at += 1
    return str(parser.toks[parser.at - 1][1])


def _equ(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    column = parser.column
    symbol = _one_name(parser, name)
    parser.need(",")
    asm.set_symbol(symbol, parser.expression(), column, once=name == ".equiv")


def _type(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    symbol = asm.symbol(_one_name(parser, name))
    parser.take(",")
    while not parser.done:
        symbol.type = str(parser.toks[parser.at][1])
        parser.at += 1


def _size(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    symbol = asm.symbol(_one_name(parser, name))
    parser.need(",")
    value = evaluate(parser.expression())
    symbol.size = value.offset if value is not None and value.base is None else 0


def _comm(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    symbol = _one_name(parser, name)
    parser.need(",")
    size = constant(parser, "the size", 0, MAX_SECTION)
    align = constant(parser, "the alignment", 1, 1 << 24) if parser.take(",") else 8
    keep = asm.section, asm.last_section
    asm.switch(".bss", "aw", True)
    asm.put_fill(-asm.section.size % align, 0)
    asm.section.align = max(asm.section.align, align)
    asm.label(symbol, 0)
    asm.put_fill(size, 0)
    asm.section, asm.last_section = keep


# --- text ------------------------------------------------------------------------------------------


def _include(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    asm.reader.include(_string(parser, name))


# --- others ----------------------------------------------------------------------------------------


def _ignore(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    what = _one_name(parser, name)
    if what != "ld_st_style":
        raise Trouble(f".ignore {what} is not known", 0)
    asm.value_last = True


def _iset(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    if name == ".pop_iset":
        if not asm.versions:
            raise Trouble(".pop_iset without .push_iset", 0)
        asm.version = asm.versions.pop()
    else:
        version = constant(parser, "the instruction set", 2, 7)
        asm.versions.append(asm.version)
        asm.version = version


def _message(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    parser.at = len(parser.toks)
    if name != ".warning":
        raise Trouble(f"{name} {text.strip()}", 0)


def _end(asm: Assembler, name: str, parser: Parser, text: str) -> None:
    asm.ended = True


_TABLE: dict[str, Callable[[Assembler, str, Parser, str], None]] = {
    **dict.fromkeys((".ascii", ".asciz", ".string"), _ascii),
    **dict.fromkeys((".space", ".skip", ".zero"), _space),
    ".fill": _fill,
    ".incbin": _incbin,
    ".align": _align,
    ".balign": _align,
    ".p2align": _align,
    ".org": _org,
    ".section": _section,
    ".previous": _previous,
    ".equ": _equ,
    ".set": _equ,
    ".equiv": _equ,
    **dict.fromkeys((".global", ".globl", ".local", ".weak"), _binding),
    ".type": _type,
    ".size": _size,
    ".comm": _comm,
    ".lcomm": _comm,
    ".include": _include,
    ".macro": macro,
    ".rept": rept,
    ".irp": irp,
    ".irpc": irp,
    ".endm": stray,
    ".endr": stray,
    ".exitm": stray,
    ".ignore": _ignore,
    ".push_iset": _iset,
    ".pop_iset": _iset,
    ".error": _message,
    ".err": _message,
    ".warning": _message,
    ".end": _end,
}
