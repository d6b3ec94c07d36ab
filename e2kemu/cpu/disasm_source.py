"""Wide instructions -> source that the assembler takes back: ``e2kemu-dis --source``.

The vendor's text (``disasm``) does not say everything: it hides what is not used, prints both halves of some
quad operations, targets as numbers that its assembler reads as fields. Here everything is said, so that
assembling the text gives the wide instruction again: the same operations, operands and conditions in the same
channels. Only what has no effect may differ, because assembling chooses it anew: the places of literals and of
conditions, unused words (docs/isa-tools.md has the rules). ``same_meaning`` is the proof, and ``source_at``
checks it for every text it gives; what has no syntax at all (reserved codes) becomes ``.word``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from struct import unpack_from

from e2kemu.cpu.asm import assemble
from e2kemu.cpu.bundle import DecodeError, layout
from e2kemu.cpu.decode import decode, decode_apb
from e2kemu.cpu.disasm import (
    APB_BYTES,
    aau_operand,
    condition_text,
    cs0_line,
    elp_text,
    guard_text,
    mova_line,
    operand_text,
    operands_of,
)
from e2kemu.cpu.insn import Aau, AluInsn, Clp, Condition, Cs1, Elp, Fapb, Guard, Kind, Operand, Stub, Wide
from e2kemu.cpu.isa import formats as f
from e2kemu.cpu.isa.aau import NAMES
from e2kemu.cpu.isa.cu import CS0_OPS
from e2kemu.cpu.isa.notation import VERSIONS
from e2kemu.cpu.isa.plu import CLP_NAMES
from e2kemu.errors import E2kError

STYLE = ".ignore ld_st_style"
"""What a source of these texts begins with: the value of a store comes last."""

# --- equal but for what has no effect ---------------------------------------------------------------

_LITERALS = (Kind.LIT16, Kind.LIT32, Kind.LIT64)
_NO_CLP = Clp(0, 0, False, 0, False, None)


def _bare(operand: Operand | None) -> Operand | None:
    return replace(operand, code=None) if operand is not None and operand.kind in _LITERALS else operand


def _bare_aau(aau: Aau | None) -> Aau | None:
    if aau is None or aau.literal is None:
        return aau
    return Aau(aau.opce1 & ~f.AAU["lt"].mask, aau.literal)


def _sorted(guards: tuple[Guard, ...]) -> tuple[Guard, ...]:
    return tuple(sorted(guards, key=lambda guard: (guard.is_pcnt, guard.index, guard.negated)))


def essence(wide: Wide) -> Wide:
    """``wide`` without what has no effect: where literals and conditions lie, trailing empty logic, the size."""
    alu = tuple(
        replace(
            insn,
            src1=_bare(insn.src1),
            src2=_bare(insn.src2),
            src3=_bare(insn.src3),
            aau=_bare_aau(insn.aau),
            guards=_sorted(insn.guards),
            merge=_sorted(insn.merge),
            increment=None if insn.increment is None else _sorted(insn.increment),
        )
        for insn in wide.alu
    )
    clps, elps = list(wide.clps), [elp or Elp(0) for elp in wide.elps]
    while clps and clps[-1] in (None, _NO_CLP):
        clps.pop()
    while elps and elps[-1] == Elp(0):
        elps.pop()
    return replace(wide, size=0, alu=alu, clps=tuple(clps), elps=tuple(elps))


def same_meaning(first: Wide, second: Wide) -> bool:
    """Whether the two do the same at the same address."""
    return essence(first) == essence(second)


# --- text -------------------------------------------------------------------------------------------


def _with_guards(text: str, guards: tuple[Guard, ...]) -> str:
    return f"{text} ? {', '.join(map(guard_text, guards))}" if guards else text


def _takes_mas(insn: AluInsn) -> bool:
    return bool(insn.op.mas or insn.op.load or insn.op.store)


def _stray_mas(wide: Wide) -> dict[str, int]:
    """Memory access specifiers of channels that do not access memory."""
    stray = {name: value for op in wide.cs1 if op.name == "mas" for name, value in op.fields.items()}
    for insn in wide.alu:
        if insn.mas and not _takes_mas(insn) and insn.op.mas_code is None:
            stray[f"alc{insn.channel}"] = insn.mas
    return stray


def _alu_lines(insn: AluInsn, wide: Wide) -> Iterator[str]:
    op, aau = insn.op, insn.aau
    if aau is not None:
        value = insn.dst or insn.src4 or Operand(Kind.EMPTY)
        array = aau_operand(insn) if op.mas_code is None else NAMES.get(aau.opce1, f"%aareg_{aau.opce1:#06x}")
        operands = [array, operand_text(value, op.sizes)]
        if insn.dst is None:
            operands.reverse()
    else:
        operands = operands_of(insn)
        if insn.imm8 is not None and not op.imm8:
            operands.insert(0, f"wbs = {insn.imm8:#x}")
    operands += map(guard_text, insn.merge)
    text = f"{op.name},{insn.channel}{',sm' * insn.sm} {', '.join(operands)}"
    if insn.mas and op.mas_code is None and _takes_mas(insn):
        text += f", mas = {insn.mas:#x}"
    if op.name in ("ibranchd", "icalld"):
        yield text + (condition_text(wide.stub.condition) if wide.stub else "")
    else:
        yield _with_guards(text, insn.guards)
    if aau is not None and op.mas_code is None and f.AAU["am"].of(aau.opce1):
        yield _with_guards(f"incr,{insn.channel} %aaincr{f.AAU['incr'].of(aau.opce1)}", insn.increment or ())


def _stub_lines(stub: Stub, wide: Wide) -> Iterator[str]:
    yield f"ipd {stub.ipd}"
    if stub.ctop and not any(op.name == "call" for op in wide.cs1):
        yield f"ct %ctpr{stub.ctop}{condition_text(stub.condition)}"
    if stub.srp or stub.crp:
        name = "slrp" if stub.srp and stub.crp else "srp" if stub.srp else "crp"
        yield _with_guards(name, () if stub.rpc is None else (stub.rpc,))
    if stub.sf2:
        yield from _second_format(stub)
        return
    yield from (name for name in ("eap", "bap", "vfdi") if getattr(stub, name))
    if stub.abgi or stub.abgd:
        yield f"abg {2 * stub.abgi + stub.abgd}"
    for name in ("abn", "abp", "alc"):
        false, true = getattr(stub, f"{name}f"), getattr(stub, f"{name}t")
        if false or true:
            yield f"{name} {name}f = {false:d}, {name}t = {true:d}"


def _second_format(stub: Stub) -> Iterator[str]:
    negated, predicate = "~" * (stub.ts_opc & 1), stub.condition.psrc
    if stub.ts_opc:
        plain = {2: "invts", 3: "flushts"}.get(stub.ts_opc)
        yield plain or f"invts ? {negated}%pred{predicate}"
    if stub.ctp_call:
        yield "ctp_call"
    if stub.abgc_condition:
        name = f"abgc {stub.abgc}" if stub.abgc else "rbgc"
        yield name + {1: "", 2: f" ? %pred{predicate}", 3: f" ? ~%pred{predicate}"}[stub.abgc_condition]


_BRANCHES = frozenset(op.name for op in CS0_OPS if op.kind == "branch")


def _cs0_text(wide: Wide) -> str:
    cs0 = wide.cs0
    assert cs0 is not None
    if cs0.name not in _BRANCHES:
        return cs0_line(cs0, wide)
    target = f". {'-' if cs0.disp < 0 else '+'} {abs(cs0.disp):#x}"
    if cs0.ctpr:
        return f"{cs0.name} %ctpr{cs0.ctpr}, {target}"
    condition = condition_text(wide.stub.condition) if wide.stub and cs0.name == "ibranch" else ""
    return f"{cs0.name} {target}{condition}"


def _cs1_text(op: Cs1, wide: Wide) -> str:
    fields = dict(op.fields)
    if op.name == "call":
        stub = wide.stub or Stub()
        return f"call %ctpr{stub.ctop}, wbs = {fields['wbs']:#x}{condition_text(stub.condition)}"
    if op.name == "setei":
        return f"setei {fields['eir']:#x}"
    if op.name == "vfrpsz":
        fields["rpsz"] += 1  # as the vendor's assembler counts
    elif op.name == "wait":
        fields = {name: value for name, value in fields.items() if value} or {"all_c": 0}
    elif op.name == "setwd" and not fields["mcn"]:
        del fields["mcn"]
    return f"{op.name} {', '.join(f'{name} = {value:#x}' for name, value in fields.items())}".rstrip()


def _pls_lines(wide: Wide) -> Iterator[str]:
    for number, elp in enumerate(wide.elps):
        if elp is not None and elp.source:
            yield f"pass {elp_text(elp.source)}, @p{number}"
    for number, clp in enumerate(wide.clps):
        if clp is None or clp == _NO_CLP:
            continue
        first, second = ("~" * neg + f"@p{arg}" for neg, arg in ((clp.neg0, clp.arg0), (clp.neg1, clp.arg1)))
        yield f"{CLP_NAMES.get(clp.opc, 'reserved')} {first}, {second}, @p{4 + number}"
        if clp.dst is not None:
            yield f"pass @p{4 + number}, %pred{clp.dst}"


def source_lines(wide: Wide, numeric: bool = False) -> list[str]:
    """The statements of ``wide`` between braces; targets are relative to it (``. + 0x10``).

    ``numeric``: the condition of SS as numbers, for one that no transfer uses or that has no name.
    """
    if numeric and wide.stub is not None:
        condition = wide.stub.condition
        plain = replace(wide, stub=replace(wide.stub, condition=Condition(1)))
        return [*source_lines(plain), f"ctcond {condition.type}, {condition.psrc:#x}"]
    lines = ["loop_mode"] * wide.loop_mode + ["set_mark"] * wide.set_mark
    if wide.nop:
        lines.append(f"nop {wide.nop}")
    if wide.stub is not None:
        lines += _stub_lines(wide.stub, wide)
    for insn in wide.alu:
        lines += _alu_lines(insn, wide)
    if wide.cs0 is not None:
        lines.append(_cs0_text(wide))
    lines += (_cs1_text(op, wide) for op in wide.cs1 if op.name not in ("icall", "hcall", "mas"))
    if stray := _stray_mas(wide):
        lines.append("mas " + ", ".join(f"{name} = {value:#x}" for name, value in stray.items()))
    lines += _pls_lines(wide)
    skipped = -1
    for mova in wide.movas:
        if mova.channel != skipped:
            lines.append(mova_line(mova))
        if mova.opc == 5 and not mova.channel & 1:
            skipped = mova.channel + 1  # movaq in the source is the pair
    return lines


def _fapb(half: Fapb, flag: str) -> str:
    names = ("dcd", "fmt", "mrng", "d", "incr", "ind", "asz", "abs")
    numbers = ", ".join(f"{name} = {getattr(half, name)}" for name in names)
    return f"fapb {flag} = {half.flag:d}, si = {half.si:d}, {numbers}, disp = {half.disp:#x}"


def source_at(
    data: bytes, version: int, address: int = 0, offset: int = 0, *, exact: bool = False
) -> tuple[int, list[str]]:
    """Size and source lines of what is at ``offset``, braces and directives included.

    Always gives lines that the assembler takes (after STYLE) and that mean the same at ``address``; with
    ``exact`` lines that give the same bytes. ``.word`` when there are no others. Raises DecodeError when a wide
    instruction is not complete there.
    """
    header = int.from_bytes(data[offset : offset + 4], "little")
    place = layout(header, version)
    if place.problem and len(data) - offset >= APB_BYTES:
        apb = decode_apb(data, address, offset)
        return APB_BYTES, ["{", _fapb(apb.left, "ct"), _fapb(apb.right, "dpl"), "}"]
    try:
        wide = decode(data, version, address, offset)
    except DecodeError:
        size = 4 * place.words
        if place.problem or len(data) - offset < size:
            raise
        return size, [_words(data, offset, size)]
    wanted = bytes(data[offset : offset + wide.size]) if exact else None
    bodies = [["{", *source_lines(wide, numeric), "}"] for numeric in (False, True)[: 1 + (wide.stub is not None)]]
    for newer in range(version, VERSIONS[-1] + 1):
        for body in bodies:
            lines = body if newer == version else [f".push_iset {newer}", *body, ".pop_iset"]
            if _reads_back(lines, wide, wanted):
                return wide.size, lines
    return wide.size, [*(f"! {line}" for line in bodies[0][1:-1]), _words(data, offset, wide.size)]


def source(data: bytes, version: int, address: int = 0) -> Iterator[str]:
    """The source of a piece of code; assembled at ``address`` it gives the same bytes."""
    offset = 0
    while offset < len(data):
        try:
            size, lines = source_at(data, version, address + offset, offset, exact=True)
        except DecodeError:
            size = min(8, len(data) - offset)
            lines = [".byte " + ", ".join(f"{byte:#04x}" for byte in data[offset : offset + size])]
        yield from lines
        offset += size


def _words(data: bytes, offset: int, size: int) -> str:
    return ".word " + ", ".join(f"{word:#010x}" for word in unpack_from(f"<{size // 4}I", data, offset))


def _reads_back(lines: list[str], wide: Wide, wanted: bytes | None) -> bool:
    try:
        again = assemble("\n".join([STYLE, *lines, ""]), version=wide.version, base=wide.address).data
        if wanted is not None:
            return again == wanted
        return same_meaning(decode(again, wide.version, wide.address), wide)
    except E2kError:
        return False
