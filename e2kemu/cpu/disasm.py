"""``insn.Wide`` -> text in the vendor's syntax.

The lines are those of the vendor's objdump, one operation a line, in its order: HS (loop_mode, nop), the
transfer of SS, the rest of SS, ALC operations by channel, CS0, CS1, predicate logic, array reads. The text
is that of binutils 2.35 for instruction sets v1..v6 and of 2.39 for v7; where the two differ, or print less
than the bits say, the comment says "objdump". What objdump leaves out (``ctp_call``, ``abgc``, ``settr``
...) is left out here as well; ``--explain`` and ``Wide`` have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from e2kemu.cpu.bundle import layout
from e2kemu.cpu.decode import decode, decode_apb
from e2kemu.cpu.insn import AluInsn, Apb, Condition, Cs0, Cs1, Fapb, Guard, Kind, Mova, Operand, Stub, Wide
from e2kemu.cpu.isa import formats as f
from e2kemu.cpu.isa.aau import MOVA, NAMES
from e2kemu.cpu.isa.cu import CS0_OPS
from e2kemu.cpu.isa.notation import ROWS, Op
from e2kemu.cpu.isa.plu import CLP_NAMES, ELP_BGRPRED, ELP_LCNTEX, elp_name
from e2kemu.cpu.isa.registers import STATE_REGISTERS
from e2kemu.cpu.isa.table import lookup

APB_BYTES = 16

# --- operands -----------------------------------------------------------------------------------

_PREFIX = {"S": "", "D": "d", "Q": "q", "P": "qp"}
_SPECIAL = {
    Kind.TST: "%tst",
    Kind.TC: "%tc",
    Kind.TCD: "%tcd",
    Kind.EMPTY: "%empty.hi",
    Kind.EMPTY_LO: "%empty.lo",
}
_LITERAL = {Kind.LIT16: "_f16s", Kind.LIT32: "_f32s", Kind.LIT64: "_f64"}


def operand_text(operand: Operand, size: str) -> str:
    """An operand as the assembler writes it; ``size`` is a letter of ``Op.syntax_sizes``."""
    kind = operand.kind
    if kind is Kind.R:
        return f"%{_PREFIX[size]}r{operand.value}"
    if kind is Kind.B:
        return f"%{_PREFIX[size]}b[{operand.value}]"
    if kind is Kind.G:
        return f"%{_PREFIX[size]}g{operand.value}"
    if kind is Kind.IMM:
        return f"{operand.value:#x}"
    if kind in _LITERAL:
        return f"{_LITERAL[kind]} {operand.value:#x}"
    if kind is Kind.CTPR:
        return f"%ctpr{operand.value}"
    return _SPECIAL[kind]


def guard_text(guard: Guard) -> str:
    """``%pred3`` or ``~%pcnt4``."""
    return f"{'~' * guard.negated}%{'pcnt' if guard.is_pcnt else 'pred'}{guard.index}"


def _guarded(text: str, guards: tuple[Guard, ...]) -> str:
    return f"{text} ? {', '.join(map(guard_text, guards))}" if guards else text


_STATE_REGISTER_NAMES = {register.number: register.name for register in STATE_REGISTERS}


def state_register_text(number: int) -> str:
    """The assembler's name of a state register; a number without register is ``%sreg_0xNN``."""
    name = _STATE_REGISTER_NAMES.get(number)
    return f"%{name}" if name else f"%sreg_{number:#04x}"


# --- ALC operations -----------------------------------------------------------------------------

_BOTH_HALVES = frozenset(
    (
        "cudtoap",
        "getsod",
        "ldodrq",
        "ldodwq",
        "ldodpq",
        "movtcq",
        "movtrq",
        "movtrcq",
        "stq",
        "stodrq",
        "stodwq",
        "stodpq",
    )
)
"""Quad operations of which objdump 2.35 prints both channels; of the others it prints the first one."""


