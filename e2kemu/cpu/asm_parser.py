"""Assembler, one operation: its mnemonic and tokens -> a part of a wide instruction under construction."""

from __future__ import annotations

from collections.abc import Callable

from e2kemu.cpu import asm_alu, asm_control
from e2kemu.cpu.asm_draft import Draft
from e2kemu.cpu.asm_expr import Parser
from e2kemu.cpu.asm_lexer import Trouble
from e2kemu.cpu.isa.aau import MOVA

_SPECIAL: dict[str, Callable[[Draft, str, int, Parser], None]] = {
    **asm_control.OPERATIONS,
    "incr": asm_alu.incr,
    "fapb": asm_alu.fapb,
    **dict.fromkeys(MOVA.values(), asm_alu.mova),
}
"""Operations that are not rows of the table of the arithmetic-logic channels."""


def parse(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """Add the operation ``name`` (its tokens follow in ``parser``) to ``draft``. Raises Trouble."""
    draft.empty = False
    special = _SPECIAL.get(name)
    if special is not None:
        special(draft, name, column, parser)
    else:
        asm_alu.alu(draft, name, column, parser)
    if not parser.done:
        raise Trouble(f"{name}: unexpected {parser.describe()}", parser.column)
