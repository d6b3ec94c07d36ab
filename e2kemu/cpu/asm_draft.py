"""Assembler, a wide instruction under construction: what the operations' parsers fill in.

``Draft`` collects the operations of one wide instruction as they are read; ``asm_wide`` makes an
``insn.Wide`` of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from e2kemu.cpu.asm_expr import Parser, Tree
from e2kemu.cpu.asm_lexer import Trouble
from e2kemu.cpu.asm_operands import Immediate, constant
from e2kemu.cpu.insn import Condition, Cs0, Guard, Mova
from e2kemu.cpu.isa.notation import Op


@dataclass
class AluDraft:
    """An ALC operation; ``rows`` are the encodings that its operands allow."""

    name: str
    column: int
    rows: tuple[Op, ...]
    channel: int | None
    sm: bool
    operands: dict[str, Any] = field(default_factory=dict)
    mas: int = 0
    guards: tuple[Guard, ...] = ()
    merge: tuple[Guard, ...] = ()
    increment: tuple[Guard, ...] | None = None


@dataclass
class Draft:
    """A wide instruction under construction. ``target`` is the expression a CS0 displacement waits for."""

    version: int
    value_last: bool
    alu: list[AluDraft] = field(default_factory=list)
    nop: int = 0
    loop_mode: bool = False
    set_mark: bool = False
    stub: dict[str, Any] = field(default_factory=dict)
    ipd: int | None = None
    condition: Condition | None = None  # of ctcond: in place of what the transfer says
    stub_kind: str = ""
    cs0: Cs0 | None = None
    target: Tree = None
    cs1: dict[str, dict[str, int]] = field(default_factory=dict)
    elps: dict[int, int] = field(default_factory=dict)
    clps: dict[int, list[Any]] = field(default_factory=dict)  # n -> [opc, arg0, neg0, arg1, neg1]
    clp_dst: dict[int, int] = field(default_factory=dict)
    movas: dict[int, Mova] = field(default_factory=dict)
    increments: list[tuple[int, int, tuple[Guard, ...], int]] = field(default_factory=list)
    halves: list[bytes] = field(default_factory=list)  # fapb
    immediate: Immediate = field(default_factory=Immediate)
    nops: int = 0  # implicit, outside braces
    empty: bool = True


def fields(parser: Parser, limits: dict[str, int], trailing: bool = False) -> dict[str, int]:
    """``name = value, name = value``; with ``trailing`` an operand follows the last comma."""
    values: dict[str, int] = {}
    while True:
        kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
        if kind != "id" or name not in limits:
            raise Trouble(f"expected one of {', '.join(limits)}, found {parser.describe()}", column)
        if name in values:
            raise Trouble(f"{name} is given twice", column)
        parser.at += 1
        parser.need("=")
        high = limits[name]
        values[name] = constant(parser, name, -(high // 2) - 1 if high > 0xFFFF else 0, high)
        if not parser.take(","):
            if trailing:
                parser.need(",")
            return values
        if trailing and not parser.done and parser.toks[parser.at][0] == "reg":
            return values


def set_stub(draft: Draft, kind: str, column: int, **values: Any) -> None:
    """Set fields of SS; ``kind`` is "1" or "2" where only that format has them."""
    if kind and draft.stub_kind and draft.stub_kind != kind:
        raise Trouble("these operations need two formats of SS", column)
    draft.stub_kind = draft.stub_kind or kind
    for name, value in values.items():
        if name in draft.stub:
            raise Trouble(f"{name} is set twice", column)
        draft.stub[name] = value


def set_condition(draft: Draft, name: str, wanted: Condition, column: int) -> None:
    if "condition" in draft.stub:
        raise Trouble(f"{name}: only one control transfer in a wide instruction", column)
    set_stub(draft, "", column, condition=wanted)