def aau_operand(insn: AluInsn) -> str:
    aau = insn.aau
    assert aau is not None
    text = f"%aad{f.AAU['d'].of(aau.opce1)} [ %aasti{f.AAU['ind'].of(aau.opce1)}"
    if aau.literal is not None:
        text += f" + _f32s,_lts{aau.literal_slot} {aau.literal:#x}"
    return text + " ]"


def _aau_insn(insn: AluInsn, version: int) -> tuple[str, list[str]]:
    """Name and operands of an array operation, as objdump has them.

    2.35 reads register writes as stores and prints no operand of register reads; 2.39 reads every
    store and load as an access to a register.
    """
    op, aau = insn.op, insn.aau
    assert aau is not None
    reads = insn.dst is not None
    if version >= 7:
        op = _same_code(insn, version, f.MAS_AAU)
        if op.mas_code is not None:
            register = NAMES.get(aau.opce1, "%unknown_aau_reg")
            value = operand_text(insn.dst or insn.src4 or Operand(Kind.EMPTY), op.sizes)
            return op.name, [register, value] if reads else [value, register]
    elif reads and op.mas_code is not None:
        return op.name, []
    elif op.mas_code is not None:
        op = _same_code(insn, version, 0)
    if reads:
        assert insn.dst is not None
        return op.name, [aau_operand(insn), operand_text(insn.dst, op.sizes)]
    assert insn.src4 is not None
    return op.name, [operand_text(insn.src4, op.sizes), aau_operand(insn)]


def _same_code(insn: AluInsn, version: int, mas: int) -> Op:
    op = insn.op
    return lookup(version, insn.channel, op.cop << 24, (op.opc2 or 0) << 8 | (op.ales_lo or 0), mas) or op


def operands_of(insn: AluInsn) -> list[str]:
    op = insn.op
    sizes = op.syntax_sizes
    found = []
    for slot in op.fmt.slots:
        if slot == "pred":
            found.append(f"%pred{insn.pred}")
        elif slot == "sreg":
            found.append(state_register_text(insn.sreg or 0))
        else:
            if slot == "dst" and insn.imm8 is not None and not _window_base(insn):
                found.append(f"{insn.imm8:#x}")
            operand: Operand = getattr(insn, slot)
            found.append(operand_text(operand, sizes[slot]))
    return found


def _window_base(insn: AluInsn) -> bool:
    """Whether ``imm8`` is the wbs of icalld."""
    return insn.imm8 is not None and not insn.op.imm8


def _alu_lines(insn: AluInsn, wide: Wide) -> Iterator[str]:
    name, stores_aau = insn.op.name, insn.aau is not None
    if stores_aau:
        name, operands = _aau_insn(insn, wide.version)
    else:
        operands = operands_of(insn)
        if wide.version >= 7:  # objdump 2.39
            name = _NAMED_TABLES.get(name, name)
    if _window_base(insn):
        operands.insert(0, f"wbs = {insn.imm8:#x}")
    operands += map(guard_text, insn.merge)
    text = f"{name},{insn.channel}{',sm' * insn.sm} {', '.join(operands)}"
    if insn.mas and (insn.op.mas or stores_aau) and not (stores_aau and (wide.version >= 7 or not operands)):
        text += f", mas = {insn.mas:#x}"
    if name in ("ibranchd", "icalld"):
        text += condition_text(wide.stub.condition) if wide.stub else " ?"  # objdump: "?" without SS
    yield _guarded(text, insn.guards).rstrip()
    if insn.aau is None or wide.version >= 7 or (insn.src4 is None and insn.op.mas_code is not None):
        return
    if f.AAU["am"].of(insn.aau.opce1):
        incr = f"incr,{insn.channel} %aaincr{f.AAU['incr'].of(insn.aau.opce1)}"
        yield _guarded(incr, insn.increment or ())


