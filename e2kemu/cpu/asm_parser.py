"""Assembler, one operation: tokens -> a part of a wide instruction under construction.

Syntax (MCST's gas): ``addd,2,sm %dr1, 8, %dr2 ? ~%pred3``; loads ``ldd [ %dr1 + 8 ], %dr2, mas=7`` or
``ldd %dr1, 8, %dr2``; stores with the value first, or last after ``.ignore ld_st_style``; control,
window, predicate and array operations as in the encoding reference. ``Draft`` collects the
operations of one wide instruction; ``asm_wide`` makes an ``insn.Wide`` of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from e2kemu.cpu.asm_expr import Parser, Tree, evaluate
from e2kemu.cpu.asm_lexer import Trouble
from e2kemu.cpu.asm_operands import (
    Immediate,
    condition,
    constant,
    destination,
    elementary,
    guard,
    guards,
    predicate,
    register,
)
from e2kemu.cpu.insn import Aau, Condition, Cs0, Cs1, Guard, Kind, Mova, Operand
from e2kemu.cpu.isa import aau, mmuregs, registers, table
from e2kemu.cpu.isa.cu import CS0_OPS, CS1_OPS
from e2kemu.cpu.isa.formats import AAU, CS1_WAIT, PREF
from e2kemu.cpu.isa.notation import VERSIONS, Op
from e2kemu.cpu.isa.plu import CLP_NAMES

_CS0 = {op.name: op for op in CS0_OPS}
_CS1 = {op.name: op for op in CS1_OPS}
_CLP = {name: code for code, name in CLP_NAMES.items()}
_MOVA = {name: code for code, name in aau.MOVA.items()}
_WIDTH = {"S": 32}
"""Bits of an operand by its size letter where they are not 64."""


@dataclass
class AluDraft:
    """An ALC operation; ``rows`` are the encodings that its operands allow."""

    name: str
    column: int
    rows: list[Op]
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
    stub_kind: str = ""
    cs0: Cs0 | None = None
    target: Tree = None
    cs1: dict[str, dict[str, int]] = field(default_factory=dict)
    elps: dict[int, int] = field(default_factory=dict)
    clps: dict[int, list[Any]] = field(default_factory=dict)      # n -> [opc, arg0, neg0, arg1, neg1]
    clp_dst: dict[int, int] = field(default_factory=dict)
    movas: dict[int, Mova] = field(default_factory=dict)
    increments: list[tuple[int, int, tuple[Guard, ...], int]] = field(default_factory=list)
    halves: list[bytes] = field(default_factory=list)              # fapb
    immediate: Immediate = field(default_factory=Immediate)
    nops: int = 0                                                  # implicit, outside braces
    empty: bool = True


def parse(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """Add the operation ``name`` (its tokens follow in ``parser``) to ``draft``. Raises Trouble."""
    draft.empty = False
    special = _SPECIAL.get(name)
    if special is not None:
        special(draft, name, column, parser)
    else:
        _alu(draft, name, column, parser)
    if not parser.done:
        raise Trouble(f"{name}: unexpected {parser.describe()}", parser.column)


# --- operations of the arithmetic-logic channels ---------------------------------------------------

def _rows(name: str, version: int, column: int) -> list[Op]:
    rows = table.by_name(name)
    if not rows and name.endswith("_lt3"):
        rows = table.by_name(name[:-4])
    if not rows:
        raise Trouble(f"unknown instruction {name}", column)
    found = [op for op in rows if op.channels[version]]
    if not found:
        since = min((v for op in rows for v in VERSIONS if op.channels[v]), default=0)
        if since > version:
            raise Trouble(f"{name} needs instruction set v{since}, this is v{version}", column)
        last = max((v for op in rows for v in VERSIONS if op.channels[v]), default=0)
        raise Trouble(f"{name} ended with instruction set v{last}, this is v{version}", column)
    return found


def _channel(name: str, column: int, wanted: int, rows: list[Op], version: int) -> tuple[int, list[Op]]:
    """The rows that may issue in channel ``wanted``; the upper channel of a pair means the pair."""
    fitting = [op for op in rows if op.in_channel(wanted, version)]
    for op in rows:
        for pair in op.pair.split("/") if op.pair else ():
            if str(wanted) == pair[1] and op.in_channel(int(pair[0]), version):
                return int(pair[0]), [op]
    if not fitting:
        raise Trouble(f"{name} cannot issue in channel {wanted}", column)
    return wanted, fitting


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


def _alu(draft: Draft, name: str, column: int, parser: Parser) -> None:
    rows = _rows(name, draft.version, column)
    channel, at, sm = _suffixes(parser)
    if channel is not None:
        channel, rows = _channel(name, at, channel, rows, draft.version)
    op = rows[0]
    rows = [row for row in rows if row.fmt.slots == op.fmt.slots]
    insn = AluDraft(name, column, rows, channel, sm)
    draft.nops = max(draft.nops, op.nops)
    if name in ("mmurr", "mmurw"):
        _mmu_operands(draft, insn, op, parser)
    elif name == "icalld":
        _icalld(draft, insn, parser)
    else:
        _operands(draft, insn, op, parser)
    if op.mas_code is not None:
        insn.mas = op.mas_code
    if parser.peek(",") and parser.at + 1 < len(parser.toks) and parser.toks[parser.at + 1][1] in ("mas", "~") \
            or parser.peek(",") and parser.at + 1 < len(parser.toks) and parser.toks[parser.at + 1][0] == "reg":
        _tail(insn, op, parser)
    if parser.take("?"):
        if name in ("ibranchd", "icalld"):
            _set_condition(draft, name, condition(parser), parser.column)
        else:
            insn.guards = guards(parser)
    elif name in ("ibranchd", "icalld"):
        _set_condition(draft, name, Condition(1), parser.column)
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
            if not _merges(op):
                raise Trouble(f"{insn.name} has no more operands", at)
            insn.merge = (*insn.merge, guard(parser))


def _merges(op: Op) -> bool:
    return op.family == "merge" or op.name.startswith(("merge", "pmrgp", "qpmrgp")) or "merge" in op.note


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
    if slot == "src3" and not is_register and draft.version >= 7:
        operand = draft.immediate.operand(parser, 32, 0)
        return Operand(Kind.LIT32, operand.value & 0xFFFF_FFFF if operand.kind is not Kind.LIT16
                       else (operand.value ^ 0x8000) - 0x8000 & 0xFFFF_FFFF, operand.code)
    return register(parser, {"src1": "first operand", "src2": "second operand", "src3": "third operand",
                             "src4": "the value to store"}[slot])


def _state_register(parser: Parser, version: int) -> int:
    kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    if kind != "reg" or name not in registers.BY_NAME:
        raise Trouble(f"expected a state register, found {parser.describe()}", column)
    found = registers.BY_NAME[name]
    if not found.since <= version <= found.until:
        raise Trouble(f"state register %{name} needs instruction set v{found.since}, this is v{version}"
                      if version < found.since else f"state register %{name} ended with v{found.until}", column)
    parser.at += 1
    return found.number


def _address(draft: Draft, insn: AluDraft, op: Op, parser: Parser) -> None:
    """``[ reg ]``, ``[ reg + reg ]``, ``[ reg + expr ]``, ``[ reg - expr ]``, ``[ expr + reg ]``, ``[ expr ]``."""
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
    insn.rows = [row for row in table.by_name(op.alias_of) if row.channels[draft.version]]


def _icalld(draft: Draft, insn: AluDraft, parser: Parser) -> None:
    parser.need("wbs")
    parser.need("=")
    insn.operands["src1"] = Operand(Kind.B, constant(parser, "wbs", 0, 0x7F))   # the byte is the number itself
    parser.need(",")
    insn.operands["src2"] = _operand(draft, insn, insn.rows[0], "src2", parser)
    parser.need(",")
    insn.operands["dst"] = destination(parser)


# --- array operations ------------------------------------------------------------------------------

def _array_operands(draft: Draft, insn: AluDraft, op: Op, parser: Parser) -> None:
    """``staad,2 %dr1, %aad3 [ %aasti1 + 8 ]``, ``ldaad,2 %aad3 [ %aasti1 ], %dr1``, ``aaurwd %dr1, %aad3``."""
    value = None
    if op.fmt.name == "ALOPF10":
        value = register(parser, "the value to store")
        parser.need(",")
    kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    opce1 = aau.REGISTERS.get(f"%{name}") if kind == "reg" else None
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


def _incr(draft: Draft, name: str, column: int, parser: Parser) -> None:
    channel, at, _ = _suffixes(parser)
    if channel not in (2, 5):
        raise Trouble("incr belongs to channel 2 or 5", at or column)
    kind, register_name, where = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    if kind != "reg" or not register_name.startswith("aaincr") or register_name[6:] not in "01234567" \
            or not register_name[6:]:
        raise Trouble(f"expected %aaincr0..%aaincr7, found {parser.describe()}", where)
    parser.at += 1
    conditions = guards(parser) if parser.take("?") else ()
    draft.increments.append((channel, int(register_name[6:]), conditions, column))


def _mova(draft: Draft, name: str, column: int, parser: Parser) -> None:
    channel, at, _ = _suffixes(parser)
    if channel is None or channel > 3:
        raise Trouble(f"{name} needs an array channel 0..3", at or column)
    values = _fields(parser, {"area": 31, "ind": 31, "am": 1, "be": 1}, trailing=True)
    dst = destination(parser)
    parts = [(channel, values.get("area", 0) << 5 | values.get("ind", 0), dst)]
    if name == "movaq":                # a pair: the next channel reads 8 bytes further into the next register
        if channel & 1:
            raise Trouble("movaq needs array channel 0 or 2", at)
        further = (parts[0][1] + 8) & 0x3FF
        parts.append((channel + 1, further, Operand(dst.kind, dst.value + 1)))
        if values.get("be"):           # big endian: the other way round
            parts = [(channel, further, dst), (channel + 1, parts[0][1], parts[1][2])]
    for number, place, register_ in parts:
        if number in draft.movas:
            raise Trouble(f"two array reads in array channel {number}", at)
        draft.movas[number] = Mova(number, _MOVA[name], place >> 5, place & 31, bool(values.get("am", 0)),
                                   bool(values.get("be", 0)), register_)


def _fapb(draft: Draft, name: str, column: int, parser: Parser) -> None:
    values: dict[str, int] = {}
    limits = {"ct": 1, "dpl": 1, "si": 1, "dcd": 3, "fmt": 7, "mrng": 31, "d": 31, "incr": 7, "ind": 15, "asz": 7,
              "abs": 31, "disp": 0xFFFF_FFFF}
    while not parser.done:
        values.update(_fields(parser, limits))
    if len(draft.halves) == 2:
        raise Trouble("an array prefetch instruction has two halves", column)
    word = values.get("ct", 0) << 31 | values.get("dpl", 0) << 31
    for key, low in (("si", 30), ("dcd", 28), ("fmt", 25), ("mrng", 20), ("d", 15), ("incr", 12), ("ind", 8),
                     ("asz", 5), ("abs", 0)):
        word |= values.get(key, 0) << low
    draft.halves.append(word.to_bytes(4, "little") + (values.get("disp", 0) & 0xFFFF_FFFF).to_bytes(4, "little"))


# --- control ---------------------------------------------------------------------------------------

def _fields(parser: Parser, limits: dict[str, int], trailing: bool = False) -> dict[str, int]:
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


def _set_stub(draft: Draft, kind: str, column: int, **values: Any) -> None:
    """Set fields of SS; ``kind`` is "1" or "2" where only that format has them."""
    if kind and draft.stub_kind and draft.stub_kind != kind:
        raise Trouble("these operations need two formats of SS", column)
    draft.stub_kind = draft.stub_kind or kind
    for name, value in values.items():
        if name in draft.stub:
            raise Trouble(f"{name} is set twice", column)
        draft.stub[name] = value


def _set_condition(draft: Draft, name: str, wanted: Condition, column: int) -> None:
    if "condition" in draft.stub:
        raise Trouble(f"{name}: only one control transfer in a wide instruction", column)
    _set_stub(draft, "", column, condition=wanted)


def _ctpr(parser: Parser, allowed: tuple[int, ...] = (1, 2, 3)) -> int:
    kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    if kind != "reg" or name not in [f"ctpr{n}" for n in allowed]:
        raise Trouble(f"expected {' or '.join(f'%ctpr{n}' for n in allowed)}, found {parser.describe()}", column)
    parser.at += 1
    return int(name[4])


def _transfer(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """``ct %ctprN``, ``call %ctprN, wbs=N``, both with an optional condition."""
    number = _ctpr(parser)
    if name == "call":
        parser.need(",")
        _add_cs1(draft, "call", column, _fields(parser, {"wbs": 0x7F}))
    wanted = condition(parser) if parser.take("?") else Condition(1)
    _set_condition(draft, name, wanted, column)
    _set_stub(draft, "", column, ctop=number)


def _cs0(draft: Draft, name: str, column: int, parser: Parser) -> None:
    op = _CS0["ibranch" if name == "rbranch" else name]
    if draft.cs0 is not None:
        raise Trouble(f"{name}: {draft.cs0.name} is in this wide instruction already", column)
    if op.since > draft.version:
        raise Trouble(f"{name} needs instruction set v{op.since}, this is v{draft.version}", column)
    number = 0
    if op.ctprs != (0,):
        number = _ctpr(parser, op.ctprs)
    if op.kind == "branch":
        if number:
            parser.need(",")
        draft.cs0 = _branch(draft, name, number, parser, op.name)
    elif op.kind == "number":
        parser.need(",")
        draft.cs0 = Cs0(op.name, number, 0, constant(parser, "the entry number", 0, 31))
    elif op.kind == "prefetch":
        draft.cs0 = _pref(parser)
    elif op.kind in ("raw", "hcall"):
        value = constant(parser, "the number", 0, 0xFFF_FFFF if op.kind == "raw" else 15)
        draft.cs0 = Cs0(op.name, 0, 0, value << (op.kind == "hcall"))
        parser.need(",")
        _add_cs1(draft, name, column, _fields(parser, {"wbs": 0x7F}))
    else:
        draft.cs0 = Cs0(op.name, number, 0, op.type or 0)
    if op.ctprs == (0,) and op.kind != "prefetch" and name != "puttsd":
        rbranch = name == "rbranch"
        if parser.take("?"):
            wanted = condition(parser, rbranch)
        else:
            wanted = Condition(8) if rbranch else Condition(1)
        _set_condition(draft, name, wanted, column)


def _branch(draft: Draft, name: str, number: int, parser: Parser, op_name: str) -> Cs0:
    """A symbol is a target, a number the raw field."""
    column = parser.column
    tree = parser.expression()
    value = evaluate(tree)
    if value is not None and value.base is None:
        raw = value.offset & 0xFFF_FFFF
        return Cs0(op_name, number, (raw - (raw >> 27 << 28)) * 8, raw)
    draft.target = (tree, column)
    return Cs0(op_name, number)


def _pref(parser: Parser) -> Cs0:
    kind, name, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    if kind != "reg" or not name.startswith("ipr") or name[3:] not in "01234567" or not name[3:]:
        raise Trouble(f"expected %ipr0..%ipr7, found {parser.describe()}", column)
    parser.at += 1
    parser.need(",")
    values = _fields(parser, {"disp": 0xFF_FFFF, "ipd": 1})
    word = PREF["ipr"].put(int(name[3:])) | PREF["ipd"].put(values.get("ipd", 0))
    return Cs0("pref", 0, 0, word | PREF["disp"].put(values.get("disp", 0) & 0xFF_FFFF))


def _add_cs1(draft: Draft, name: str, column: int, values: dict[str, int]) -> None:
    op = _CS1[name]
    if op.since > draft.version:
        raise Trouble(f"{name} needs instruction set v{op.since}, this is v{draft.version}", column)
    if name in draft.cs1:
        raise Trouble(f"{name} is in this wide instruction already", column)
    draft.cs1[name] = values


_CS1_LIMITS = {"wsz": 127, "nfx": 1, "dbl": 1, "mcn": 1, "rbs": 63, "rsz": 63, "rcur": 63, "psz": 31, "rpsz": 32,
               "type": 0x7FFF, "umask": 0xFF, "dmask": 0xFF, "chkm4": 1}


def _cs1(draft: Draft, name: str, column: int, parser: Parser) -> None:
    fields = _CS1[name].fields
    if name == "setei":
        values = {"eir": constant(parser, "the event number", 0, 0xFF)}
    elif name == "wait":
        values = _fields(parser, dict.fromkeys((f.name for f in CS1_WAIT), 1))
        if values.get("sas") or values.get("las"):
            values["st_c"] = 1
        if values.get("sal") or values.get("lal"):
            values["ld_c"] = 1
        since = {"sas": 5, "sal": 5, "las": 6, "lal": 6, "mt": 6, "int": 6, "mem_mod": 6}
        for key in values:
            if values[key] and since.get(key, 1) > draft.version:
                raise Trouble(f"wait {key} needs instruction set v{since[key]}, this is v{draft.version}", column)
    elif fields:
        values = _fields(parser, {f: _CS1_LIMITS[f] for f in fields})
        if name == "vfrpsz":           # gas stores one less than it is told
            if not 1 <= values["rpsz"] <= 32:
                raise Trouble(f"rpsz {values['rpsz']} is not in 1..32", column)
            values["rpsz"] -= 1
    else:
        values = {}
    _add_cs1(draft, name, column, values)


def _nop(draft: Draft, name: str, column: int, parser: Parser) -> None:
    if draft.nop:
        raise Trouble("nop is given twice", column)
    draft.nop = 1 if parser.done else constant(parser, "nop", 0, 7)


def _header_bit(draft: Draft, name: str, column: int, parser: Parser) -> None:
    setattr(draft, name, True)


def _ipd(draft: Draft, name: str, column: int, parser: Parser) -> None:
    if draft.ipd is not None:
        raise Trouble("ipd is given twice", column)
    draft.ipd = constant(parser, "ipd", 0, 3)


def _stub_bit(draft: Draft, name: str, column: int, parser: Parser) -> None:
    _set_stub(draft, "1", column, **{name: True})


def _advance(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """``abn abnf=1, abnt=1``, ``abp``, ``alc``: rotation and counters."""
    stem = "alc" if name == "alc" else name
    values = _fields(parser, {f"{stem}f": 1, f"{stem}t": 1})
    _set_stub(draft, "1", column, **{key: bool(value) for key, value in values.items()})


def _recovery(draft: Draft, name: str, column: int, parser: Parser) -> None:
    if "crp" in draft.stub or "srp" in draft.stub:
        raise Trouble(f"{name}: a recovery point operation is there already", column)
    if name == "slrp" and draft.version < 3:
        raise Trouble(f"slrp needs instruction set v3, this is v{draft.version}", column)
    _set_stub(draft, "", column, crp=name != "srp", srp=name != "crp")
    if parser.take("?"):
        draft.stub["rpc"] = guard(parser)


def _types(draft: Draft, name: str, column: int, parser: Parser) -> None:
    opc = 2 if name == "invts" else 3
    wanted = Condition(0)
    if name == "invts" and parser.take("?"):
        opc = 7 if parser.take("~") else 6
        wanted = Condition(0, predicate(parser))
    if name == "flushts" and draft.version < 3:
        raise Trouble(f"flushts needs instruction set v3, this is v{draft.version}", column)
    _set_stub(draft, "2", column, ts_opc=opc)
    if wanted.psrc:
        _set_condition(draft, name, wanted, column)


def _abg(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """``abg N`` (v1..v5: bit 0 decrements, bit 1 increments), ``abgc N`` and ``rbgc`` (v6 and later)."""
    if name == "abg":
        value = constant(parser, "abg", 0, 3)
        _set_stub(draft, "1", column, abgi=bool(value & 2), abgd=bool(value & 1))
        return
    if draft.version < 6:
        raise Trouble(f"{name} needs instruction set v6, this is v{draft.version}", column)
    number = constant(parser, "abgc", 1, 7) if name == "abgc" else 0
    kind, wanted = 1, Condition(0)
    if parser.take("?"):
        kind = 3 if parser.take("~") else 2
        wanted = Condition(0, predicate(parser))
        _set_condition(draft, name, wanted, column)
    _set_stub(draft, "2", column, abgc=number, abgc_condition=kind)


def _ctp_call(draft: Draft, name: str, column: int, parser: Parser) -> None:
    if draft.version < 7:
        raise Trouble(f"ctp_call needs instruction set v7, this is v{draft.version}", column)
    _set_stub(draft, "2", column, ctp_call=True)


# --- predicate logic -------------------------------------------------------------------------------

def _at(parser: Parser, low: int, high: int) -> int:
    kind, value, column = parser.toks[parser.at] if not parser.done else ("", "", parser.column)
    if kind != "at" or not low <= value <= high:
        raise Trouble(f"expected @p{low}..@p{high}, found {parser.describe()}", column)
    parser.at += 1
    return int(value)


def _pass(draft: Draft, name: str, column: int, parser: Parser) -> None:
    """``pass %pred0, @p0`` and ``pass @p4, %pred3``."""
    if not parser.done and parser.toks[parser.at][0] == "at":
        result = _at(parser, 4, 6) - 4
        parser.need(",")
        if result in draft.clp_dst:
            raise Trouble(f"@p{result + 4} is written twice", column)
        draft.clp_dst[result] = predicate(parser)
        return
    source = elementary(parser)
    parser.need(",")
    at = parser.column
    number = _at(parser, 0, 3)
    if number in draft.elps:
        raise Trouble(f"@p{number} is set twice", at)
    draft.elps[number] = source


def _clp(draft: Draft, name: str, column: int, parser: Parser) -> None:
    neg0 = parser.take("~")
    arg0 = _at(parser, 0, 6)
    parser.need(",")
    neg1 = parser.take("~")
    arg1 = _at(parser, 0, 6)
    parser.need(",")
    at = parser.column
    result = _at(parser, 4, 6) - 4
    if result in draft.clps:
        raise Trouble(f"@p{result + 4} is computed twice", at)
    draft.clps[result] = [_CLP[name], arg0, neg0, arg1, neg1]


_SPECIAL: dict[str, Callable[[Draft, str, int, Parser], None]] = {
    "ct": _transfer, "call": _transfer, "rbranch": _cs0, "nop": _nop, "loop_mode": _header_bit, "set_mark": _header_bit,
    "ipd": _ipd, "eap": _stub_bit, "bap": _stub_bit, "vfdi": _stub_bit, "abn": _advance, "abp": _advance,
    "alc": _advance, "crp": _recovery, "srp": _recovery, "slrp": _recovery, "invts": _types, "flushts": _types,
    "abg": _abg, "abgc": _abg, "rbgc": _abg, "ctp_call": _ctp_call, "pass": _pass, "incr": _incr, "fapb": _fapb,
    **dict.fromkeys(_CS0, _cs0), **dict.fromkeys(_CLP, _clp), **dict.fromkeys(_MOVA, _mova),
    **dict.fromkeys((name for name in _CS1 if name not in ("call", "icall", "hcall", "mas")), _cs1),
}

MNEMONICS = frozenset(_SPECIAL)
"""Every operation that is not one of an arithmetic-logic channel."""
