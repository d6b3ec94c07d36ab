"""Assembler, operations of the arithmetic-logic channels and of the array access unit.

Syntax (MCST's gas): ``addd,2,sm %dr1, 8, %dr2 ? ~%pred3``; loads ``ldd [ %dr1 + 8 ], %dr2, mas=7`` or
``ldd %dr1, 8, %dr2``; stores with the value first, or last after ``.ignore ld_st_style``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from e2kemu.cpu.asm_draft import AluDraft, Draft, fields, set_condition
from e2kemu.cpu.asm_expr import Parser
from e2kemu.cpu.asm_lexer import Token, Trouble
from e2kemu.cpu.asm_operands import by_number, condition, constant, destination, guard, guards, predicate, register
from e2kemu.cpu.insn import Aau, Condition, Kind, Mova, Operand
from e2kemu.cpu.isa import aau, mmuregs, registers, table
from e2kemu.cpu.isa.formats import AAU, APS
from e2kemu.cpu.isa.notation import VERSIONS, Op

_MOVA = {name: code for code, name in aau.MOVA.items()}
_WIDTH = {"S": 32}
"""Bits of an operand by its size letter where they are not 64."""


# --- operations of the arithmetic-logic channels ---------------------------------------------------


@cache
def _usable(name: str, version: int) -> tuple[Op, ...]:
    """The rows of a mnemonic in an instruction set."""
    rows = table.by_name(name)
    if not rows and name.endswith("_lt3"):
        rows = table.by_name(name[:-4])
    return tuple(op for op in rows if op.channels[version])


@cache
def _in_channel(name: str, version: int, wanted: int) -> tuple[int, tuple[Op, ...]]:
    """The rows that may issue in channel ``wanted``; the upper channel of a pair means the pair."""
    rows = _usable(name, version)
    for op in rows:
        for pair in op.pair.split("/") if op.pair else ():
            if str(wanted) == pair[1] and op.in_channel(int(pair[0]), version):
                return int(pair[0]), (op,)
    return wanted, tuple(op for op in rows if wanted < 6 and op.in_channel(wanted, version))


@cache
def _alike(rows: tuple[Op, ...]) -> tuple[Op, ...]:
    """Those with the operands of the first one."""
    return tuple(row for row in rows if row.fmt.slots == rows[0].fmt.slots)


def _unusable(name: str, version: int) -> str:
    versions = [v for op in table.by_name(name) for v in VERSIONS if op.channels[v]]
    if not versions:
        return f"unknown instruction {name}"
    if min(versions) > version:
        return f"{name} needs instruction set v{min(versions)}, this is v{version}"
    return f"{name} ended with instruction set v{max(versions)}, this is v{version}"


def _suffixes(parser: Parser) -> tuple[int | None, int, bool]:
    """``,N`` and ``,sm``: the channel, its column, and the speculative mark."""
    channel, column, sm = None, 0, False
    while parser.peek(",") and parser.at + 1 < len(parser.toks):
        kind, value, at = parser.toks[parser.at + 1]
        if kind == "num" and channel is None and not sm:
            channel, column = value, at
        elif (kind, value) == ("id", "sm") and not sm:
            sm = True
        else:
            break
        parser.at += 2
    return channel, column, sm


def alu(draft: Draft, name: str, column: int, parser: Parser) -> None:
    rows = _usable(name, draft.version)
    if not rows:
        raise Trouble(_unusable(name, draft.version), column)
    channel, at, sm = _suffixes(parser)
    if channel is not None:
        wanted = channel
        channel, rows = _in_channel(name, draft.version, wanted)
        if not rows:
            raise Trouble(f"{name} cannot issue in channel {wanted}", at)
    op = rows[0]
    insn = AluDraft(name, column, rows if len(rows) == 1 else _alike(rows), channel, sm)
    draft.nops = max(draft.nops, op.nops)
    if name in ("mmurr", "mmurw"):
        _mmu_operands(draft, insn, op, parser)
    elif name == "icalld":
        _icalld(draft, insn, parser)
    else:
        _operands(draft, insn, op, parser)
    if op.mas_code is not None:
        insn.mas = op.mas_code
    following: Token = parser.toks[parser.at + 1] if parser.at + 1 < len(parser.toks) else ("", "", 0)
    if parser.peek(",") and (following[1] in ("mas", "~") or following[0] == "reg"):
        _tail(insn, op, parser)
    if parser.take("?"):
        if name in ("ibranchd", "icalld"):
            set_condition(draft, name, condition(parser), parser.column)
        else:
            insn.guards = guards(parser)
    elif name in ("ibranchd", "icalld"):
        set_condition(draft, name, Condition(1), parser.column)
    draft.alu.append(insn)


def _tail(insn: AluDraft, op: Op, parser: Parser) -> None:
    """``, mas=N`` and ``, ~%pred4`` (the condition of a merge)."""
    while parser.take(","):
        if parser.take("mas"):
            parser.need("=")
            if not (op.mas or op.load or op.store):
                raise Trouble(f"{insn.name} takes no mas", parser.column)
            insn.mas = constant(parser, "mas", 0, 0x7F)
        else:
            at = parser.column
            if not op.merges:
                raise Trouble(f"{insn.name} has no more operands", at)
            insn.merge = (*insn.merge, guard(parser))


def _bits(op: Op, slot: str) -> int:
    slots = op.fmt.slots
    index = slots.index(slot)
    return _WIDTH.get(op.sizes[index], 64) if index < len(op.sizes) else 64


def _operands(draft: Draft, insn: AluDraft, op: Op, parser: Parser) -> None:
    slots = list(op.fmt.slots)
    if "aau" in slots or "aaldi" in slots:
        _array_operands(draft, insn, op, parser)
        return
    if op.fmt.name in ("ALOPF3", "ALOPF13") and not draft.value_last:
        slots = [slots[2], slots[0], slots[1]]
    first = True
    index = 0
    while index < len(slots):
        slot = slots[index]
        if not first:
            parser.need(",")
        first = False
        if slot == "src1" and parser.peek("[") and (op.load or op.store):
            _address(draft, insn, op, parser)
            index += 2
            continue
        insn.operands[slot] = _operand(draft, insn, op, slot, parser)
        index += 1
        if slot == "src2" and op.imm8:
            parser.need(",")
            insn.operands["imm8"] = constant(parser, "the 8-bit literal", 0, 0xFF)


def _operand(draft: Draft, insn: AluDraft, op: Op, slot: str, parser: Parser) -> Any:
    if slot == "dst":
        return destination(parser)
    if slot == "pred":
        return predicate(parser)
    if slot == "sreg":
        return _state_register(parser, draft.version)
    is_register = not parser.done and parser.toks[parser.at][0] == "reg"
    if slot == "src1" and not is_register:
        return Operand(Kind.IMM, constant(parser, f"{insn.name}: the first operand", 0, 31))
    if slot == "src2" and not is_register:
        return draft.immediate.operand(parser, _bits(op, slot), 16)
    if slot == "src3" and not is_register and op.pack_code and draft.version >= 7:
        operand = draft.immediate.operand(parser, 32, 0)
        return Operand(
            Kind.LIT32,
            operand.value & 0xFFFF_FFFF
            if operand.kind is not Kind.LIT16
            else (operand.value ^ 0x8000) - 0x8000 & 0xFFFF_FFFF,
            operand.code,
        )
    return register(
        parser,
        {
            "src1": "first operand",
            "src2": "second operand",
            "src3": "third operand",
            "src4": "the value to store",
        }[slot],
    )


def _state_register(parser: Parser, version: int) -> int:
    kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    number = by_number(name, "sreg_", 0xFF) if kind == "reg" else None
    if number is not None:
        parser.at += 1
        return number
    if kind != "reg" or name not in registers.BY_NAME:
        raise Trouble(f"expected a state register, found {parser.describe()}", column)
    found = registers.BY_NAME[name]
    if not found.since <= version <= found.until:
        raise Trouble(
            f"state register %{name} needs instruction set v{found.since}, this is v{version}"
            if version < found.since
            else f"state register %{name} ended with v{found.until}",
            column,
        )
    parser.at += 1
    return found.number


def _address(draft: Draft, insn: AluDraft, op: Op, parser: Parser) -> None:
    """``[ reg ]``, ``[ reg + reg ]``, ``[ reg + expr ]``, ``[ expr + reg ]``, ``[ expr ]``."""
    parser.need("[")
    zero = Operand(Kind.IMM, 0)
    bits = _bits(op, "src2")
    if not parser.done and parser.toks[parser.at][0] == "reg":
        insn.operands["src1"] = register(parser, "the address")
        insn.operands["src2"] = zero
        if parser.take("+"):
            if not parser.done and parser.toks[parser.at][0] == "reg":
                insn.operands["src2"] = register(parser, "the address")
            else:
                insn.operands["src2"] = draft.immediate.operand(parser, bits, 16)
        elif parser.peek("-"):
            insn.operands["src2"] = draft.immediate.operand(parser, bits, 16)
    else:
        insn.operands["src1"] = zero
        insn.operands["src2"] = draft.immediate.operand(parser, bits, 16)
        if parser.take("+"):
            insn.operands["src1"] = register(parser, "the address")
    parser.need("]")


def _mmu_operands(draft: Draft, insn: AluDraft, op: Op, parser: Parser) -> None:
    """``mmurr %reg, %drN`` and ``mmurw %drN, %reg`` are ldd and std with the number as address."""
    if op.name == "mmurw":
        insn.operands["src4"] = register(parser, "the value to store")
        parser.need(",")
    kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    found = mmuregs.find(name, draft.version) if kind == "reg" else None
    if found is None:
        raise Trouble(f"expected an MMU register of v{draft.version}, found {parser.describe()}", column)
    parser.at += 1
    insn.operands["src1"] = Operand(Kind.IMM, 0)
    insn.operands["src2"] = Operand(Kind.LIT32, found.address) if found.address else Operand(Kind.IMM, 0)
    insn.mas = found.mas
    if op.name == "mmurr":
        parser.need(",")
        insn.operands["dst"] = destination(parser)
    if insn.channel is None:
        insn.channel = found.read_channel if op.name == "mmurr" else 2
    insn.rows = _usable(op.alias_of, draft.version)


def _icalld(draft: Draft, insn: AluDraft, parser: Parser) -> None:
    parser.need("wbs")
    parser.need("=")
    insn.operands["imm8"] = constant(parser, "wbs", 0, 0x7F)
    parser.need(",")
    insn.operands["src2"] = _operand(draft, insn, insn.rows[0], "src2", parser)
    parser.need(",")
    insn.operands["dst"] = destination(parser)


# --- array operations ------------------------------------------------------------------------------


def _array_operands(draft: Draft, insn: AluDraft, op: Op, parser: Parser) -> None:
    """``staad %dr1, %aad3 [ %aasti1 + 8 ]``, ``ldaad %aad3 [ %aasti1 ], %dr1``, ``aaurwd %dr1, %aad3``."""
    value = None
    if op.fmt.name == "ALOPF10":
        value = register(parser, "the value to store")
        parser.need(",")
    kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    opce1 = aau.REGISTERS.get(f"%{name}", by_number(name, "aareg_", 0xFFFF)) if kind == "reg" else None
    if opce1 is None:
        raise Trouble(f"expected an array register, found {parser.describe()}", column)
    parser.at += 1
    array = Aau(opce1)
    if op.mas_code is None:
        array = _array_address(name, opce1, column, parser)
    insn.operands["aau"] = array
    if op.fmt.name == "ALOPF10":
        insn.operands["src4"] = value
    else:
        parser.need(",")
        insn.operands["dst"] = destination(parser)


def _array_address(name: str, opce1: int, column: int, parser: Parser) -> Aau:
    if not name.startswith("aad") or not name[3:].isdigit():
        raise Trouble(f"%{name} is no array descriptor %aad0..%aad31", column)
    literal = slot = None
    if parser.take("["):
        kind, index, at = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
        if kind == "reg":
            if not (index.startswith("aasti") and index[5:].isdigit() and int(index[5:]) < 16):
                raise Trouble(f"%{index} is no array index %aasti0..%aasti15", at)
            parser.at += 1
            opce1 |= AAU["ind"].put(int(index[5:]))
            if not parser.peek("]"):
                parser.need("+")
        if not parser.peek("]"):
            literal, slot = _array_literal(parser)
        parser.need("]")
    return Aau(opce1, literal, slot)


def _array_literal(parser: Parser) -> tuple[int, int | None]:
    slot = None
    if parser.take("_f32s") and parser.take(","):
        _, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
        if name not in ("_lts0", "_lts1", "_lts2"):
            raise Trouble(f"no literal slot {name} for an array operand", column)
        slot = int(name[4])
        parser.at += 1
    return constant(parser, "the displacement", -0x8000_0000, 0xFFFF_FFFF) & 0xFFFF_FFFF, slot


def incr(draft: Draft, name: str, column: int, parser: Parser) -> None:
    channel, at, _ = _suffixes(parser)
    if channel not in (2, 5):
        raise Trouble("incr belongs to channel 2 or 5", at or column)
    kind, register_name, where = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    if (
        kind != "reg"
        or not register_name.startswith("aaincr")
        or register_name[6:] not in "01234567"
        or not register_name[6:]
    ):
        raise Trouble(f"expected %aaincr0..%aaincr7, found {parser.describe()}", where)
    parser.at += 1
    conditions = guards(parser) if parser.take("?") else ()
    draft.increments.append((channel, int(register_name[6:]), conditions, column))


def mova(draft: Draft, name: str, column: int, parser: Parser) -> None:
    channel, at, _ = _suffixes(parser)
    if channel is None or channel > 3:
        raise Trouble(f"{name} needs an array channel 0..3", at or column)
    values = fields(parser, {"area": 31, "ind": 31, "am": 1, "be": 1}, trailing=True)
    dst = destination(parser)
    parts = [(channel, values.get("area", 0) << 5 | values.get("ind", 0), dst)]
    if name == "movaq":  # a pair: the next channel reads 8 bytes further into the next register
        if channel & 1:
            raise Trouble("movaq needs array channel 0 or 2", at)
        further = (parts[0][1] + 8) & 0x3FF
        parts.append((channel + 1, further, Operand(dst.kind, dst.value + 1)))
        if values.get("be"):  # big endian: the other way round
            parts = [(channel, further, dst), (channel + 1, parts[0][1], parts[1][2])]
    for number, place, register_ in parts:
        if number in draft.movas:
            raise Trouble(f"two array reads in array channel {number}", at)
        draft.movas[number] = Mova(
            number,
            _MOVA[name],
            place >> 5,
            place & 31,
            bool(values.get("am", 0)),
            bool(values.get("be", 0)),
            register_,
        )


def fapb(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """``fapb ct=1, fmt=4, ..., disp=0``: one half of an instruction of the array prefetch program."""
    values: dict[str, int] = {}
    limits = {f.name: (1 << f.hi - f.lo + 1) - 1 for f in APS} | {"dpl": 1, "disp": 0xFFFF_FFFF}
    while not parser.done:
        values.update(fields(parser, limits))
    if len(draft.halves) == 2:
        raise Trouble("an array prefetch instruction has two halves", column)
    values["ct"] = values.get("ct", 0) | values.pop("dpl", 0)
    displacement = values.pop("disp", 0) & 0xFFFF_FFFF
    word = 0
    for key, value in values.items():
        word |= APS[key].put(value)
    draft.halves.append(word.to_bytes(4, "little") + displacement.to_bytes(4, "little"))