def _second_half(insn: AluInsn) -> AluInsn:
    """The operation of the second channel of a pair, for printing: the next registers."""
    assert insn.pair_channel is not None
    next_ones: dict[str, Any] = {}
    for slot in insn.op.paired_slots:
        operand: Operand = getattr(insn, slot)
        next_ones[slot] = Operand(operand.kind, operand.value + 1)
    return replace(insn, channel=insn.pair_channel, pair_channel=None, **next_ones)


_NAMED_TABLES = {
    op.alias_of: op.name
    for op in ROWS
    if "plog_" in op.name and op.alias_of and not op.name.rpartition("_")[2].isdigit()
}
"""plog_0x80 -> plog_and and the like."""


def _all_alu_lines(wide: Wide) -> Iterator[str]:
    halves = []
    for insn in wide.alu:
        halves.append(insn)
        if insn.pair_channel is not None and wide.version < 7 and insn.op.name in _BOTH_HALVES:
            halves.append(_second_half(insn))
    for insn in sorted(halves, key=lambda insn: insn.channel):
        yield from _alu_lines(insn, wide)


# --- SS -----------------------------------------------------------------------------------------

_FIXED = {4: "%LOOP_END", 5: "%NOT_LOOP_END"}
_WITH_PREDICATE = {
    2: "%pred{}",
    3: "~%pred{}",
    6: "%pred{} || %LOOP_END",
    7: "~%pred{} && %NOT_LOOP_END",
    14: "~%pred{} || %LOOP_END",
    15: "%pred{} && %NOT_LOOP_END",
}
_COMPARE_CHANNELS = (0, 1, 3, 4)


def _not(flag: int) -> str:
    return "~" if flag else ""


def _local(psrc: int) -> str:
    """The local condition of types 9 and 11: results of this wide instruction."""
    if psrc >> 3 == 0:
        return f"{_not(psrc & 1)}%cmp{_COMPARE_CHANNELS[psrc >> 1 & 3]}"
    if psrc >> 3 == 1:
        first, second = (3, 4) if psrc & 4 else (0, 1)
        return f"{_not(psrc & 2)}%cmp{first} || {_not(psrc & 1)}%cmp{second}"
    return f"{_not(psrc & 1)}%clp{psrc >> 1 & 3}"


def condition_text(condition: Condition) -> str:
    """`` ? ...`` of a transfer, "" when it is unconditional (or never happens)."""
    kind, psrc = condition.type, condition.psrc
    if kind < 2:
        return ""
    if kind in _FIXED:
        return f" ? {_FIXED[kind]}"
    if kind in _WITH_PREDICATE:
        return " ? " + _WITH_PREDICATE[kind].format(psrc)
    if kind == 8:
        deferred = "".join(str(channel) for bit, channel in enumerate(_COMPARE_CHANNELS) if psrc >> bit & 1)
        return " ? %MLOCK" + (f" || %dt_al{deferred}" if deferred else "")
    if kind == 9:
        return f" ? %MLOCK || {_local(psrc)}"
    return " ? <reserved condition type>"  # objdump says so of v7's type 11 as well


def _stub_lines(stub: Stub, wide: Wide) -> Iterator[str]:
    if stub.ctop and not any(op.name == "call" for op in wide.cs1):
        yield f"ct %ctpr{stub.ctop}{condition_text(stub.condition)}"
    if stub.ipd:
        yield f"ipd {stub.ipd}"
    for name in ("eap", "bap"):
        if getattr(stub, name):
            yield name
    if stub.srp or stub.crp:
        yield "slrp" if stub.srp and stub.crp else "srp" if stub.srp else "crp"
    if stub.vfdi:
        yield "vfdi"
    for name, first, second in (
        ("abg", "abgi", "abgd"),
        ("abn", "abnf", "abnt"),
        ("abp", "abpf", "abpt"),
        ("alc", "alcf", "alct"),
    ):
        if getattr(stub, first) or getattr(stub, second):
            yield f"{name} {first}={getattr(stub, first):d}, {second}={getattr(stub, second):d}"


# --- CS0, CS1 -----------------------------------------------------------------------------------

_CS0_KIND = {op.name: op.kind for op in CS0_OPS}


def cs0_line(cs0: Cs0, wide: Wide) -> str:
    condition = condition_text(wide.stub.condition) if wide.stub else ""
    kind = _CS0_KIND[cs0.name]
    target = f"%ctpr{cs0.ctpr}" if cs0.ctpr else ""
    transfers = not target and cs0.name not in ("pref", "puttsd")
    if transfers and (wide.stub is None or wide.stub.condition.type == 0):
        return f"invalid {cs0.name}"
    if kind == "branch":
        address = f"{wide.address + cs0.disp & 0xFFFFFFFFFFFFFFFF:#x}"
        if target:
            return f"{cs0.name} {target}, {address}"
        return f"{cs0.name} {address}" + (condition if cs0.name == "ibranch" else "")
    if kind == "number":
        return f"{cs0.name} {target}, {cs0.param & 0x1F:#x}"
    if kind == "prefetch":
        disp, ipd, ipr = (f.PREF[name].of(cs0.param) for name in ("disp", "ipd", "ipr"))
        return f"pref %ipr{ipr}, disp = {disp:#x}, ipd = {ipd}"
    if kind == "type":
        return f"{cs0.name} {target}" if target else cs0.name + condition
    number = cs0.param >> 1 & 0xF if kind == "hcall" else cs0.param
    call = next((op for op in wide.cs1 if op.name == cs0.name), None)
    window = f", wbs = {call.fields['wbs']:#x}" if call else ""
    return f"{cs0.name} {number:#x}{window}{condition}"


_WAIT_ORDER = ("trap", "ma_c", "fl_c", "ld_c", "st_c", "all_e", "all_c")


def _printed_version(version: int) -> int:
    """objdump 2.35 takes objects of v3, v4, v5 for those of the next version, in what depends on it here."""
    return version + 1 if 3 <= version <= 5 else version


def _cs1_line(op: Cs1, wide: Wide) -> str | None:
    fields = op.fields
    version = _printed_version(wide.version)
    if op.name == "setwd":
        dbl = f", dbl = {fields['dbl']:#x}" if wide.version >= 3 else ""
        return f"setwd wsz = {fields['wsz']:#x}, nfx = {fields['nfx']:#x}{dbl}"
    if op.name == "setei":
        return f"setei {fields['eir']:#x}"
    if op.name in ("setbn", "setbp", "vfrpsz", "vfbg"):
        return f"{op.name} " + ", ".join(f"{name} = {value:#x}" for name, value in fields.items())
    if op.name == "wait":
        names: tuple[str, ...] = _WAIT_ORDER
        if version >= 5:  # objdump: sal and sas only when the barrier they imply is set
            names = ("sal",) * fields["ld_c"] + ("sas",) * fields["st_c"] + names
        return "wait " + ", ".join(f"{name} = {fields[name]}" for name in names)
    if op.name == "call":
        ctpr = wide.stub.ctop if wide.stub else 0
        condition = condition_text(wide.stub.condition) if wide.stub else ""
        return f"call %ctpr{ctpr}, wbs = {fields['wbs']:#x}{condition}"
    if op.name in ("fillr", "fillc"):
        return op.name if version >= 6 else f"unimp {op.name}"
    if op.name in ("mas", "settr", "icall", "hcall"):
        return None  # objdump prints no settr; the calls are printed with CS0, mas with its operation
    return op.name


# --- PLS, AAS -----------------------------------------------------------------------------------


def elp_text(source: int) -> str:
    if ELP_LCNTEX < source < ELP_BGRPRED:
        source &= ~0x20  # objdump prints five of the six bits of %spred
        return elp_name(source) or "" if source else "%spred"
    return elp_name(source) or f"%elp_{source:#04x}"


def _pls_lines(wide: Wide) -> Iterator[str]:
    """Results that nobody uses are not printed, except random predicates, whose reading has an effect."""
    used: set[int] = set()
    live = [False] * len(wide.clps)
    for number in reversed(range(len(wide.clps))):
        clp = wide.clps[number]
        if clp is not None and (clp.dst is not None or 4 + number in used):
            live[number] = True
            used |= {clp.arg0, clp.arg1}
    for number in reversed(range(len(wide.clps))):
        for n in (2 * number, 2 * number + 1):
            elp = wide.elps[n] if n < len(wide.elps) else None
            if elp is not None and (n in used or ELP_BGRPRED < elp.source < 0x50):
                yield f"pass {elp_text(elp.source)}, @p{n}"
        clp = wide.clps[number]
        if clp is not None and live[number]:
            first, second = f"{_not(clp.neg0)}@p{clp.arg0}", f"{_not(clp.neg1)}@p{clp.arg1}"
            yield f"{CLP_NAMES.get(clp.opc, 'reserved')} {first}, {second}, @p{4 + number}"
            if clp.dst is not None:
                yield f"pass @p{4 + number}, %pred{clp.dst}"


def mova_line(mova: Mova) -> str:
    name = MOVA.get(mova.opc, "reserved")
    dst = operand_text(mova.dst, "D" if mova.opc < 5 else "Q")  # objdump: %qr for movaqp
    return (
        f"{name},{mova.channel} area = {mova.area}, ind = {mova.ind}, am = {mova.am:d}, "
        f"be = {mova.be:d}, {dst}"
    )


# --- the whole ------------------------------------------------------------------------------------


def disassemble(wide: Wide) -> list[str]:
    """The lines of one wide instruction; [] for one that does nothing (objdump 2.39, so v7: ``nop``)."""
    lines = []
    if wide.loop_mode:
        lines.append("loop_mode")
    if wide.nop:
        lines.append(f"nop {wide.nop}")
    if wide.stub is not None:
        lines += _stub_lines(wide.stub, wide)
    lines += _all_alu_lines(wide)
    if wide.cs0 is not None:
        lines.append(cs0_line(wide.cs0, wide))
    lines += (line for line in (_cs1_line(op, wide) for op in wide.cs1) if line)
    if wide.clps:
        lines += _pls_lines(wide)
    lines += map(mova_line, wide.movas)
    if not lines and wide.version >= 7 and wide.stub is None and not wide.set_mark:
        lines.append("nop")
    return lines


def _fapb_line(half: Fapb, flag: str) -> str:
    if not half.fmt:
        return f"apb {flag}={half.flag:d}, fmt=0"
    return (
        f"apb {flag}={half.flag:d}, dcd={half.dcd}, fmt={half.fmt}, mrng={half.mrng}, d={half.d}, "
        f"incr={half.incr}, ind={half.ind}, asz={half.asz}, abs={half.abs}, disp={half.disp:#x}"
    )


def disassemble_apb(apb: Apb) -> list[str]:
    """The two lines of an instruction of the array prefetch program."""
    return [_fapb_line(apb.left, "ct"), _fapb_line(apb.right, "dpl")]


def disassemble_at(
    data: bytes | memoryview, version: int, address: int = 0, offset: int = 0
) -> tuple[int, list[str]]:
    """Size and lines of what is at ``offset``: a wide instruction, or else an array prefetch instruction.

    Bytes whose header contradicts itself are read as an array prefetch instruction, as objdump does;
    raises DecodeError when something else is wrong, or when bytes are missing.
    """
    header = int.from_bytes(data[offset : offset + 4], "little")
    if len(data) - offset >= APB_BYTES and layout(header, version).problem:
        return APB_BYTES, disassemble_apb(decode_apb(data, address, offset))
    wide = decode(data, version, address, offset)
    return wide.size, disassemble(wide)
